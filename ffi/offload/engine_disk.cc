// What the engine does with values of the disk tier.

#include <algorithm>
#include <utility>

#include "offload/disk_tier.h"
#include "offload/engine.h"

namespace jaxdirect::offload {
namespace {

// Of values that wait to be written, in units of the largest: slabs are few beside them.
constexpr int64_t kMostWriting = 4;

}  // namespace

// Waits until what is being written leaves room for one more.
void Engine::leave_room(Lock& lock, int64_t bytes) {
  const int64_t most = kMostWriting * std::max(largest_, bytes);
  io_ended_.wait(lock, [&] { return writing_bytes_ + bytes <= most; });
}

Status Engine::begin_write(Ticket ticket, Value* value) {
  if (value->bytes == 0) return Status::ok();
  value->disk = DiskTier::instance().disk();
  if (value->disk == nullptr) {
    return Status::error(
        "offload: a policy sends values to disk, but no directory is set; call "
        "offload.configure(directory=...)");
  }
  JAXDIRECT_RETURN_IF_ERROR(send(value));
  JAXDIRECT_RETURN_IF_ERROR(value->disk->take(value->slab.bytes, &value->extent));
  value->home = Home::kWriting;
  writing_bytes_ += value->bytes;
  const EventRef& arrived = value->slab.used;
  DiskTier::instance().io().add_write(
      arrived,
      [this, ticket, disk = value->disk, extent = value->extent, data = value->slab.data, arrived] {
        Status status = synchronize(arrived);  // for its error
        if (status.is_ok()) status = disk->write(extent, data);
        end_io(ticket, std::move(status));
      });
  return Status::ok();
}

// Host memory for a value. Where there is no more, the oldest go on to the disk, and the lock is
// given up meanwhile. With none of its own left this is the last one: it has to go on itself.
Status Engine::take_slab(Lock& lock, int64_t bytes, Slab* slab, bool* is_last) {
  for (;;) {
    Status status = SlabPool::instance().take(bytes, slab);
    if (status.is_ok() || DiskTier::instance().disk() == nullptr) return status;
    if (writing_bytes_ == 0) {
      const auto oldest = std::find_if(values_.begin(), values_.end(), [](const auto& entry) {
        const Value& value = entry.second;
        return value.home == Home::kSlab && value.slab.data != nullptr && value.error.is_ok();
      });
      *is_last = oldest == values_.end();
      if (*is_last) return SlabPool::instance().take(bytes, slab, /*may_exceed=*/true);
      JAXDIRECT_RETURN_IF_ERROR(begin_write(oldest->first, &oldest->second));
      ++stats_.spilled;
    }
    io_ended_.wait(lock);
  }
}

void Engine::begin_read(Ticket ticket, Value* value, Slab slab) {
  value->slab = std::move(slab);
  value->home = Home::kReading;
  const EventRef& used = value->slab.used;
  DiskTier::instance().io().add_read(used, [this, ticket, disk = value->disk,
                                            extent = value->extent, data = value->slab.data, used] {
    Status status = synchronize(used);
    if (status.is_ok()) status = disk->read(extent, data);
    end_io(ticket, std::move(status));
  });
}

// A thread has written the value, or read it. What is forgotten meanwhile is given back now.
void Engine::end_io(Ticket ticket, Status status) {
  Lock lock(mutex_);
  const auto found = values_.find(ticket);
  const auto gone = abandoned_.find(ticket);
  const bool is_gone = found == values_.end();
  Value& value = is_gone ? gone->second : found->second;
  const bool was_writing = value.home == Home::kWriting;
  if (was_writing) writing_bytes_ -= value.bytes;
  value.home = status.is_ok() == was_writing ? Home::kDisk : Home::kSlab;
  value.error = std::move(status);
  // The slab knows the last copy from it, which may have begun after the thread had.
  if (is_gone || value.home == Home::kDisk)
    SlabPool::instance().give(std::exchange(value.slab, {}));
  if (is_gone || (value.home == Home::kSlab && !was_writing)) {
    value.disk->give(std::exchange(value.extent, {}));
  }
  if (is_gone) abandoned_.erase(gone);
  io_ended_.notify_all();
}

Status Engine::bring_back(Lock& lock, Ticket ticket) {
  Slab slab;
  const Status status = bring_back_into(lock, ticket, &slab);
  if (slab.data != nullptr) SlabPool::instance().give(std::move(slab));  // others were faster
  return status;
}

Status Engine::bring_back_into(Lock& lock, Ticket ticket, Slab* slab) {
  for (bool waited = false;;) {
    const auto found = values_.find(ticket);
    if (found == values_.end()) {
      return Status::error("offload: a value was dropped while its step waited for it");
    }
    Value& value = found->second;
    if (!value.error.is_ok()) return value.error;
    if (value.is_staged()) return Status::ok();
    if (value.home == Home::kDisk) {
      if (slab->data == nullptr) {
        bool is_last = false;  // it is fetched at once
        JAXDIRECT_RETURN_IF_ERROR(take_slab(lock, value.bytes, slab, &is_last));
        continue;  // the lock may have been given up
      }
      begin_read(ticket, &value, std::exchange(*slab, {}));
    }
    if (value.home != Home::kReading) return Status::ok();
    stats_.disk_waits += !std::exchange(waited, true);
    io_ended_.wait(lock);
  }
}

// Gives back what a value has that is forgotten; a thread that is at its slab does so later.
void Engine::abandon(Ticket ticket, Value* value) {
  if (value->home == Home::kWriting || value->home == Home::kReading) {
    abandoned_.emplace(ticket, std::move(*value));
    return;
  }
  if (value->slab.data != nullptr) SlabPool::instance().give(std::move(value->slab));
  if (value->extent.file >= 0) value->disk->give(value->extent);
}

}  // namespace jaxdirect::offload
