#pragma once

// All FFI handlers, the same for every platform module.

#include <nanobind/nanobind.h>

#include "conv/handlers.h"
#include "hostmem/handlers.h"
#include "offload/handlers.h"
#include "relational/handlers.h"

namespace jaxdirect {

inline nanobind::dict registrations() {
  nanobind::dict handlers;
  conv::add_handlers(handlers);
  hostmem::add_handlers(handlers);
  offload::add_handlers(handlers);
  relational::add_handlers(handlers);
  return handlers;
}

}  // namespace jaxdirect
