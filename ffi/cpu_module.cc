// jaxdirect._cpu: CPU handlers, and host services that need no GPU.

#include <nanobind/nanobind.h>

#include "conv/bindings.h"
#include "handlers.h"
#include "hostmem/order.h"
#include "offload/bindings.h"
#include "relational/plan_bindings.h"

namespace nb = nanobind;

namespace {

// How a GPU would read a host table: (method, low bit, high bit, least number of reads).
nb::tuple plan_order(int64_t order, int64_t num_rows, int64_t row_bytes, int64_t count) {
  using jaxdirect::hostmem::Order;
  const auto plan = jaxdirect::hostmem::plan_order(static_cast<Order>(order), /*on_host=*/true,
                                                   num_rows, row_bytes, count);
  constexpr const char* kMethods[] = {"given", "buckets", "radix"};
  return nb::make_tuple(kMethods[static_cast<int>(plan.method)], plan.low_bit, plan.high_bit,
                        plan.min_reads);
}

}  // namespace

NB_MODULE(_cpu, m) {
  m.def("registrations", &jaxdirect::registrations);
  m.def("plan_order", &plan_order);
  jaxdirect::relational::add_plan(m);
  jaxdirect::conv::add_plan(m);
  jaxdirect::offload::add_cache(m);
}
