#pragma once

// table[ids[i]] += rows[i] over a zero table, summed in the order of i: the transpose
// of gather, with the same bits in every run.

#include <cstddef>
#include <cstdint>

#include "common/float_type.h"
#include "common/status.h"
#include "hostmem/order.h"

#ifndef JAXDIRECT_CUDA_MODULE
#include "common/parallel.h"
#endif

namespace jaxdirect::hostmem {

struct ScatterAddArgs {
  const void* rows = nullptr;  // [list.count, columns]
  RowIds list;                 // ids that are no rows of the table are dropped
  int64_t columns = 0;
  FloatType type = FloatType::kF32;
  void* table = nullptr;  // [list.num_rows, columns]
  void* workspace = nullptr;
  int64_t workspace_bytes = 0;
};

// Sorted entries that one thread block sums, and the partial sums it may leave behind:
// one of its first id, begun in an earlier chunk, and one of its last.
inline constexpr int64_t kScatterChunk = 64;

inline int64_t scatter_workspace_bytes(int64_t count, int64_t columns) {
  const int64_t chunks = (count + kScatterChunk - 1) / kScatterChunk;
  return order_workspace_bytes(count) + chunks * 2 * columns * int64_t{sizeof(double)} + 256;
}

#ifdef JAXDIRECT_CUDA_MODULE
Status scatter_add(cudaStream_t stream, const ScatterAddArgs& args);
#else
Status scatter_add(const Executor& executor, const ScatterAddArgs& args);
#endif

}  // namespace jaxdirect::hostmem
