#pragma once

// Device memory for values on their way between a program's buffers and the host. XLA may use an
// operand's memory again as soon as a handler returns, and gives a result's memory only then; what
// is slower than that waits here.

#include <cstdint>
#include <map>
#include <vector>

#include "common/status.h"
#include "offload/streams.h"

namespace jaxdirect::offload {

// Regions of one piece of memory; each belongs to the value with its ticket, or is free. Not safe
// for several threads: its owner has a lock.
class Staging {
 public:
  // Room for so many values of that size at least. Growing waits for all copies, as clearing does;
  // no region has an owner afterwards.
  Status grow(int64_t values, int64_t bytes);
  // Gives the memory back.
  Status clear();

  // A free region for a value. With `evict` those of the oldest values are taken where there is
  // none; their tickets are added to `*evicted`. False if there is no room.
  bool take(int64_t bytes, Ticket owner, bool evict, std::vector<Ticket>* evicted);

  std::byte* at(Ticket owner) const;
  // What must have passed before others write to the owner's region.
  const std::vector<EventRef>& users(Ticket owner) const;
  void add_user(Ticket owner, EventRef event);
  void release(Ticket owner);

  int64_t bytes() const { return bytes_; }

 private:
  struct Region {
    int64_t bytes = 0;
    Ticket owner = 0;  // 0: free
    std::vector<EventRef> users;
  };
  using Regions = std::map<int64_t, Region>;  // by where they begin

  Regions::iterator best_free(int64_t bytes);
  void free(Regions::iterator region);

  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  Regions regions_;
  std::map<Ticket, int64_t> owners_;  // where each one's region begins
};

}  // namespace jaxdirect::offload
