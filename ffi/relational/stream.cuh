#pragma once

// A group of lanes streams the rows that a run of entries names, many of them in flight.

#include <cstdint>

#include "relational/vector.cuh"

namespace jaxdirect::relational {

// What an entry reads (negative: nothing), and up to two numbers that go with it.
struct Entry {
  int index = -1;
  int first = 0;
  int second = 0;
};

template <int kNumbers>
__device__ inline Entry entry_of_lane(unsigned mask, const Entry& mine, int lane, int lanes) {
  Entry entry;
  entry.index = __shfl_sync(mask, mine.index, lane, lanes);
  if constexpr (kNumbers > 0) entry.first = __shfl_sync(mask, mine.first, lane, lanes);
  if constexpr (kNumbers > 1) entry.second = __shfl_sync(mask, mine.second, lane, lanes);
  return entry;
}

// For the entries [begin, end) in order: before(position), and unless it reads nothing
// add(data, entry). Lane by lane fetch(position) gives the entries of a block, and
// load(&data, entry) starts the loads of one (of row 0 in the place of nothing): kAhead entries are
// in flight together, across the ends of sums, and the next block's entries beside them. All lanes
// of the group take part.
template <typename Data, int kLanes, int kAhead, int kNumbers, typename Fetch, typename Load,
          typename Before, typename Add>
__device__ inline void stream(unsigned mask, int begin, int end, const Fetch& fetch,
                              const Load& load, const Before& before, const Add& add) {
  const int lane = threadIdx.x % kLanes;
  Entry mine;
  if (begin + lane < end) mine = fetch(begin + lane);
  for (int base = begin; base < end; base += kLanes) {
    Entry next;
    if (base + kLanes + lane < end) next = fetch(base + kLanes + lane);
    const int count = min(kLanes, end - base);
#pragma unroll 1
    for (int ahead = 0; ahead < count; ahead += kAhead) {
      Data data[kAhead];
      Entry entries[kAhead];
      bool valid[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        entries[i] = entry_of_lane<kNumbers>(mask, mine, (ahead + i) % kLanes, kLanes);
        valid[i] = ahead + i < count && entries[i].index >= 0;
        // Without a branch, so that all loads are on their way before one is waited for.
        if (!valid[i]) entries[i] = Entry{0, 0, 0};
        load(&data[i], entries[i]);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (ahead + i < count) before(base + ahead + i);
        if (valid[i]) add(data[i], entries[i]);
      }
    }
    mine = next;
  }
}

}  // namespace jaxdirect::relational
