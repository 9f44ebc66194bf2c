// out[row] = the largest weight * values[index] over the row's entries, and its gradient.
//
// [num_values, columns] -> [num_rows, columns], twice: the number and the entry it came from
//
// A warp takes a work item and 32 columns, a lane a column. Pieces of heavy rows leave partial
// results, which are joined in order. No atomics: the gradient of the values goes over the
// transposed lists and takes what names the edge.
//
// Bytes: a row of values per entry; in the gradient, a row of cotangent and of winners per entry.

#include "relational/join.cuh"
#include "relational/largest.h"
#include "relational/vector.cuh"
#include "relational/work.cuh"

namespace jaxdirect::relational {
namespace {

// Where a lane works; every lane of a warp has the same item.
struct Spot {
  Work work;
  int64_t column;
};

__device__ inline Spot find_spot(const Lists& lists) {
  const int64_t thread = int64_t{blockIdx.x} * kWorkThreads + threadIdx.x;
  return {read_work(lists, thread / 32), int64_t{blockIdx.y} * 32 + threadIdx.x % 32};
}

// The weight of an entry for a column; false where the entry counts nothing.
__device__ inline bool find_weight(const EntryWeights& weights, int entry, int64_t head,
                                   float* weight) {
  *weight = 1.0f;
  if (weights.data == nullptr) return true;
  const int row = weights.rows == nullptr ? entry : __ldg(weights.rows + entry);
  if (row < 0 || row >= weights.num_weights) return false;
  *weight = __ldg(weights.data + row * weights.heads + head);
  return true;
}

struct Best {
  float value = 0;
  int entry = -1;

  __device__ void add(const Best& other) {
    const bool larger = other.value > value || (isnan(other.value) && !isnan(value));
    if (other.entry >= 0 && (entry < 0 || larger)) *this = other;
  }
};

template <typename T>
__device__ void write_best(const LargestArgs& args, int row, int64_t column, const Best& best) {
  static_cast<T*>(args.out)[row * args.columns + column] = narrow<T>(best.value);
  args.winners[row * args.columns + column] = best.entry;
}

template <typename T>
__global__ void __launch_bounds__(kWorkThreads) largest_items(const LargestArgs args) {
  const auto [work, column] = find_spot(args.lists);
  if (work.rows == 0 || column >= args.columns) return;
  const int64_t head = column * args.weights.heads / args.columns;
  const T* values = static_cast<const T*>(args.values) + column;
  int begin = work.begin;
  for (int i = 0; i < work.rows; ++i) {
    const int end = end_of(args.lists, work, work.row + i);
    Best best;
#pragma unroll 4
    for (int entry = begin; entry < end; ++entry) {
      const int index = __ldg(args.lists.indices + entry);
      float weight;
      const bool counts =
          find_weight(args.weights, entry, head, &weight) && index >= 0 && index < args.num_values;
      const float value = widen(values[(counts ? index : 0) * args.columns]) * weight;
      best.add({value, counts ? entry : -1});
    }
    if (work.partial >= 0) {
      args.partials[work.partial * args.columns + column] = best.value;
      args.partial_winners[work.partial * args.columns + column] = best.entry;
    } else {
      write_best<T>(args, work.row + i, column, best);
    }
    begin = end;
  }
}

template <typename T>
__global__ void __launch_bounds__(kJoinThreads) join_largest(const LargestArgs args) {
  join_rows<Best, 1>(
      args.lists, args.columns,
      [&](int64_t partial, int64_t column) {
        const int64_t at = partial * args.columns + column;
        return Best{args.partials[at], args.partial_winners[at]};
      },
      [&](int row, int64_t column, const Best& best) { write_best<T>(args, row, column, best); });
}

template <typename T>
__global__ void __launch_bounds__(kWorkThreads) picked_items(const PickedSumArgs args) {
  const auto [work, column] = find_spot(args.lists);
  if (work.rows == 0 || column >= args.columns) return;
  const int64_t head = column * args.weights.heads / args.columns;
  const T* values = static_cast<const T*>(args.values) + column;
  const int32_t* winners = args.winners + column;
  int begin = work.begin;
  for (int i = 0; i < work.rows; ++i) {
    const int end = end_of(args.lists, work, work.row + i);
    float sum = 0;
#pragma unroll 4
    for (int entry = begin; entry < end; ++entry) {
      const int index = __ldg(args.lists.indices + entry);
      float weight;
      const bool counts =
          find_weight(args.weights, entry, head, &weight) && index >= 0 && index < args.num_values;
      const int64_t at = (counts ? index : 0) * args.columns;
      const bool picked = counts && __ldg(winners + at) == __ldg(args.edges + entry);
      if (picked) sum += weight * widen(values[at]);
    }
    if (work.partial >= 0) {
      args.partials[work.partial * args.columns + column] = sum;
    } else {
      static_cast<T*>(args.out)[(work.row + i) * args.columns + column] = narrow<T>(sum);
    }
    begin = end;
  }
}

// A lane takes a head.
template <typename T>
__global__ void __launch_bounds__(kWorkThreads) picked_dots(const PickedDotArgs args) {
  const auto [work, head] = find_spot(args.lists);
  if (work.rows == 0 || head >= args.heads) return;
  const int64_t width = args.columns / args.heads;
  int begin = work.begin;
  for (int i = 0; i < work.rows; ++i) {
    const int end = end_of(args.lists, work, work.row + i);
    const int64_t row = (work.row + i) * args.columns + head * width;
    for (int entry = begin; entry < end; ++entry) {
      const int index = __ldg(args.lists.indices + entry);
      const int to = args.to == nullptr ? entry : __ldg(args.to + entry);
      if (index < 0 || index >= args.num_b || to < 0 || to >= args.lists.num_entries) continue;
      const T* a = static_cast<const T*>(args.a) + row;
      const T* b = static_cast<const T*>(args.b) + index * args.columns + head * width;
      float sum = 0;
#pragma unroll 4
      for (int64_t c = 0; c < width; ++c) {
        if (__ldg(args.winners + row + c) == entry) sum += widen(a[c]) * widen(b[c]);
      }
      args.out[to * args.heads + head] = sum;
    }
    begin = end;
  }
}

// A warp for each item and 32 columns.
template <typename Args, typename Kernel>
Status launch_items(cudaStream_t stream, const Args& args, int64_t columns, const Kernel& kernel) {
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(
      work_grid("aggregate", args.lists.num_items, 32, ceil_div(columns, 32), &grid));
  kernel<<<grid, kWorkThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "aggregate");
  return Status::ok();
}

template <typename Run>
Status with_type(FloatType type, const Run& run) {
  switch (type) {
    case FloatType::kF16:
      return run.template operator()<__half>();
    case FloatType::kBF16:
      return run.template operator()<__nv_bfloat16>();
    case FloatType::kF32:
      return run.template operator()<float>();
    case FloatType::kF64:
      break;
  }
  return Status::error("aggregate: float64 has no CUDA kernel; use implementation='reference'");
}

Status fill(cudaStream_t stream, void* data, int value, int64_t bytes) {
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(data, value, bytes, stream), "aggregate");
  return Status::ok();
}

}  // namespace

