#pragma once

// Partial results of heavy rows, joined in their order.

#include "common/cuda.h"
#include "relational/vector.cuh"
#include "relational/work.cuh"

namespace jaxdirect::relational {

// A block takes kJoinRows heavy rows, each with kJoinLanes threads of kCount columns.
inline constexpr int kJoinRows = 16;
inline constexpr int kJoinLanes = 16;
inline constexpr int kJoinThreads = kJoinRows * kJoinLanes;
// A row of so few partials is the work of its own threads; more are cut into ranges for all.
inline constexpr int kFewPartials = 16;

// The sum of the partials [begin, end), in order, kAhead of which are on their way together.
template <typename State, int kAhead, typename Load>
__device__ inline State add_range(const Load& load, int64_t column, int begin, int end) {
  State state;
#pragma unroll 1
  for (int base = begin; base < end; base += kAhead) {
    State loaded[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) loaded[i] = load(min(base + i, end - 1), column);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (base + i < end) state.add(loaded[i]);
    }
  }
  return state;
}

// For every heavy row and run of kCount columns: finish(row, column, state), where state is State()
// with load(partial, column) added for each partial, in order (in ranges, whose states are then
// added in order).
template <typename State, int kCount, typename Load, typename Finish>
__device__ inline void join_rows(const Lists& lists, int64_t columns, const Load& load,
                                 const Finish& finish) {
  __shared__ State ranges[kJoinRows][kJoinLanes];
  const int lane = threadIdx.x % kJoinLanes;
  const int group = threadIdx.x / kJoinLanes;
  const int64_t column = (int64_t{blockIdx.y} * kJoinLanes + lane) * kCount;
  const int64_t first = int64_t{blockIdx.x} * kJoinRows;
  const bool active = column < columns;
  HeavyRow mine;
  if (first + group < lists.num_heavy) mine = read_heavy(lists, first + group);
  if (active && mine.count > 0 && mine.count <= kFewPartials) {
    finish(mine.row, column,
           add_range<State, 4>(load, column, mine.first, mine.first + mine.count));
  }
  if (!__syncthreads_or(mine.count > kFewPartials)) return;
  for (int i = 0; i < kJoinRows && first + i < lists.num_heavy; ++i) {
    const HeavyRow heavy = read_heavy(lists, first + i);
    if (heavy.count <= kFewPartials) continue;
    const int length = (heavy.count + kJoinRows - 1) / kJoinRows;
    const int begin = heavy.first + min(group * length, heavy.count);
    const int end = min(begin + length, heavy.first + heavy.count);
    State state;
    if (active) state = add_range<State, 8>(load, column, begin, end);
    ranges[group][lane] = state;
    __syncthreads();
    if (group == 0 && active) {
      for (int range = 1; range < kJoinRows; ++range) state.add(ranges[range][lane]);
      finish(heavy.row, column, state);
    }
    __syncthreads();
  }
}

template <int kCount = 1>
dim3 join_grid(const Lists& lists, int64_t columns) {
  return dim3(static_cast<unsigned>(ceil_div(lists.num_heavy, kJoinRows)),
              static_cast<unsigned>(ceil_div(columns, kJoinLanes * kCount)));
}

template <int kCount>
struct Sums {
  float values[kCount] = {};

  __device__ void add(const Sums& other) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] += other.values[i];
  }
};

// out[row - first_row] = the sum of a heavy row's partials, for the rows that `out` has.
template <typename T>
struct PartialSums {
  Lists lists;
  const float* partials;  // [num_partials, columns]
  int64_t columns;
  T* out;  // [num_out, columns]
  int64_t first_row;
  int64_t num_out;
};

template <typename T, int kCount>
__global__ void __launch_bounds__(kJoinThreads) add_partials(const PartialSums<T> args) {
  join_rows<Sums<kCount>, kCount>(
      args.lists, args.columns,
      [&](int64_t partial, int64_t column) {
        Raw<float, kCount> loaded;
        loaded.load(args.partials + partial * args.columns + column);
        Sums<kCount> sums;
#pragma unroll
        for (int i = 0; i < kCount; ++i) sums.values[i] = loaded[i];
        return sums;
      },
      [&](int64_t row, int64_t column, const Sums<kCount>& sums) {
        const int64_t to = row - args.first_row;
        if (to < 0 || to >= args.num_out) return;
        store<T, kCount>(args.out + to * args.columns + column, sums.values);
      });
}

template <typename T>
Status launch_join(cudaStream_t stream, const PartialSums<T>& args) {
  if (args.lists.num_heavy == 0) return Status::ok();
  if (args.columns % 4 == 0 && aligned16(args.partials) && aligned16(args.out)) {
    add_partials<T, 4><<<join_grid<4>(args.lists, args.columns), kJoinThreads, 0, stream>>>(args);
  } else {
    add_partials<T, 1><<<join_grid(args.lists, args.columns), kJoinThreads, 0, stream>>>(args);
  }
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "aggregate");
  return Status::ok();
}

}  // namespace jaxdirect::relational
