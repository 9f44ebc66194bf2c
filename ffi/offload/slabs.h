#pragma once

// Host memory for values: slabs of exactly their size, used again by values of the same size.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <vector>

#include "common/status.h"
#include "offload/streams.h"

namespace jaxdirect::offload {

struct Slab {
  std::byte* data = nullptr;
  int64_t bytes = 0;  // of the value, rounded up to pages
  EventRef used;      // the last copy from or to it
};

// The process's: devices share it.
class SlabPool {
 public:
  SlabPool() = default;
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;

  static SlabPool& instance();

  // Before the limit is exceeded, what is free in other sizes goes back to the system.
  Status take(int64_t bytes, Slab* slab, bool may_exceed = false);
  void give(Slab slab);

  // Most bytes that are mapped.
  Status set_limit(int64_t bytes);
  // Gives what is free back to the system.
  Status clear();

  struct Bytes {
    int64_t mapped, used;
  };
  Bytes bytes();

 private:
  // Free slabs beyond that many bytes, to be unmapped without the lock: a copy from one may wait
  // for a device that waits for the lock.
  std::vector<Slab> trim(int64_t bytes);
  static Status unmap(std::vector<Slab> slabs);

  std::mutex mutex_;
  std::map<int64_t, std::vector<Slab>> free_;  // by size
  int64_t limit_ = std::numeric_limits<int64_t>::max();
  int64_t mapped_bytes_ = 0, free_bytes_ = 0;
};

}  // namespace jaxdirect::offload
