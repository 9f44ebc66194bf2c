// out[weight_rows[e], h] = <a[row of e], b[index of e]> over the columns of head h (SDDMM).
//
// [num_rows, columns], [num_b, columns] -> [num_entries, heads]
//
// A group of kLanes lanes takes a work item; lanes lie along the columns and keep the row of a
// while the rows of b stream by, kAhead in flight. A head's columns lie on a power of two of
// neighbouring lanes (or fill the group), else `dot_entries` gives every entry and head a thread.
//
// Bytes: a row of b per entry, a once, the output once.

#include "relational/sum.h"
#include "relational/vector.cuh"
#include "relational/work.cuh"

namespace jaxdirect::relational {
namespace {

constexpr int kAhead = 4;

__device__ int64_t out_row(const DotArgs& args, int64_t entry) {
  const int64_t row = args.weight_rows == nullptr ? entry : __ldg(args.weight_rows + entry);
  return row >= 0 && row < args.lists.num_entries ? row : -1;
}

template <typename T, int kLanes>
__global__ void __launch_bounds__(kWorkThreads) dot_items(const DotArgs args, int head_lanes) {
  constexpr int kCount = kVector<T>;
  const int64_t thread = int64_t{blockIdx.x} * kWorkThreads + threadIdx.x;
  const unsigned mask = group_mask<kLanes>();
  const int lane = threadIdx.x % kLanes;
  const Work work = read_work(args.lists, thread / kLanes);
  if (work.rows == 0) return;
  const int64_t column = (int64_t{blockIdx.y} * kLanes + lane) * kCount;
  const bool active = column < args.columns;
  const int64_t head = active ? column * args.heads / args.columns : 0;
  const T* a = static_cast<const T*>(args.a) + column;
  const T* b = static_cast<const T*>(args.b) + column;

  Rows rows(args.lists, work);
  Raw<T, kCount> left;
  left.clear();
  if (active) left.load(a + rows.row * args.columns);
  for (int base = work.begin; base < work.end; base += kAhead) {
    Raw<T, kCount> right[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int entry = min(base + i, work.end - 1);
      const int index = __ldg(args.lists.indices + entry);
      right[i].clear();
      if (active && index >= 0 && index < args.num_b) right[i].load(b + index * args.columns);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int entry = base + i;
      if (entry >= work.end) break;
      while (entry >= rows.end && rows.left > 1) {
        rows.advance(args.lists, work);
        if (active) left.load(a + rows.row * args.columns);
      }
      float product = 0;
#pragma unroll
      for (int j = 0; j < kCount; ++j) product += left[j] * right[i][j];
      product = sum_lanes(mask, product, head_lanes);
      const int64_t to = out_row(args, entry);
      if (active && lane % head_lanes == 0 && to >= 0) args.out[to * args.heads + head] = product;
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kWorkThreads) dot_entries(const DotArgs args) {
  const int64_t thread = int64_t{blockIdx.x} * kWorkThreads + threadIdx.x;
  const int64_t item = thread / args.heads;
  const int64_t head = thread % args.heads;
  const Work work = read_work(args.lists, item);
  if (work.rows == 0) return;
  const int64_t head_columns = args.columns / args.heads;
  Rows rows(args.lists, work);
  for (int entry = work.begin; entry < work.end; ++entry) {
    while (entry >= rows.end && rows.left > 1) rows.advance(args.lists, work);
    const int index = __ldg(args.lists.indices + entry);
    float product = 0;
    if (index >= 0 && index < args.num_b) {
      const T* a = static_cast<const T*>(args.a) + rows.row * args.columns + head * head_columns;
      const T* b = static_cast<const T*>(args.b) + index * args.columns + head * head_columns;
      for (int64_t i = 0; i < head_columns; ++i) product += widen(a[i]) * widen(b[i]);
    }
    const int64_t to = out_row(args, entry);
    if (to >= 0) args.out[to * args.heads + head] = product;
  }
}

template <typename T, int kLanes>
Status launch_items(cudaStream_t stream, const DotArgs& args, int64_t head_lanes) {
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(work_grid("aggregate gradient", args.lists.num_items, kLanes,
                                      ceil_div(args.columns, kVector<T> * kLanes), &grid));
  dot_items<T, kLanes><<<grid, kWorkThreads, 0, stream>>>(args, static_cast<int>(head_lanes));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "aggregate gradient");
  return Status::ok();
}

template <typename T>
Status run(cudaStream_t stream, const DotArgs& args) {
  const int64_t head_columns = args.columns / args.heads;
  const int64_t head_lanes = head_columns / kVector<T>;
  const bool power = head_lanes > 0 && (head_lanes & (head_lanes - 1)) == 0;
  const bool vectors = head_columns % kVector<T> == 0 && power && head_lanes <= 32 &&
                       aligned16(args.a) && aligned16(args.b);
  const int64_t lanes = args.columns / kVector<T>;
  if (vectors && lanes <= 8) return launch_items<T, 8>(stream, args, head_lanes);
  if (vectors && lanes <= 16) return launch_items<T, 16>(stream, args, head_lanes);
  if (vectors) return launch_items<T, 32>(stream, args, head_lanes);
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(
      work_grid("aggregate gradient", args.lists.num_items, args.heads, 1, &grid));
  dot_entries<T><<<grid, kWorkThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "aggregate gradient");
  return Status::ok();
}

}  // namespace

Status dot(cudaStream_t stream, const DotArgs& args) {
  if (args.lists.num_entries == 0) return Status::ok();
  // Padding entries belong to no item.
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaMemsetAsync(args.out, 0, args.lists.num_entries * args.heads * sizeof(float), stream),
      "aggregate gradient");
  if (args.columns == 0 || args.lists.num_items == 0) return Status::ok();
  switch (args.type) {
    case FloatType::kF16:
      return run<__half>(stream, args);
    case FloatType::kBF16:
      return run<__nv_bfloat16>(stream, args);
    case FloatType::kF32:
      return run<float>(stream, args);
    case FloatType::kF64:
      break;
  }
  return Status::error(
      "aggregate gradient: float64 has no CUDA kernel; use implementation='reference'");
}

}  // namespace jaxdirect::relational