Status largest(cudaStream_t stream, const LargestArgs& args) {
  const int64_t size = args.lists.num_rows * args.columns;
  if (size == 0) return Status::ok();
  if (args.num_values == 0) {
    JAXDIRECT_RETURN_IF_ERROR(fill(stream, args.out, 0, size * size_of(args.type)));
    return fill(stream, args.winners, 0xff, size * int64_t{sizeof(int32_t)});
  }
  if (args.lists.num_items == 0) return Status::error("aggregate: the lists have no items");
  return with_type(args.type, [&]<typename T>() -> Status {
    JAXDIRECT_RETURN_IF_ERROR(launch_items(stream, args, args.columns, largest_items<T>));
    if (args.lists.num_heavy == 0) return Status::ok();
    join_largest<T><<<join_grid(args.lists, args.columns), kJoinThreads, 0, stream>>>(args);
    JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "aggregate");
    return Status::ok();
  });
}

Status picked_sum(cudaStream_t stream, const PickedSumArgs& args) {
  const int64_t size = args.lists.num_rows * args.columns;
  if (size == 0) return Status::ok();
  if (args.num_values == 0) return fill(stream, args.out, 0, size * size_of(args.type));
  if (args.lists.num_items == 0) return Status::error("aggregate: the lists have no items");
  return with_type(args.type, [&]<typename T>() -> Status {
    JAXDIRECT_RETURN_IF_ERROR(launch_items(stream, args, args.columns, picked_items<T>));
    return launch_join<T>(stream, {args.lists, args.partials, args.columns,
                                   static_cast<T*>(args.out), 0, args.lists.num_rows});
  });
}

Status picked_dot(cudaStream_t stream, const PickedDotArgs& args) {
  if (args.lists.num_entries == 0) return Status::ok();
  // Padding entries belong to no row.
  JAXDIRECT_RETURN_IF_ERROR(
      fill(stream, args.out, 0, args.lists.num_entries * args.heads * int64_t{sizeof(float)}));
  if (args.lists.num_items == 0) return Status::ok();
  return with_type(args.type, [&]<typename T>() -> Status {
    return launch_items(stream, args, args.heads, picked_dots<T>);
  });
}

}  // namespace jaxdirect::relational
