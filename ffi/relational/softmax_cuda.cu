// out[e, h] = exp(logits[e, h] - max) / sum, over the edges of each row.
//
// [num_edges, heads] -> [num_edges, heads]
//
// Lanes lie along the heads, so that no lane needs another: a lane walks the entries of its
// item's rows, first for the maximum and the sum (one pass, rescaled where the maximum grows),
// then to write. A piece of a heavy row leaves its maximum and sum; a second kernel joins those
// of the whole row, in order, for each piece, and writes.
//
// Bytes: logits read twice (the second time from the caches), edges, the output once.

#include "relational/softmax.h"
#include "relational/vector.cuh"
#include "relational/work.cuh"

namespace jaxdirect::relational {
namespace {

// A row's maximum and the sum of exp(logit - maximum).
struct Total {
  float largest = -INFINITY;
  float sum = 0;

  __device__ void add(float other_largest, float other_sum) {
    const float both = fmaxf(largest, other_largest);
    // A row of minus infinities alone keeps sum 0; NaN goes on to the result.
    if (both == -INFINITY) return;
    sum = sum * __expf(largest - both) + other_sum * __expf(other_largest - both);
    largest = both;
  }
};

struct Grid {
  int lanes;    // lanes of an item: a power of two
  dim3 blocks;  // y: runs of `lanes` heads
};

Status make_grid(const char* op, const Lists& lists, int64_t heads, Grid* grid) {
  grid->lanes = 1;
  while (grid->lanes < 32 && grid->lanes < heads) grid->lanes *= 2;
  return work_grid(op, lists.num_items, grid->lanes, ceil_div(heads, grid->lanes), &grid->blocks);
}

struct Place {
  int64_t item;
  int64_t head;
};

__device__ Place place(int lanes) {
  const int64_t thread = int64_t{blockIdx.x} * kWorkThreads + threadIdx.x;
  return {thread / lanes, int64_t{blockIdx.y} * lanes + thread % lanes};
}

__device__ int64_t edge_at(const int32_t* edges, const Lists& lists, int entry) {
  const int64_t edge = __ldg(edges + entry);
  return edge >= 0 && edge < lists.num_entries ? edge : -1;
}

template <typename T>
__device__ Total total_of(const SoftmaxArgs& args, int begin, int end, int64_t head) {
  const T* logits = static_cast<const T*>(args.logits) + head;
  Total total;
#pragma unroll 4
  for (int entry = begin; entry < end; ++entry) {
    const int64_t edge = edge_at(args.edges, args.lists, entry);
    if (edge >= 0) total.add(widen(logits[edge * args.heads]), 1.0f);
  }
  return total;
}

template <typename T>
__device__ void write_softmax(const SoftmaxArgs& args, int begin, int end, int64_t head,
                              const Total& total) {
  const T* logits = static_cast<const T*>(args.logits) + head;
  T* out = static_cast<T*>(args.out) + head;
#pragma unroll 4
  for (int entry = begin; entry < end; ++entry) {
    const int64_t edge = edge_at(args.edges, args.lists, entry);
    if (edge < 0) continue;
    const float logit = widen(logits[edge * args.heads]);
    // In a row of minus infinities alone every weight is 0.
    const float weight = logit == -INFINITY ? 0.0f : __expf(logit - total.largest) / total.sum;
    out[edge * args.heads] = narrow<T>(weight);
  }
}

template <typename T>
__global__ void __launch_bounds__(kWorkThreads) softmax_items(const SoftmaxArgs args, int lanes) {
  const auto [item, head] = place(lanes);
  const Work work = read_work(args.lists, item);
  if (work.rows == 0 || head >= args.heads) return;
  int begin = work.begin;
  for (int i = 0; i < work.rows; ++i) {
    const int end = end_of(args.lists, work, work.row + i);
    const Total total = total_of<T>(args, begin, end, head);
    if (work.partial >= 0) {
      float* partial = args.partials + work.partial * 2 * args.heads + head;
      partial[0] = total.largest;
      partial[args.heads] = total.sum;
    } else {
      write_softmax<T>(args, begin, end, head, total);
    }
    begin = end;
  }
}

// The heavy row that a piece belongs to: heavy rows ascend, and so do their partials.
__device__ HeavyRow heavy_of(const Lists& lists, int row) {
  int64_t low = 0;
  int64_t high = lists.num_heavy - 1;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    const int at = __ldg(lists.heavy + 3 * middle);
    if (at < 0 || at >= row) {  // padding lies behind
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  HeavyRow heavy = read_heavy(lists, low);
  if (heavy.row != row) heavy.count = 0;
  return heavy;
}

template <typename T>
__global__ void __launch_bounds__(kWorkThreads) softmax_pieces(const SoftmaxArgs args, int lanes) {
  const auto [item, head] = place(lanes);
  const Work work = read_work(args.lists, item);
  if (work.partial < 0 || head >= args.heads) return;
  const HeavyRow heavy = heavy_of(args.lists, work.row);
  Total total;
  const float* partials = args.partials + int64_t{heavy.first} * 2 * args.heads + head;
#pragma unroll 8
  for (int i = 0; i < heavy.count; ++i) {
    total.add(partials[i * 2 * args.heads], partials[i * 2 * args.heads + args.heads]);
  }
  write_softmax<T>(args, work.begin, work.end, head, total);
}

template <typename T>
__device__ float product_of(const SoftmaxBackwardArgs& args, int begin, int end, int64_t head) {
  const T* out = static_cast<const T*>(args.out) + head;
  const T* cotangent = static_cast<const T*>(args.cotangent) + head;
  float sum = 0;
#pragma unroll 4
  for (int entry = begin; entry < end; ++entry) {
    const int64_t edge = edge_at(args.edges, args.lists, entry);
    if (edge >= 0) sum += widen(out[edge * args.heads]) * widen(cotangent[edge * args.heads]);
  }
  return sum;
}

template <typename T>
__device__ void write_gradient(const SoftmaxBackwardArgs& args, int begin, int end, int64_t head,
                               float product) {
  const T* out = static_cast<const T*>(args.out) + head;
  const T* cotangent = static_cast<const T*>(args.cotangent) + head;
  T* grad = static_cast<T*>(args.grad) + head;
#pragma unroll 4
  for (int entry = begin; entry < end; ++entry) {
    const int64_t edge = edge_at(args.edges, args.lists, entry);
    if (edge < 0) continue;
    const int64_t at = edge * args.heads;
    grad[at] = narrow<T>(widen(out[at]) * (widen(cotangent[at]) - product));
  }
}

template <typename T>
__global__ void __launch_bounds__(kWorkThreads)
    gradient_items(const SoftmaxBackwardArgs args, int lanes) {
  const auto [item, head] = place(lanes);
  const Work work = read_work(args.lists, item);
  if (work.rows == 0 || head >= args.heads) return;
  int begin = work.begin;
  for (int i = 0; i < work.rows; ++i) {
    const int end = end_of(args.lists, work, work.row + i);
    const float product = product_of<T>(args, begin, end, head);
    if (work.partial >= 0) {
      args.partials[work.partial * args.heads + head] = product;
    } else {
      write_gradient<T>(args, begin, end, head, product);
    }
    begin = end;
  }
}

template <typename T>
__global__ void __launch_bounds__(kWorkThreads)
    gradient_pieces(const SoftmaxBackwardArgs args, int lanes) {
  const auto [item, head] = place(lanes);
  const Work work = read_work(args.lists, item);
  if (work.partial < 0 || head >= args.heads) return;
  const HeavyRow heavy = heavy_of(args.lists, work.row);
  const float* partials = args.partials + int64_t{heavy.first} * args.heads + head;
  float product = 0;
#pragma unroll 8
  for (int i = 0; i < heavy.count; ++i) product += partials[i * args.heads];
  write_gradient<T>(args, work.begin, work.end, head, product);
}

// Runs the kernel over items, and the one over pieces where there are any.
template <typename Args, typename Items, typename Pieces>
Status run(cudaStream_t stream, const char* op, const Args& args, void* out, const Items& items,
           const Pieces& pieces) {
  if (args.lists.num_entries == 0 || args.heads == 0) return Status::ok();
  // Padding entries belong to no item.
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaMemsetAsync(out, 0, args.lists.num_entries * args.heads * size_of(args.type), stream),
      op);
  if (args.lists.num_items == 0) return Status::ok();
  Grid grid;
  JAXDIRECT_RETURN_IF_ERROR(make_grid(op, args.lists, args.heads, &grid));
  items<<<grid.blocks, kWorkThreads, 0, stream>>>(args, grid.lanes);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), op);
  if (args.lists.num_heavy == 0) return Status::ok();
  pieces<<<grid.blocks, kWorkThreads, 0, stream>>>(args, grid.lanes);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), op);
  return Status::ok();
}

