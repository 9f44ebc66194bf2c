#include "common/handler.h"
#include "offload/engine.h"

namespace jaxdirect::offload {

struct MoveAttrs {
  int64_t site;
  int64_t tier;
};

namespace {

#ifdef JAXDIRECT_CUDA_MODULE
using StreamBinding = ffi::PlatformStream<cudaStream_t>;
using Stream = cudaStream_t;
inline StreamHandle compute_stream(Stream stream) { return stream; }
#else
using StreamBinding = ffi::ThreadPool;
using Stream = ffi::ThreadPool;
inline StreamHandle compute_stream(Stream) { return nullptr; }  // the handler's own thread
#endif

Call describe(ffi::RunId run, int32_t device, const MoveAttrs& attrs) {
  return {.device = device, .run = run.run_id, .site = attrs.site, .on_disk = attrs.tier == 1};
}

ffi::Error handle_store(Stream stream, ffi::RunId run, int32_t device, ffi::AnyBuffer value,
                        ffi::Result<ffi::AnyBuffer> same,
                        ffi::Result<ffi::Buffer<ffi::DataType::U32>> ticket, MoveAttrs attrs) {
  const std::span<const std::byte> bytes{static_cast<const std::byte*>(value.untyped_data()),
                                         value.size_bytes()};
  return to_ffi(Engine::of(device).store(compute_stream(stream), describe(run, device, attrs),
                                         bytes, static_cast<std::byte*>(same->untyped_data()),
                                         {ticket->typed_data(), ticket->element_count()}));
}

ffi::Error handle_fetch(Stream stream, ffi::RunId run, int32_t device,
                        ffi::Buffer<ffi::DataType::U32> ticket, ffi::AnyBuffer /*anchor*/,
                        ffi::Result<ffi::AnyBuffer> value, MoveAttrs attrs) {
  const std::span<std::byte> bytes{static_cast<std::byte*>(value->untyped_data()),
                                   value->size_bytes()};
  return to_ffi(Engine::of(device).fetch(compute_stream(stream), describe(run, device, attrs),
                                         {ticket.typed_data(), ticket.element_count()}, bytes));
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_offload_store, handle_store,
                              ffi::Ffi::Bind()
                                  .Ctx<StreamBinding>()
                                  .Ctx<ffi::RunId>()
                                  .Ctx<ffi::DeviceOrdinal>()
                                  .Arg<ffi::AnyBuffer>()                   // value
                                  .Ret<ffi::AnyBuffer>()                   // the same, in its place
                                  .Ret<ffi::Buffer<ffi::DataType::U32>>()  // ticket
                                  .Attrs<MoveAttrs>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_offload_fetch, handle_fetch,
                              ffi::Ffi::Bind()
                                  .Ctx<StreamBinding>()
                                  .Ctx<ffi::RunId>()
                                  .Ctx<ffi::DeviceOrdinal>()
                                  .Arg<ffi::Buffer<ffi::DataType::U32>>()  // ticket
                                  .Arg<ffi::AnyBuffer>()                   // anchor
                                  .Ret<ffi::AnyBuffer>()                   // value
                                  .Attrs<MoveAttrs>());

}  // namespace jaxdirect::offload

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::offload::MoveAttrs,
                                      xla::ffi::StructMember<int64_t>("site"),
                                      xla::ffi::StructMember<int64_t>("tier"));
