// jaxdirect._cpu: CPU handlers, and host services that need no GPU.

#include <nanobind/nanobind.h>

#include "common/registrations.h"
#include "hostmem/handlers.h"
#include "hostmem/order.h"

namespace nb = nanobind;

namespace {

nb::dict registrations() {
  nb::dict handlers;
  jaxdirect::hostmem::add_handlers(handlers);
  return handlers;
}

}  // namespace

NB_MODULE(_cpu, m) {
  m.def("registrations", &registrations);
}
