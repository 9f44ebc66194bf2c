#pragma once

// Partial results of heavy rows, joined in their order.

#include "common/cuda.h"
#include "relational/work.cuh"

namespace jaxdirect::relational {

inline constexpr int kJoinWarps = 8;
// A row of so few partials is one warp's work; more are cut into a range a warp.
inline constexpr int kFewPartials = 16;

// For every heavy row and column: finish(row, column, state), where state is State() with
// load(partial, column) added for each partial, in order (in ranges, whose states are then added
// in order). A block of kJoinWarps warps takes as many rows and 32 columns.
template <typename State, typename Load, typename Finish>
__device__ inline void join_rows(const Lists& lists, int64_t columns, const Load& load,
                                 const Finish& finish) {
  __shared__ State ranges[kJoinWarps][32];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int64_t column = int64_t{blockIdx.y} * 32 + lane;
  const int64_t first = int64_t{blockIdx.x} * kJoinWarps;
  const auto sum = [&](const HeavyRow& heavy, int begin, int end) {
    State state;
    if (column >= columns) return state;
#pragma unroll 4
    for (int i = begin; i < end; ++i) state.add(load(int64_t{heavy.first} + i, column));
    return state;
  };
  if (first + warp < lists.num_heavy) {
    const HeavyRow heavy = read_heavy(lists, first + warp);
    if (heavy.count > 0 && heavy.count <= kFewPartials) {
      const State state = sum(heavy, 0, heavy.count);
      if (column < columns) finish(heavy.row, column, state);
    }
  }
  for (int i = 0; i < kJoinWarps && first + i < lists.num_heavy; ++i) {
    const HeavyRow heavy = read_heavy(lists, first + i);
    if (heavy.count <= kFewPartials) continue;
    const int length = (heavy.count + kJoinWarps - 1) / kJoinWarps;
    const int begin = min(warp * length, heavy.count);
    State state = sum(heavy, begin, min(begin + length, heavy.count));
    ranges[warp][lane] = state;
    __syncthreads();
    if (warp == 0 && column < columns) {
      for (int range = 1; range < kJoinWarps; ++range) state.add(ranges[range][lane]);
      finish(heavy.row, column, state);
    }
    __syncthreads();
  }
}

inline dim3 join_grid(const Lists& lists, int64_t columns) {
  return dim3(static_cast<unsigned>(ceil_div(lists.num_heavy, kJoinWarps)),
              static_cast<unsigned>(ceil_div(columns, 32)));
}

}  // namespace jaxdirect::relational
