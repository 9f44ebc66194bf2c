// jaxdirect._cpu: CPU handlers, and host services that need no GPU.

#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>

#include <tuple>

#include "hostmem/handlers.h"
#include "hostmem/order.h"

namespace nb = nanobind;

namespace {

nb::dict registrations() {
  nb::dict handlers;
  jaxdirect::hostmem::add_handlers(handlers);
  return handlers;
}

// The order in which a GPU would read a host table: (sorted, low bit, high bit).
std::tuple<bool, int, int> plan_order(int64_t order, int64_t num_rows, int64_t row_bytes,
                                      int64_t count) {
  using jaxdirect::hostmem::Order;
  const auto plan = jaxdirect::hostmem::plan_order(static_cast<Order>(order), /*on_host=*/true,
                                                   num_rows, row_bytes, count);
  return {plan.sorted, plan.low_bit, plan.high_bit};
}

}  // namespace

NB_MODULE(_cpu, m) {
  m.def("registrations", &registrations);
  m.def("plan_order", &plan_order);
}
