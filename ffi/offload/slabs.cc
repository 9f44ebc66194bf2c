#include "offload/slabs.h"

#include <algorithm>
#include <utility>

#include "common/integers.h"

namespace jaxdirect::offload {

SlabPool& SlabPool::instance() {
  static SlabPool* const pool = new SlabPool;  // copies may still run when the process ends
  return *pool;
}

Status SlabPool::take(int64_t bytes, Slab* slab, bool may_exceed) {
  const int64_t wanted = round_up(std::max<int64_t>(bytes, 1), kSlabAlignment);
  *slab = {nullptr, wanted, nullptr};
  std::vector<Slab> trimmed;
  int64_t mapped = 0, limit = 0;
  bool fits = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const auto found = free_.find(wanted); found != free_.end()) {
      // The one that was given back first: what last used it has ended, or will soon.
      *slab = std::move(found->second.front());
      found->second.erase(found->second.begin());
      if (found->second.empty()) free_.erase(found);
      free_bytes_ -= wanted;
      return Status::ok();
    }
    trimmed = trim(limit_ - wanted);
    mapped = mapped_bytes_, limit = limit_;
    fits = mapped <= limit - wanted || may_exceed;
    if (fits) mapped_bytes_ += wanted;
  }
  Status status = unmap(std::move(trimmed));
  if (!fits) {
    return Status::error("offload: a value of ", bytes, " bytes does not fit beside ", mapped,
                         " in host memory limited to ", limit,
                         " bytes; raise offload.configure(host_limit_bytes=...), or keep or "
                         "recompute some names");
  }
  if (status.is_ok()) status = map_slab(wanted, &slab->data);
  if (!status.is_ok()) {
    std::lock_guard<std::mutex> lock(mutex_);
    mapped_bytes_ -= wanted;
  }
  return status;
}

void SlabPool::give(Slab slab) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_bytes_ += slab.bytes;
  std::vector<Slab>& same = free_[slab.bytes];
  same.push_back(std::move(slab));
}

Status SlabPool::set_limit(int64_t bytes) {
  std::vector<Slab> trimmed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    limit_ = bytes;
    trimmed = trim(bytes);
  }
  return unmap(std::move(trimmed));
}

Status SlabPool::clear() {
  std::vector<Slab> trimmed;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    trimmed = trim(0);
  }
  return unmap(std::move(trimmed));
}

SlabPool::Bytes SlabPool::bytes() {
  std::lock_guard<std::mutex> lock(mutex_);
  return {mapped_bytes_, mapped_bytes_ - free_bytes_};
}

std::vector<Slab> SlabPool::trim(int64_t bytes) {
  std::vector<Slab> trimmed;
  while (mapped_bytes_ > bytes && !free_.empty()) {
    const auto largest = std::prev(free_.end());
    trimmed.push_back(std::move(largest->second.back()));
    largest->second.pop_back();
    if (largest->second.empty()) free_.erase(largest);
    free_bytes_ -= trimmed.back().bytes;
    mapped_bytes_ -= trimmed.back().bytes;
  }
  return trimmed;
}

Status SlabPool::unmap(std::vector<Slab> slabs) {
  Status first = Status::ok();
  for (const Slab& slab : slabs) {
    Status status = synchronize(slab.used);
    if (first.is_ok()) first = std::move(status);
    unmap_slab(slab.data, slab.bytes);
  }
  return first;
}

}  // namespace jaxdirect::offload
