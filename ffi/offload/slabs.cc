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
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t wanted = round_up(std::max<int64_t>(bytes, 1), kSlabAlignment);
  *slab = {nullptr, wanted, nullptr};
  if (const auto found = free_.find(wanted); found != free_.end()) {
    // The one that was given back first: what last used it has ended, or will soon.
    *slab = std::move(found->second.front());
    found->second.erase(found->second.begin());
    if (found->second.empty()) free_.erase(found);
    free_bytes_ -= wanted;
    return Status::ok();
  }
  JAXDIRECT_RETURN_IF_ERROR(trim(limit_ - wanted));
  if (mapped_bytes_ > limit_ - wanted && !may_exceed) {
    return Status::error("offload: a value of ", bytes, " bytes does not fit beside ",
                         mapped_bytes_, " in host memory limited to ", limit_,
                         " bytes; raise offload.configure(host_limit_bytes=...), or keep or "
                         "recompute some names");
  }
  JAXDIRECT_RETURN_IF_ERROR(map_slab(wanted, &slab->data));
  mapped_bytes_ += wanted;
  return Status::ok();
}

void SlabPool::give(Slab slab) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_bytes_ += slab.bytes;
  std::vector<Slab>& same = free_[slab.bytes];
  same.push_back(std::move(slab));
}

Status SlabPool::set_limit(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  limit_ = bytes;
  return trim(bytes);
}

Status SlabPool::clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  return trim(0);
}

SlabPool::Bytes SlabPool::bytes() {
  std::lock_guard<std::mutex> lock(mutex_);
  return {mapped_bytes_, mapped_bytes_ - free_bytes_};
}

Status SlabPool::trim(int64_t bytes) {
  while (mapped_bytes_ > bytes && !free_.empty()) {
    const auto largest = std::prev(free_.end());
    const Slab slab = std::move(largest->second.back());
    largest->second.pop_back();
    if (largest->second.empty()) free_.erase(largest);
    free_bytes_ -= slab.bytes;
    mapped_bytes_ -= slab.bytes;
    JAXDIRECT_RETURN_IF_ERROR(synchronize(slab.used));
    unmap_slab(slab.data, slab.bytes);
  }
  return Status::ok();
}

}  // namespace jaxdirect::offload
