#pragma once

// A work item of Lists, checked, and the launch of one group of lanes per item.

#include <algorithm>
#include <cstdint>

#include "common/cuda.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

// Entries [begin, end) of `rows` whole rows from `row` on, or of a piece of one (partial >= 0).
struct Work {
  int row = 0;
  int begin = 0;
  int end = 0;
  int rows = 0;  // 0: nothing to do
  int64_t partial = -1;
};

__device__ inline Work read_work(const Lists& lists, int64_t item) {
  Work work;
  if (item >= lists.num_items) return work;
  const int4 packed = __ldg(reinterpret_cast<const int4*>(lists.items) + item);
  if (packed.w == 0 || packed.x < 0 || packed.x >= lists.num_rows) return work;
  work.row = packed.x;
  work.end = static_cast<int>(min(max(int64_t{packed.z}, int64_t{0}), lists.num_entries));
  work.begin = min(max(packed.y, 0), work.end);
  if (packed.w > 0) {
    work.rows = static_cast<int>(min(int64_t{packed.w}, lists.num_rows - packed.x));
  } else {
    if (~packed.w >= lists.num_partials) return work;
    work.partial = ~packed.w;
    work.rows = 1;
  }
  return work;
}

// Where the entries of a row end: of a whole row as the plan says, of a piece where it ends.
__device__ inline int end_of(const Lists& lists, const Work& work, int row) {
  if (work.partial >= 0) return work.end;
  return min(max(__ldg(lists.indptr + row + 1), work.begin), work.end);
}

// The rows of an item, one after the other.
struct Rows {
  __device__ Rows(const Lists& lists, const Work& work)
      : row(work.row), left(work.rows), end(end_of(lists, work, work.row)) {}

  // To the next row, if there is one.
  __device__ bool advance(const Lists& lists, const Work& work) {
    if (--left <= 0) return false;
    end = end_of(lists, work, ++row);
    return true;
  }

  int row;
  int left;  // this one and those behind it
  int end;   // of its entries
};

// A heavy row and its partials, checked.
struct HeavyRow {
  int row = 0;
  int first = 0;
  int count = 0;  // 0: nothing to do
};

__device__ inline HeavyRow read_heavy(const Lists& lists, int64_t index) {
  HeavyRow heavy;
  heavy.row = __ldg(lists.heavy + 3 * index);
  heavy.first = __ldg(lists.heavy + 3 * index + 1);
  heavy.count = __ldg(lists.heavy + 3 * index + 2);
  if (heavy.row < 0 || heavy.row >= lists.num_rows || heavy.first < 0 || heavy.count < 0 ||
      int64_t{heavy.first} + heavy.count > lists.num_partials) {
    heavy.count = 0;
  }
  return heavy;
}

inline constexpr int kWorkThreads = 256;

inline Status work_grid(const char* op, int64_t groups, int64_t lanes, int64_t column_blocks,
                        dim3* grid) {
  const int64_t blocks = ceil_div(groups * lanes, kWorkThreads);
  if (blocks > INT32_MAX || column_blocks > 65535) {
    return Status::error(op, ": too much work for one launch: ", groups, " items, ", column_blocks,
                         " column blocks");
  }
  *grid = dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(column_blocks));
  return Status::ok();
}

inline bool aligned16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

}  // namespace jaxdirect::relational
