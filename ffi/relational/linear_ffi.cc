#include "relational/decode.h"
#include "relational/linear.h"
#include "relational/outer.h"

namespace jaxdirect::relational {

struct LinearAttrs {
  int64_t transposed;
  int64_t num_first;
  int64_t first_by_node;
  int64_t second_by_node;
  int64_t scatter;
  int64_t fill;
  int64_t num_out;
  int64_t precision;
};

struct OuterAttrs {
  int64_t num_first;
  int64_t a_first_by_node;
  int64_t a_second_by_node;
  int64_t b_first_by_node;
  int64_t b_second_by_node;
  int64_t precision;
};

namespace {

bool is_precision(int64_t value) { return value == 0 || value == 1; }

SlotRows slot_rows(Decoder& decoder, const char* name, ffi::AnyBuffer data, int64_t dim,
                   int64_t by_node, int64_t first_slot) {
  SlotRows slots;
  slots.data = decoder.floats(name, data, -1, dim);
  slots.num_rows = decoder.rows(data);
  slots.by_node = by_node != 0;
  slots.first_slot = first_slot;
  return slots;
}

ffi::Error handle_linear(NativeContext context, ffi::AnyBuffer first, ffi::AnyBuffer second,
                         ffi::AnyBuffer weight, ffi::AnyBuffer weight_of, ffi::AnyBuffer nodes,
                         ffi::Result<ffi::AnyBuffer> out, LinearAttrs attrs) {
  Decoder decoder("typed_linear");
  LinearArgs args;
  args.type = decoder.float_type("x", first);
  args.in_dim = decoder.columns(first);
  args.num_tiles = decoder.rows(weight_of);
  args.transposed = attrs.transposed != 0;
  args.num_weights = decoder.rows(weight);
  decoder.require(first.dimensions().size() == 2, "x", "[num_x, in_dim]");
  decoder.require(weight.dimensions().size() == 3, "weight", "[num_weights, in_dim, out_dim]");
  decoder.require(out->dimensions().size() == 2, "the result", "[num_rows, out_dim]");
  decoder.require(is_precision(attrs.precision), "precision", "0 or 1");
  decoder.require(attrs.num_first >= 0 && attrs.num_first <= args.num_tiles, "num_first",
                  "in [0, num_tiles]");
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  args.out_dim = decoder.columns(*out);
  args.num_first = attrs.num_first;
  args.x[0] = slot_rows(decoder, "x", first, args.in_dim, attrs.first_by_node, 0);
  args.x[1] = slot_rows(decoder, "x's second part", second, args.in_dim, attrs.second_by_node,
                        args.num_first * kTile);
  decoder.floats("weight", weight, args.num_weights * args.in_dim, args.out_dim);
  decoder.require(weight.dimensions()[args.transposed ? 2 : 1] == args.in_dim, "weight's in_dim",
                  "that of x");
  args.weight = weight.untyped_data();
  const int64_t num_slots = args.num_tiles * kTile;
  args.weight_of = decoder.ints("weight_of", weight_of, args.num_tiles);
  args.nodes = decoder.ints("nodes", nodes, num_slots);
  args.scatter = attrs.scatter != 0;
  args.fill = attrs.fill != 0;
  args.precision = static_cast<Precision>(attrs.precision);
  args.num_out = decoder.rows(*out);
  decoder.require(args.scatter || args.num_out == num_slots, "the result's rows", "num_slots");
  decoder.floats("the result", *out, -1, args.out_dim);
  args.out = out->untyped_data();
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(linear(to_context(context), args));
}

ffi::Error handle_outer(NativeContext context, ffi::AnyBuffer a_first, ffi::AnyBuffer a_second,
                        ffi::AnyBuffer b_first, ffi::AnyBuffer b_second, ffi::AnyBuffer nodes,
                        ffi::AnyBuffer weight_tiles, ffi::AnyBuffer chunks,
                        ffi::AnyBuffer chunk_indptr, ffi::Result<ffi::AnyBuffer> out,
                        ffi::Result<ffi::AnyBuffer> partials, OuterAttrs attrs) {
  Decoder decoder("typed_linear gradient");
  OuterArgs args;
  args.type = decoder.float_type("a", a_first);
  decoder.require(out->dimensions().size() == 3, "the result", "[num_weights, a_dim, b_dim]");
  decoder.require(is_precision(attrs.precision), "precision", "0 or 1");
  args.num_tiles = decoder.rows(weight_tiles);
  decoder.require(attrs.num_first >= 0 && attrs.num_first <= args.num_tiles, "num_first",
                  "in [0, num_tiles]");
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  args.num_weights = out->dimensions()[0];
  args.a_dim = out->dimensions()[1];
  args.b_dim = out->dimensions()[2];
  args.num_first = attrs.num_first;
  const int64_t first_slots = attrs.num_first * kTile;
  args.a[0] = slot_rows(decoder, "a", a_first, args.a_dim, attrs.a_first_by_node, 0);
  args.a[1] = slot_rows(decoder, "a's second part", a_second, args.a_dim, attrs.a_second_by_node,
                        first_slots);
  args.b[0] = slot_rows(decoder, "b", b_first, args.b_dim, attrs.b_first_by_node, 0);
  args.b[1] = slot_rows(decoder, "b's second part", b_second, args.b_dim, attrs.b_second_by_node,
                        first_slots);
  args.nodes = decoder.ints("nodes", nodes, args.num_tiles * kTile);
  args.weight_tiles = decoder.ints("weight_tiles", weight_tiles, -1);
  args.num_chunks = decoder.rows(chunks);
  args.chunks = decoder.ints("chunks", chunks, -1, 3);
  args.chunk_indptr = decoder.ints("chunk_indptr", chunk_indptr, args.num_weights + 1);
  args.precision = static_cast<Precision>(attrs.precision);
  decoder.floats("the result", *out, args.num_weights * args.a_dim, args.b_dim);
  args.out = out->untyped_data();
#ifdef JAXDIRECT_CUDA_MODULE
  args.partials = decoder.float32s("partials", *partials, args.num_chunks * args.a_dim, args.b_dim);
#else
  (void)partials;
#endif
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(outer(to_context(context), args));
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_linear, handle_linear,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // x of the first tiles
                                  .Arg<ffi::AnyBuffer>()  // x of the others
                                  .Arg<ffi::AnyBuffer>()  // weight
                                  .Arg<ffi::AnyBuffer>()  // weight_of
                                  .Arg<ffi::AnyBuffer>()  // nodes
                                  .Ret<ffi::AnyBuffer>()  // out
                                  .Attrs<LinearAttrs>(),
                              kRecordable);

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_outer, handle_outer,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // a of the first tiles
                                  .Arg<ffi::AnyBuffer>()  // a of the others
                                  .Arg<ffi::AnyBuffer>()  // b of the first tiles
                                  .Arg<ffi::AnyBuffer>()  // b of the others
                                  .Arg<ffi::AnyBuffer>()  // nodes
                                  .Arg<ffi::AnyBuffer>()  // weight_tiles
                                  .Arg<ffi::AnyBuffer>()  // chunks
                                  .Arg<ffi::AnyBuffer>()  // chunk_indptr
                                  .Ret<ffi::AnyBuffer>()  // out
                                  .Ret<ffi::AnyBuffer>()  // partials
                                  .Attrs<OuterAttrs>(),
                              kRecordable);

}  // namespace jaxdirect::relational

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(
    jaxdirect::relational::LinearAttrs, xla::ffi::StructMember<int64_t>("transposed"),
    xla::ffi::StructMember<int64_t>("num_first"), xla::ffi::StructMember<int64_t>("first_by_node"),
    xla::ffi::StructMember<int64_t>("second_by_node"), xla::ffi::StructMember<int64_t>("scatter"),
    xla::ffi::StructMember<int64_t>("fill"), xla::ffi::StructMember<int64_t>("num_out"),
    xla::ffi::StructMember<int64_t>("precision"));
XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::relational::OuterAttrs,
                                      xla::ffi::StructMember<int64_t>("num_first"),
                                      xla::ffi::StructMember<int64_t>("a_first_by_node"),
                                      xla::ffi::StructMember<int64_t>("a_second_by_node"),
                                      xla::ffi::StructMember<int64_t>("b_first_by_node"),
                                      xla::ffi::StructMember<int64_t>("b_second_by_node"),
                                      xla::ffi::StructMember<int64_t>("precision"));
