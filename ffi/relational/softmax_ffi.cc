#include "relational/decode.h"
#include "relational/softmax.h"

namespace jaxdirect::relational {

struct SoftmaxAttrs {
  int64_t num_partials;
};

namespace {

ffi::Error handle(NativeContext context, ffi::AnyBuffer logits, ffi::AnyBuffer edges,
                  ffi::AnyBuffer indptr, ffi::AnyBuffer items, ffi::AnyBuffer heavy,
                  ffi::Result<ffi::AnyBuffer> out, ffi::Result<ffi::AnyBuffer> partials,
                  SoftmaxAttrs attrs) {
  Decoder decoder("edge_softmax");
  SoftmaxArgs args;
  args.type = decoder.float_type("logits", logits);
  args.heads = decoder.columns(logits);
  const int64_t num_edges = decoder.rows(logits);
  args.lists = decoder.lists(indptr, edges, items, heavy, attrs.num_partials);
  args.edges = decoder.ints("edges", edges, num_edges);
  args.logits = decoder.floats("logits", logits, num_edges, args.heads);
  args.out = const_cast<void*>(decoder.floats("the result", *out, num_edges, args.heads));
#ifdef JAXDIRECT_CUDA_MODULE
  args.partials = decoder.float32s("partials", *partials, args.lists.num_partials, 2 * args.heads);
#else
  (void)partials;
#endif
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(softmax(to_context(context), args));
}

ffi::Error handle_backward(NativeContext context, ffi::AnyBuffer softmax, ffi::AnyBuffer cotangent,
                           ffi::AnyBuffer edges, ffi::AnyBuffer indptr, ffi::AnyBuffer items,
                           ffi::AnyBuffer heavy, ffi::Result<ffi::AnyBuffer> grad,
                           ffi::Result<ffi::AnyBuffer> partials, SoftmaxAttrs attrs) {
  Decoder decoder("edge_softmax gradient");
  SoftmaxBackwardArgs args;
  args.type = decoder.float_type("the softmax", softmax);
  args.heads = decoder.columns(softmax);
  const int64_t num_edges = decoder.rows(softmax);
  args.lists = decoder.lists(indptr, edges, items, heavy, attrs.num_partials);
  args.edges = decoder.ints("edges", edges, num_edges);
  args.out = decoder.floats("the softmax", softmax, num_edges, args.heads);
  args.cotangent = decoder.floats("cotangent", cotangent, num_edges, args.heads);
  args.grad = const_cast<void*>(decoder.floats("the result", *grad, num_edges, args.heads));
#ifdef JAXDIRECT_CUDA_MODULE
  args.partials = decoder.float32s("partials", *partials, args.lists.num_partials, args.heads);
#else
  (void)partials;
#endif
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(softmax_backward(to_context(context), args));
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_softmax, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // logits
                                  .Arg<ffi::AnyBuffer>()  // edges
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // items
                                  .Arg<ffi::AnyBuffer>()  // heavy
                                  .Ret<ffi::AnyBuffer>()  // out
                                  .Ret<ffi::AnyBuffer>()  // partials
                                  .Attrs<SoftmaxAttrs>(),
                              kRecordable);

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_softmax_backward, handle_backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // the softmax
                                  .Arg<ffi::AnyBuffer>()  // cotangent
                                  .Arg<ffi::AnyBuffer>()  // edges
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // items
                                  .Arg<ffi::AnyBuffer>()  // heavy
                                  .Ret<ffi::AnyBuffer>()  // grad
                                  .Ret<ffi::AnyBuffer>()  // partials
                                  .Attrs<SoftmaxAttrs>(),
                              kRecordable);

}  // namespace jaxdirect::relational

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::relational::SoftmaxAttrs,
                                      xla::ffi::StructMember<int64_t>("num_partials"));
