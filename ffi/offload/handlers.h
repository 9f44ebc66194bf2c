#pragma once

// The offload family's FFI handlers, the same list for every platform module.

#include "common/registrations.h"

extern "C" {
XLA_FFI_Error* jaxdirect_offload_store(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_offload_fetch(XLA_FFI_CallFrame* call_frame);
}

namespace jaxdirect::offload {

inline void add_handlers(nanobind::dict& handlers) {
  add_handler(handlers, "jaxdirect_offload_store", jaxdirect_offload_store);
  add_handler(handlers, "jaxdirect_offload_fetch", jaxdirect_offload_fetch);
}

}  // namespace jaxdirect::offload
