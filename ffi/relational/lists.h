#pragma once

// The graph's structure as kernels see it. The host builds it once (plan.h); kernels check
// every number they follow, because an exported program can bring any.

#include <cstdint>

#ifdef JAXDIRECT_CUDA_MODULE
#include <cuda_runtime_api.h>
#else
#include "common/parallel.h"
#endif

namespace jaxdirect::relational {

#ifdef JAXDIRECT_CUDA_MODULE
using Context = cudaStream_t;
#else
using Context = const Executor&;
#endif

// The most entries that one work item of so many entries sums: fewer where a GPU would have too few
// items to hide a row's latency behind another's.
inline int64_t piece_of(int64_t entries) {
  constexpr int64_t kMost = 64;
  constexpr int64_t kLeast = 16;
  constexpr int64_t kManyItems = 1 << 14;
  int64_t piece = kMost;
  while (piece > kLeast && entries < piece * kManyItems) piece /= 2;
  return piece;
}
// The most rows in such an item.
inline int64_t item_rows_of(int64_t entries) { return piece_of(entries) / 2; }
// Compact rows ("slots") come in tiles of one weight each.
inline constexpr int64_t kTile = 64;

// Rows that each sum entries, in CSR, cut into items of like size.
//
// Item (row, begin, end, code): with code >= 1 the entries [begin, end) of `code` whole rows;
// with code < 0 a piece of one heavy row, whose result is partial number ~code. A heavy row
// (row, first partial, partials) is the sum of its partials, in their order.
struct Lists {
  const int32_t* indptr = nullptr;   // [num_rows + 1]
  const int32_t* indices = nullptr;  // [num_entries]; out of range: the entry counts nothing
  const int32_t* items = nullptr;    // [num_items, 4]
  const int32_t* heavy = nullptr;    // [num_heavy, 3]
  int64_t num_rows = 0;
  int64_t num_entries = 0;
  int64_t num_items = 0;
  int64_t num_heavy = 0;
  int64_t num_partials = 0;
};

// Rows of slots: data[nodes[s]], or data[s - first_slot]. A slot without a node (negative) has no
// row, whatever lies there.
struct SlotRows {
  const void* data = nullptr;  // [num_rows, dim]
  int64_t num_rows = 0;
  bool by_node = false;
  int64_t first_slot = 0;
};

}  // namespace jaxdirect::relational
