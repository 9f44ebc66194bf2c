// jaxdirect._cuda: CUDA handlers, and the driver's services for host pages.
// Loading it calls no CUDA function, so that it imports without driver or GPU.

#include <cuda_runtime_api.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <vector>

#include "common/status.h"
#include "conv/bindings.h"
#include "handlers.h"
#include "hostmem/host_pages.h"
#include "offload/bindings.h"

namespace nb = nanobind;

namespace {

void raise_if_error(const jaxdirect::Status& status) {
  if (!status.is_ok()) throw std::runtime_error(status.message());
}

template <typename Function>
void without_gil(const Function& function) {
  jaxdirect::Status status = jaxdirect::Status::ok();
  {
    nb::gil_scoped_release release;
    status = function();
  }
  raise_if_error(status);
}

void host_register(uintptr_t address, size_t bytes, bool read_only) {
  without_gil([=] { return jaxdirect::hostmem::host_register(address, bytes, read_only); });
}

void host_unregister(uintptr_t address) {
  without_gil([=] { return jaxdirect::hostmem::host_unregister(address); });
}

void synchronize(const std::vector<int>& devices) {
  without_gil([&] { return jaxdirect::hostmem::synchronize(devices); });
}

// A DLPack view of pinned host memory, kept alive by `owner`.
nb::object host_view(uintptr_t address, const nb::tuple& shape, int code, int bits, int device,
                     nb::object owner) {
  std::vector<size_t> extents;
  for (nb::handle extent : shape) extents.push_back(nb::cast<size_t>(extent));
  const nb::dlpack::dtype dtype{static_cast<uint8_t>(code), static_cast<uint8_t>(bits), 1};
  return nb::cast(nb::ndarray<>(reinterpret_cast<void*>(address), extents.size(), extents.data(),
                                owner, nullptr, dtype, nb::device::cuda_host::value, device));
}

}  // namespace

NB_MODULE(_cuda, m) {
  m.def("registrations", &jaxdirect::registrations);
  m.def("host_register", &host_register);
  m.def("host_unregister", &host_unregister);
  m.def("synchronize", &synchronize);
  m.def("host_view", &host_view);
  jaxdirect::conv::add_plan(m);
  jaxdirect::offload::add_cache(m);
}
