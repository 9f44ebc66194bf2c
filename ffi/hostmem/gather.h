#pragma once

// rows[i] = table[ids[i]], or a fill pattern where ids[i] is no row of the table.

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
  int64_t num_rows = 0;
  int64_t row_bytes = 0;
  const void* ids = nullptr;  // [count], int32 or int64
  bool ids_64 = false;
  int64_t count = 0;
  std::byte* rows = nullptr;  // [count, row_bytes], aligned to the element
  uint64_t fill[2] = {0, 0};  // 16 bytes of the repeated fill element
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
