// out[row] = sum over entries of weight * values[index]
//
// [num_values, width] -> [num_out, columns]
//
// A group of kLanes lanes takes a work item: up to a piece of entries of whole rows, or a piece of
// a heavy row. Lanes lie along the columns, 16 bytes each; the group reads its indices together and
// keeps kAhead rows in flight, across the ends of rows, so that short rows cost no latency of
// their own. Pieces leave float32 partials, which `add_partials` joins in order. No atomics.
//
// Bytes: a row of values per entry, indices and weights, the output once. The rows decide.

#include "relational/join.cuh"
#include "relational/stream.cuh"
#include "relational/sum.h"
#include "relational/vector.cuh"
#include "relational/work.cuh"

namespace jaxdirect::relational {
namespace {

constexpr int kAhead = 4;

template <typename T, int kCount, int kLanes>
__global__ void __launch_bounds__(kWorkThreads, 4) sum_items(const SumArgs args) {
  const int64_t thread = int64_t{blockIdx.x} * kWorkThreads + threadIdx.x;
  const unsigned mask = group_mask<kLanes>();
  const int lane = threadIdx.x % kLanes;
  const Work work = read_work(args.lists, thread / kLanes);
  if (work.rows == 0 || work.row >= args.first_row + args.num_out ||
      work.row + work.rows <= args.first_row) {
    return;
  }
  const int64_t column = (int64_t{blockIdx.y} * kLanes + lane) * kCount;
  const bool active = column < args.columns;
  const int64_t head = active ? column * args.heads / args.columns : 0;
  const T* values = static_cast<const T*>(args.values) + args.first_column + column;
  T* out = static_cast<T*>(args.out) + column;

  float sums[kCount] = {};
  Rows rows(args.lists, work);
  const auto finish_row = [&] {
    if (work.partial >= 0) {
      if (active) {
        float* partial = args.partials + work.partial * args.columns + column;
#pragma unroll
        for (int i = 0; i < kCount; ++i) partial[i] = sums[i];
      }
    } else {
      const int64_t to = rows.row - args.first_row;
      if (active && to >= 0 && to < args.num_out) {
        store<T, kCount>(out + to * args.columns, sums);
      }
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] = 0;
    rows.advance(args.lists, work);
  };

  struct Data {
    Raw<T, kCount> row;
    float weight;
  };
  const bool one_weight = args.weights != nullptr && args.heads == 1;
  const bool head_weights = args.weights != nullptr && args.heads > 1;
  stream<Data, kLanes, kAhead, 1>(
      mask, work.begin, work.end,
      [&](int entry) {
        Entry fetched;
        fetched.index = __ldg(args.lists.indices + entry);
        if (fetched.index >= args.num_values) fetched.index = -1;
        if (args.weights == nullptr) return fetched;
        const int row = args.weight_rows == nullptr ? entry : __ldg(args.weight_rows + entry);
        if (row < 0 || row >= args.num_weights) {
          fetched.index = -1;
        } else {
          fetched.first = one_weight ? __float_as_int(__ldg(args.weights + row)) : row;
        }
        return fetched;
      },
      [&](Data* data, const Entry& entry) {
        data->row.clear();
        if (active) data->row.load(values + entry.index * args.width);
        data->weight = one_weight ? __int_as_float(entry.first) : 1.0f;
        if (head_weights) data->weight = __ldg(args.weights + entry.first * args.heads + head);
      },
      [&](int entry) {
        while (entry >= rows.end && rows.left > 1) finish_row();
      },
      [&](const Data& data, const Entry&) {
#pragma unroll
        for (int j = 0; j < kCount; ++j) sums[j] += data.weight * data.row[j];
      });
  while (rows.left > 0) finish_row();
}

template <typename T, int kCount, int kLanes>
Status launch_items(cudaStream_t stream, const SumArgs& args) {
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(work_grid("aggregate", args.lists.num_items, kLanes,
                                      ceil_div(args.columns, kCount * kLanes), &grid));
  sum_items<T, kCount, kLanes><<<grid, kWorkThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "aggregate");
  return Status::ok();
}

template <typename T>
Status run(cudaStream_t stream, const SumArgs& args) {
  constexpr int kCount = kVector<T>;
  const bool vectors = args.width % kCount == 0 && args.first_column % kCount == 0 &&
                       (args.columns / args.heads) % kCount == 0 && aligned16(args.values) &&
                       aligned16(args.out);
  const int64_t lanes = ceil_div(args.columns, vectors ? kCount : 1);
  if (!vectors) {
    JAXDIRECT_RETURN_IF_ERROR(lanes <= 8 ? (launch_items<T, 1, 8>(stream, args))
                                         : (launch_items<T, 1, 32>(stream, args)));
  } else if (lanes <= 4) {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kCount, 4>(stream, args)));
  } else if (lanes <= 8) {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kCount, 8>(stream, args)));
  } else if (lanes <= 16) {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kCount, 16>(stream, args)));
  } else {
    JAXDIRECT_RETURN_IF_ERROR((launch_items<T, kCount, 32>(stream, args)));
  }
  return launch_join<T>(stream, {args.lists, args.partials, args.columns, static_cast<T*>(args.out),
                                 args.first_row, args.num_out});
}

}  // namespace

Status sum(cudaStream_t stream, const SumArgs& args) {
  if (args.columns == 0 || args.num_out == 0) return Status::ok();
  if (args.num_values == 0) {
    JAXDIRECT_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(args.out, 0, args.num_out * args.columns * size_of(args.type), stream),
        "aggregate");
    return Status::ok();
  }
  if (args.lists.num_items == 0) return Status::error("aggregate: the lists have no items");
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
  return Status::error("aggregate: float64 has no CUDA kernel; use implementation='reference'");
}

}  // namespace jaxdirect::relational
