// out[row] = sum over entries of weight * values[index]
//
// [num_values, width] -> [num_out, columns]
//
// A group of kLanes lanes takes a work item: up to kPiece entries of whole rows, or a piece of a
// heavy row. Lanes lie along the columns, 16 bytes each; the group reads its indices together and
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

// Whether a row of the lists has a row in the output.
__device__ inline bool is_wanted(const SumArgs& args, int64_t row) {
  return row >= args.first_row && row < args.first_row + args.num_out;
}

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
  int row = work.row;
  int row_end = end_of(args.lists, work, row);
  int rows_left = work.rows;
  const auto finish_row = [&] {
    if (work.partial >= 0) {
      if (active) {
        float* partial = args.partials + work.partial * args.columns + column;
#pragma unroll
        for (int i = 0; i < kCount; ++i) partial[i] = sums[i];
      }
    } else {
      if (active && is_wanted(args, row)) {
        store<T, kCount>(out + (row - args.first_row) * args.columns, sums);
      }
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] = 0;
    if (--rows_left > 0) row_end = end_of(args.lists, work, ++row);
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
        while (entry >= row_end && rows_left > 1) finish_row();
      },
      [&](const Data& data, const Entry&) {
#pragma unroll
        for (int j = 0; j < kCount; ++j) sums[j] += data.weight * data.row[j];
      });
  while (rows_left > 0) finish_row();
}

struct Sum {
  float value = 0;

  __device__ void add(const Sum& other) { value += other.value; }
};

template <typename T>
__global__ void __launch_bounds__(32 * kJoinWarps) add_partials(const SumArgs args) {
  join_rows<Sum>(
      args.lists, args.columns,
      [&](int64_t partial, int64_t column) {
        return Sum{args.partials[partial * args.columns + column]};
      },
      [&](int row, int64_t column, Sum sum) {
        if (!is_wanted(args, row)) return;
        static_cast<T*>(args.out)[(row - args.first_row) * args.columns + column] =
            narrow<T>(sum.value);
      });
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
  if (args.lists.num_heavy == 0) return Status::ok();
  add_partials<T><<<join_grid(args.lists, args.columns), 32 * kJoinWarps, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "aggregate");
  return Status::ok();
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
