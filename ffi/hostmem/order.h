#pragma once

// When, and how finely, a list of row numbers is ordered before it is followed.
//
// Random rows of a large host table are bound by address translation, not by
// the link, so they are read in (nearly) ascending order. order.cc holds the
// rule, order_cuda.cu the sort.

#include <cstdint>

#include "common/status.h"

#ifdef JAXDIRECT_CUDA_MODULE
#include <cuda_runtime_api.h>
#endif

namespace jaxdirect::hostmem {

enum class Order : int64_t { kGiven = 0, kSorted = 1, kAuto = 2 };

// How one call visits its ids: as given, or ordered by bits [low_bit, high_bit).
struct OrderPlan {
  bool sorted = false;
  // Ids that are no rows: spread evenly over the order, so that filling their rows goes
  // on under the reads of the others; or all at the end.
  bool spread_invalid = false;
  int low_bit = 0;
  int high_bit = 0;

  int passes() const { return (high_bit - low_bit + 7) / 8; }  // 8 bits a radix pass
};

// `row_bytes` is what one id reads, `num_rows` how many ids are valid.
// Tables in device memory are never worth a sort under kAuto.
OrderPlan plan_order(Order order, bool on_host, int64_t num_rows, int64_t row_bytes, int64_t count);

// Bytes of device workspace that ordering `count` ids may take: two buffers each of
// 32-bit keys and positions, and the sort's own counters, at most 2 bytes a key and
// a fixed part. A bound that asks no device: programs are traced where there is none.
inline int64_t order_workspace_bytes(int64_t count) { return 18 * count + (int64_t{4} << 20); }

#ifdef JAXDIRECT_CUDA_MODULE
// Sorts the positions 0..count-1 by their ids, stably, on `stream`. *positions then
// points into the workspace.
Status order_positions(cudaStream_t stream, const OrderPlan& plan, const void* ids, bool ids_64,
                       int64_t count, int64_t num_rows, void* workspace, int64_t workspace_bytes,
                       const uint32_t** positions);
#endif

}  // namespace jaxdirect::hostmem
