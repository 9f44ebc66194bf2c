#include "relational/decode.h"
#include "relational/sum.h"

namespace jaxdirect::relational {

struct SumAttrs {
  int64_t first_column;
  int64_t columns;
  int64_t heads;
  int64_t first_row;
  int64_t num_rows;
  int64_t num_partials;
};

struct DotAttrs {
  int64_t heads;
};

namespace {

ffi::Error handle_sum(NativeContext context, ffi::AnyBuffer values, ffi::AnyBuffer indptr,
                      ffi::AnyBuffer indices, ffi::AnyBuffer items, ffi::AnyBuffer heavy,
                      ffi::AnyBuffer weights, ffi::AnyBuffer weight_rows,
                      ffi::Result<ffi::AnyBuffer> out, ffi::Result<ffi::AnyBuffer> partials,
                      SumAttrs attrs) {
  Decoder decoder("aggregate");
  SumArgs args;
  args.type = decoder.float_type("values", values);
  decoder.require(values.dimensions().size() == 2, "values", "[num_values, width]");
  decoder.require(out->dimensions().size() == 2, "the result", "[num_rows, columns]");
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  args.num_values = decoder.rows(values);
  args.width = decoder.columns(values);
  args.columns = decoder.columns(*out);
  args.first_column = attrs.first_column;
  args.heads = attrs.heads;
  decoder.require(args.first_column >= 0 && args.first_column <= args.width - args.columns,
                  "first_column", "in [0, width - columns]");
  decoder.require(args.heads >= 1 && args.columns % args.heads == 0, "heads",
                  "a divisor of columns");
  args.lists = decoder.lists(indptr, indices, items, heavy, attrs.num_partials);
  args.values = values.untyped_data();
  if (weights.element_count() > 0) {
    args.num_weights = decoder.rows(weights);
    args.weights = decoder.float32s("weights", weights, -1, args.heads);
  }
  if (weight_rows.element_count() > 0) {
    args.weight_rows = decoder.ints("weight_rows", weight_rows, args.lists.num_entries);
  }
  args.first_row = attrs.first_row;
  args.num_out = attrs.num_rows;
  decoder.require(args.first_row >= 0 && args.num_out >= 0 &&
                      args.first_row <= args.lists.num_rows - args.num_out,
                  "first_row", "in [0, rows of the lists - num_rows]");
  args.out = const_cast<void*>(decoder.floats("the result", *out, args.num_out, args.columns));
#ifdef JAXDIRECT_CUDA_MODULE
  args.partials = decoder.float32s("partials", *partials, args.lists.num_partials, args.columns);
#else
  (void)partials;
#endif
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(sum(to_context(context), args));
}

ffi::Error handle_dot(NativeContext context, ffi::AnyBuffer a, ffi::AnyBuffer b,
                      ffi::AnyBuffer indptr, ffi::AnyBuffer indices, ffi::AnyBuffer items,
                      ffi::AnyBuffer heavy, ffi::AnyBuffer weight_rows,
                      ffi::Result<ffi::AnyBuffer> out, DotAttrs attrs) {
  Decoder decoder("aggregate gradient");
  DotArgs args;
  args.type = decoder.float_type("a", a);
  decoder.require(a.dimensions().size() == 2, "a", "[num_rows, columns]");
  args.columns = decoder.columns(a);
  args.num_b = decoder.rows(b);
  args.heads = attrs.heads;
  decoder.require(args.heads >= 1 && args.columns % args.heads == 0, "heads",
                  "a divisor of columns");
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  const int64_t num_entries = decoder.rows(indices);
  args.lists = decoder.lists(indptr, indices, items, heavy, num_entries);
  args.a = decoder.floats("a", a, args.lists.num_rows, args.columns);
  args.b = decoder.floats("b", b, -1, args.columns);
  if (weight_rows.element_count() > 0) {
    args.weight_rows = decoder.ints("weight_rows", weight_rows, num_entries);
  }
  args.out = decoder.float32s("the result", *out, num_entries, args.heads);
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(dot(to_context(context), args));
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_sum, handle_sum,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // values
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // indices
                                  .Arg<ffi::AnyBuffer>()  // items
                                  .Arg<ffi::AnyBuffer>()  // heavy
                                  .Arg<ffi::AnyBuffer>()  // weights
                                  .Arg<ffi::AnyBuffer>()  // weight_rows
                                  .Ret<ffi::AnyBuffer>()  // out
                                  .Ret<ffi::AnyBuffer>()  // partials
                                  .Attrs<SumAttrs>(),
                              kRecordable);

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_dot, handle_dot,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // a
                                  .Arg<ffi::AnyBuffer>()  // b
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // indices
                                  .Arg<ffi::AnyBuffer>()  // items
                                  .Arg<ffi::AnyBuffer>()  // heavy
                                  .Arg<ffi::AnyBuffer>()  // weight_rows
                                  .Ret<ffi::AnyBuffer>()  // out
                                  .Attrs<DotAttrs>(),
                              kRecordable);

}  // namespace jaxdirect::relational

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::relational::SumAttrs,
                                      xla::ffi::StructMember<int64_t>("first_column"),
                                      xla::ffi::StructMember<int64_t>("columns"),
                                      xla::ffi::StructMember<int64_t>("heads"),
                                      xla::ffi::StructMember<int64_t>("first_row"),
                                      xla::ffi::StructMember<int64_t>("num_rows"),
                                      xla::ffi::StructMember<int64_t>("num_partials"));
XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::relational::DotAttrs,
                                      xla::ffi::StructMember<int64_t>("heads"));
