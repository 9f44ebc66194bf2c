#pragma once

// rows[i] = table[ids[i]], or a fill pattern where ids[i] is no row of the table. Rows
// that have a slot in a cache (list.slots) come from there.

#include <cstddef>
#include <cstdint>

#include "common/status.h"
#include "hostmem/order.h"

#ifndef JAXDIRECT_CUDA_MODULE
#include "common/parallel.h"
#endif

namespace jaxdirect::hostmem {

struct GatherArgs {
  const std::byte* table = nullptr;  // [num_rows, row_bytes], any alignment
  int64_t row_bytes = 0;
  RowIds list;
  const std::byte* cache = nullptr;  // [list.num_slots, row_bytes]
  std::byte* rows = nullptr;         // [list.count, row_bytes], aligned to the element
  uint64_t fill[2] = {0, 0};         // 16 bytes of the repeated fill element
  Order order = Order::kAuto;
  int64_t max_blocks = 0;  // thread blocks of the reading kernel; 0 fills the GPU
  void* workspace = nullptr;
  int64_t workspace_bytes = 0;
};

#ifdef JAXDIRECT_CUDA_MODULE
Status gather(cudaStream_t stream, const GatherArgs& args);
#else
Status gather(const Executor& executor, const GatherArgs& args);
#endif

}  // namespace jaxdirect::hostmem
