#pragma once

// The hostmem family's FFI handlers, the same list for every platform module.

#include "common/registrations.h"

extern "C" {
XLA_FFI_Error* jaxdirect_hostmem_gather(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_hostmem_gather_cached(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_hostmem_sample_neighbors(XLA_FFI_CallFrame* call_frame);
XLA_FFI_Error* jaxdirect_hostmem_scatter_add(XLA_FFI_CallFrame* call_frame);
}

namespace jaxdirect::hostmem {

inline void add_handlers(nanobind::dict& handlers) {
  add_handler(handlers, "jaxdirect_hostmem_gather", jaxdirect_hostmem_gather);
  add_handler(handlers, "jaxdirect_hostmem_gather_cached", jaxdirect_hostmem_gather_cached);
  add_handler(handlers, "jaxdirect_hostmem_sample_neighbors", jaxdirect_hostmem_sample_neighbors);
  add_handler(handlers, "jaxdirect_hostmem_scatter_add", jaxdirect_hostmem_scatter_add);
}

}  // namespace jaxdirect::hostmem
