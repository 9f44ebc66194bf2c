#include "relational/decode.h"
#include "relational/largest.h"

namespace jaxdirect::relational {

struct LargestAttrs {
  int64_t heads;
  int64_t num_partials;
};

struct PickedDotAttrs {
  int64_t heads;
};

namespace {

EntryWeights entry_weights(Decoder& decoder, ffi::AnyBuffer weights, ffi::AnyBuffer weight_rows,
                           int64_t heads, int64_t columns, int64_t num_entries) {
  EntryWeights result;
  decoder.require(heads >= 1 && columns % heads == 0, "heads", "a divisor of columns");
  result.heads = heads;
  if (weights.element_count() > 0) {
    result.num_weights = decoder.rows(weights);
    result.data = decoder.float32s("weights", weights, -1, heads);
  }
  if (weight_rows.element_count() > 0) {
    result.rows = decoder.ints("weight_rows", weight_rows, num_entries);
  }
  return result;
}

ffi::Error handle_largest(NativeContext context, ffi::AnyBuffer values, ffi::AnyBuffer indptr,
                          ffi::AnyBuffer indices, ffi::AnyBuffer items, ffi::AnyBuffer heavy,
                          ffi::AnyBuffer weights, ffi::AnyBuffer weight_rows,
                          ffi::Result<ffi::AnyBuffer> out, ffi::Result<ffi::AnyBuffer> winners,
                          ffi::Result<ffi::AnyBuffer> partials,
                          ffi::Result<ffi::AnyBuffer> partial_winners, LargestAttrs attrs) {
  Decoder decoder("aggregate");
  LargestArgs args;
  args.type = decoder.float_type("values", values);
  decoder.require(values.dimensions().size() == 2, "values", "[num_values, columns]");
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  args.num_values = decoder.rows(values);
  args.columns = decoder.columns(values);
  args.lists = decoder.lists(indptr, indices, items, heavy, attrs.num_partials);
  args.weights = entry_weights(decoder, weights, weight_rows, attrs.heads, args.columns,
                               args.lists.num_entries);
  args.values = values.untyped_data();
  args.out =
      const_cast<void*>(decoder.floats("the result", *out, args.lists.num_rows, args.columns));
  args.winners =
      const_cast<int32_t*>(decoder.ints("winners", *winners, args.lists.num_rows, args.columns));
#ifdef JAXDIRECT_CUDA_MODULE
  args.partials = decoder.float32s("partials", *partials, args.lists.num_partials, args.columns);
  args.partial_winners = const_cast<int32_t*>(
      decoder.ints("partial winners", *partial_winners, args.lists.num_partials, args.columns));
#else
  (void)partials;
  (void)partial_winners;
#endif
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(largest(to_context(context), args));
}

ffi::Error handle_picked_sum(NativeContext context, ffi::AnyBuffer values, ffi::AnyBuffer winners,
                             ffi::AnyBuffer indptr, ffi::AnyBuffer indices, ffi::AnyBuffer items,
                             ffi::AnyBuffer heavy, ffi::AnyBuffer edges, ffi::AnyBuffer weights,
                             ffi::AnyBuffer weight_rows, ffi::Result<ffi::AnyBuffer> out,
                             ffi::Result<ffi::AnyBuffer> partials, LargestAttrs attrs) {
  Decoder decoder("aggregate gradient");
  PickedSumArgs args;
  args.type = decoder.float_type("values", values);
  decoder.require(values.dimensions().size() == 2, "values", "[num_values, columns]");
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  args.num_values = decoder.rows(values);
  args.columns = decoder.columns(values);
  args.lists = decoder.lists(indptr, indices, items, heavy, attrs.num_partials);
  args.weights = entry_weights(decoder, weights, weight_rows, attrs.heads, args.columns,
                               args.lists.num_entries);
  args.values = values.untyped_data();
  args.winners = decoder.ints("winners", winners, args.num_values, args.columns);
  args.edges = decoder.ints("edges", edges, args.lists.num_entries);
  args.out =
      const_cast<void*>(decoder.floats("the result", *out, args.lists.num_rows, args.columns));
#ifdef JAXDIRECT_CUDA_MODULE
  args.partials = decoder.float32s("partials", *partials, args.lists.num_partials, args.columns);
#else
  (void)partials;
#endif
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(picked_sum(to_context(context), args));
}

ffi::Error handle_picked_dot(NativeContext context, ffi::AnyBuffer a, ffi::AnyBuffer winners,
                             ffi::AnyBuffer b, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                             ffi::AnyBuffer items, ffi::AnyBuffer heavy, ffi::AnyBuffer to,
                             ffi::Result<ffi::AnyBuffer> out, PickedDotAttrs attrs) {
  Decoder decoder("aggregate gradient");
  PickedDotArgs args;
  args.type = decoder.float_type("a", a);
  decoder.require(a.dimensions().size() == 2, "a", "[num_rows, columns]");
  args.columns = decoder.columns(a);
  args.heads = attrs.heads;
  decoder.require(args.heads >= 1 && args.columns % args.heads == 0, "heads",
                  "a divisor of columns");
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  const int64_t num_entries = decoder.rows(indices);
  args.lists = decoder.lists(indptr, indices, items, heavy, num_entries);
  args.num_b = decoder.rows(b);
  args.a = decoder.floats("a", a, args.lists.num_rows, args.columns);
  args.winners = decoder.ints("winners", winners, args.lists.num_rows, args.columns);
  args.b = decoder.floats("b", b, -1, args.columns);
  if (to.element_count() > 0) args.to = decoder.ints("to", to, num_entries);
  args.out = decoder.float32s("the result", *out, num_entries, args.heads);
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(picked_dot(to_context(context), args));
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_largest, handle_largest,
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
                                  .Ret<ffi::AnyBuffer>()  // winners
                                  .Ret<ffi::AnyBuffer>()  // partials
                                  .Ret<ffi::AnyBuffer>()  // partial winners
                                  .Attrs<LargestAttrs>(),
                              kRecordable);

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_picked_sum, handle_picked_sum,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // values
                                  .Arg<ffi::AnyBuffer>()  // winners
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // indices
                                  .Arg<ffi::AnyBuffer>()  // items
                                  .Arg<ffi::AnyBuffer>()  // heavy
                                  .Arg<ffi::AnyBuffer>()  // edges
                                  .Arg<ffi::AnyBuffer>()  // weights
                                  .Arg<ffi::AnyBuffer>()  // weight_rows
                                  .Ret<ffi::AnyBuffer>()  // out
                                  .Ret<ffi::AnyBuffer>()  // partials
                                  .Attrs<LargestAttrs>(),
                              kRecordable);

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_picked_dot, handle_picked_dot,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // a
                                  .Arg<ffi::AnyBuffer>()  // winners
                                  .Arg<ffi::AnyBuffer>()  // b
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // indices
                                  .Arg<ffi::AnyBuffer>()  // items
                                  .Arg<ffi::AnyBuffer>()  // heavy
                                  .Arg<ffi::AnyBuffer>()  // to
                                  .Ret<ffi::AnyBuffer>()  // out
                                  .Attrs<PickedDotAttrs>(),
                              kRecordable);

}  // namespace jaxdirect::relational

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::relational::LargestAttrs,
                                      xla::ffi::StructMember<int64_t>("heads"),
                                      xla::ffi::StructMember<int64_t>("num_partials"));
XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::relational::PickedDotAttrs,
                                      xla::ffi::StructMember<int64_t>("heads"));
