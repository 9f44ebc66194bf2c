#pragma once

// When, and how finely, a list of row numbers is ordered before it is followed.
//
// Random rows of a large host table are bound by address translation, not by the link,
// so they are read in (nearly) ascending order. order.cc holds the rule, order_cuda.cu
// the radix sort of long lists, bucket_cuda.cu the cheap grouping of short ones.

#include <cstdint>

#include "common/status.h"
#include "hostmem/index_list.h"

#ifdef JAXDIRECT_CUDA_MODULE
#include <cuda_runtime_api.h>
#endif

namespace jaxdirect::hostmem {

enum class Order : int64_t { kGiven = 0, kSorted = 1, kAuto = 2 };

// How one call visits its ids.
struct OrderPlan {
  enum class Method {
    kGiven,    // as they come
    kBuckets,  // grouped by the bits from low_bit up, in any order within a group
    kRadix,    // sorted by bits [low_bit, high_bit), stably
  };
  Method method = Method::kGiven;
  // Ids that read nothing from the table are spread over the order, so that filling
  // their rows goes on under the reads of the others; or they all stand at the end.
  bool spread_others = false;
  int low_bit = 0;
  int high_bit = 0;
  // kBuckets: the least number of ids that read the table for which ordering pays. The
  // host sees the length of the list and not what is in it, so the GPU estimates it.
  int64_t min_reads = 0;

  int passes() const { return (high_bit - low_bit + 7) / 8; }  // 8 bits a radix pass
};

inline constexpr int kLeastBucketBits = 12;
inline constexpr int kMostBucketBits = 15;
inline constexpr int64_t kMostBucketIds = int64_t{1} << 19;

// `row_bytes` is what one id reads, `num_rows` how many ids are valid.
// Tables in device memory are never worth ordering under kAuto.
OrderPlan plan_order(Order order, bool on_host, int64_t num_rows, int64_t row_bytes, int64_t count);

// A stable sort by whole ids, those that are no rows last.
OrderPlan plan_stable_sort(int64_t num_rows);

// Bytes of device workspace that ordering `count` ids may take: two buffers each of
// 32-bit keys and positions, and the sort's own counters, at most 2 bytes a key and
// a fixed part. A bound that asks no device: programs are traced where there is none.
inline int64_t order_workspace_bytes(int64_t count) { return 18 * count + (int64_t{4} << 20); }

// `sampled_reads` of 0 says that the positions must be followed. Otherwise the list's
// reader must be launched as the order's dependent, and goes by worth_ordering (order.cuh).
struct OrderedPositions {
  const uint32_t* positions = nullptr;  // null: as given
  int sampled_reads = 0;
};

#ifdef JAXDIRECT_CUDA_MODULE
// Orders the positions 0..count-1 by their ids on `stream`, into the workspace.
// With `may_decline` the GPU decides by the plan's min_reads.
Status order_positions(cudaStream_t stream, const OrderPlan& plan, const RowIds& list,
                       bool may_decline, void* workspace, int64_t workspace_bytes,
                       OrderedPositions* ordered);

// kBuckets alone; *done is false where the GPU has no clusters of that size.
Status order_by_buckets(cudaStream_t stream, const OrderPlan& plan, const RowIds& list,
                        int sampled_reads, uint32_t* positions, bool* done);
#endif

}  // namespace jaxdirect::hostmem
