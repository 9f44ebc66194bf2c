#include "offload/staging.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/integers.h"

namespace jaxdirect::offload {
namespace {

constexpr int64_t kAlignment = 512;

void append_running(const std::vector<EventRef>& from, std::vector<EventRef>* to) {
  for (const EventRef& event : from) {
    if (!has_passed(event)) to->push_back(event);
  }
}

}  // namespace

Status Staging::grow(int64_t values, int64_t bytes) {
  bytes = values * round_up(bytes, kAlignment);
  if (bytes <= bytes_) return Status::ok();
  JAXDIRECT_RETURN_IF_ERROR(clear());
  JAXDIRECT_RETURN_IF_ERROR(allocate_staging(bytes, &data_));
  bytes_ = bytes;
  regions_[0].bytes = bytes;
  return Status::ok();
}

Status Staging::clear() {
  for (const auto& [begin, region] : regions_) {
    for (const EventRef& event : region.users) JAXDIRECT_RETURN_IF_ERROR(synchronize(event));
  }
  regions_.clear();
  owners_.clear();
  if (data_ != nullptr) free_staging(data_);
  data_ = nullptr;
  bytes_ = 0;
  return Status::ok();
}

bool Staging::take(int64_t bytes, Ticket owner, bool evict, std::vector<Ticket>* evicted) {
  bytes = round_up(std::max<int64_t>(bytes, 1), kAlignment);
  if (bytes > bytes_) return false;
  auto found = best_free(bytes);
  while (found == regions_.end()) {
    if (!evict || owners_.empty()) return false;
    const Ticket oldest = owners_.begin()->first;
    evicted->push_back(oldest);
    release(oldest);
    found = best_free(bytes);
  }
  Region& region = found->second;
  if (region.bytes > bytes) {
    Region& rest = regions_[found->first + bytes];
    rest.bytes = region.bytes - bytes;
    rest.users = region.users;
    region.bytes = bytes;
  }
  region.owner = owner;
  owners_[owner] = found->first;
  return true;
}

std::byte* Staging::at(Ticket owner) const { return data_ + owners_.at(owner); }

const std::vector<EventRef>& Staging::users(Ticket owner) const {
  return regions_.at(owners_.at(owner)).users;
}

void Staging::add_user(Ticket owner, EventRef event) {
  if (event != nullptr) regions_.at(owners_.at(owner)).users.push_back(std::move(event));
}

void Staging::release(Ticket owner) {
  const auto found = owners_.find(owner);
  const auto region = regions_.find(found->second);
  owners_.erase(found);
  region->second.owner = 0;
  free(region);
}

// Joins a free region with free neighbours.
void Staging::free(Regions::iterator region) {
  const auto join = [&](Regions::iterator first, Regions::iterator second) {
    first->second.bytes += second->second.bytes;
    std::vector<EventRef> users;
    append_running(first->second.users, &users);
    append_running(second->second.users, &users);
    first->second.users = std::move(users);
    regions_.erase(second);
    return first;
  };
  if (const auto next = std::next(region); next != regions_.end() && next->second.owner == 0) {
    join(region, next);
  }
  if (region != regions_.begin() && std::prev(region)->second.owner == 0) {
    join(std::prev(region), region);
  }
}

Staging::Regions::iterator Staging::best_free(int64_t bytes) {
  auto best = regions_.end();
  for (auto region = regions_.begin(); region != regions_.end(); ++region) {
    if (region->second.owner != 0 || region->second.bytes < bytes) continue;
    if (best == regions_.end() || region->second.bytes < best->second.bytes) best = region;
  }
  return best;
}

}  // namespace jaxdirect::offload
