#pragma once

// What Python asks of the tensor cache and tells it; the same for every platform module.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "offload/disk_tier.h"
#include "offload/engine.h"

namespace jaxdirect::offload {

inline nanobind::dict stats() {
  // Python goes on while engines are busy: what they wait for may be a callback.
  const Stats all = [] {
    nanobind::gil_scoped_release release;
    return Engine::all_stats();
  }();
  const SlabPool::Bytes host = SlabPool::instance().bytes();
  const std::shared_ptr<Disk> open = DiskTier::instance().disk();
  const DiskStats disk = open == nullptr ? DiskStats() : open->stats();
  nanobind::dict dict;
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, int64_t>>{
           {"stored", all.stored},
           {"stored_bytes", all.stored_bytes},
           {"fetched", all.fetched},
           {"fetched_bytes", all.fetched_bytes},
           {"forwarded", all.forwarded},
           {"prefetched", all.prefetched},
           {"dropped", all.dropped},
           {"waiting", all.waiting},
           {"spilled", all.spilled},
           {"disk_waits", all.disk_waits},
           {"sent_bytes", all.sent_bytes},
           {"disk_written_bytes", disk.written_bytes},
           {"disk_read_bytes", disk.read_bytes},
           {"disk_file_bytes", disk.file_bytes},
           {"disk_direct", disk.direct},
           {"staging_bytes", all.staging_bytes},
           {"host_bytes", host.mapped},
           {"used_host_bytes", host.used}}) {
    dict[name] = value;
  }
  return dict;
}

inline void raise(const Status& status) {
  if (!status.is_ok()) throw std::runtime_error(status.message());
}

inline void add_cache(nanobind::module_& module) {
  module.def("offload_stats", &stats);
  using Free = nanobind::call_guard<nanobind::gil_scoped_release>;
  module.def(
      "offload_limit_host", [](int64_t bytes) { raise(SlabPool::instance().set_limit(bytes)); },
      Free());
  module.def(
      "offload_limit_staging", [](int64_t bytes) { raise(Engine::limit_staging(bytes)); }, Free());
  module.def(
      "offload_open_disk",
      [](const std::vector<std::string>& directories, int threads) {
        raise(DiskTier::instance().open(directories, threads));
      },
      Free());
  module.def("offload_clear", [] { raise(Engine::clear_all()); }, Free());
}

}  // namespace jaxdirect::offload
