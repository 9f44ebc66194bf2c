#pragma once

// The one thing that a platform module shows of its handlers: a dictionary of
// target names and capsules.

#include <nanobind/nanobind.h>

#include "xla/ffi/api/c_api.h"

namespace jaxdirect {

using HandlerFunction = XLA_FFI_Error* (*)(XLA_FFI_CallFrame*);

inline void add_handler(nanobind::dict& handlers, const char* target, HandlerFunction handler) {
  handlers[target] = nanobind::capsule(reinterpret_cast<void*>(handler));
}

}  // namespace jaxdirect