template <typename T>
Status forward(cudaStream_t stream, const SoftmaxArgs& args) {
  return run(stream, "edge_softmax", args, args.out, softmax_items<T>, softmax_pieces<T>);
}

template <typename T>
Status backward(cudaStream_t stream, const SoftmaxBackwardArgs& args) {
  return run(stream, "edge_softmax gradient", args, args.grad, gradient_items<T>,
             gradient_pieces<T>);
}

constexpr const char* kNoDouble =
    "edge_softmax: float64 has no CUDA kernel; use implementation='reference'";

}  // namespace

Status softmax(cudaStream_t stream, const SoftmaxArgs& args) {
  switch (args.type) {
    case FloatType::kF16:
      return forward<__half>(stream, args);
    case FloatType::kBF16:
      return forward<__nv_bfloat16>(stream, args);
    case FloatType::kF32:
      return forward<float>(stream, args);
    case FloatType::kF64:
      break;
  }
  return Status::error(kNoDouble);
}

Status softmax_backward(cudaStream_t stream, const SoftmaxBackwardArgs& args) {
  switch (args.type) {
    case FloatType::kF16:
      return backward<__half>(stream, args);
    case FloatType::kBF16:
      return backward<__nv_bfloat16>(stream, args);
    case FloatType::kF32:
      return backward<float>(stream, args);
    case FloatType::kF64:
      break;
  }
  return Status::error(kNoDouble);
}

}  // namespace jaxdirect::relational
