// table[id] = sum of rows[p] over the positions p with ids[p] == id, in ascending p.
//
// [count, columns] -> [num_rows, columns]
//
// Positions are sorted stably by id, all bits. A chunk is kScatterChunk sorted entries;
// threads along x take columns, along y chunks. `sum_chunks` writes every id whose
// entries lie inside one chunk, and leaves a partial sum for an id that goes on over a
// chunk's edge: slot 0 for the chunk's first id, slot 1 for its last. `join_chunks` adds
// those in the order of the chunks. No atomics; the order of addition is fixed by the ids.
//
// Bytes: rows read once, touched table rows written once, the table zeroed, and at most
// 2 / kScatterChunk of the rows' number in partial sums.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "common/cuda.h"
#include "hostmem/scatter_add.h"

namespace jaxdirect::hostmem {
namespace {

constexpr int kThreads = 128;

struct Sorted {
  const uint32_t* positions;
  RowIds list;
  int64_t columns;
  int64_t num_chunks;
};

// The id of sorted entry i; -1 for entries outside the list and ids that are no rows.
__device__ int64_t id_at(const Sorted& sorted, int64_t i) {
  if (i < 0 || i >= sorted.list.count) return -1;
  const int64_t id = sorted.list.ids[sorted.positions[i]];
  return sorted.list.is_row(id) ? id : -1;
}

__device__ float widen(__half value) { return __half2float(value); }
__device__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ float widen(float value) { return value; }
__device__ double widen(double value) { return value; }

template <typename Value, typename Sum>
__device__ Value narrow(Sum sum) {
  if constexpr (std::is_same_v<Value, __half>) {
    return __float2half_rn(sum);
  } else if constexpr (std::is_same_v<Value, __nv_bfloat16>) {
    return __float2bfloat16_rn(sum);
  } else {
    return sum;
  }
}

template <typename Value, typename Sum>
__global__ void __launch_bounds__(kThreads)
    sum_chunks(const Sorted sorted, const Value* rows, Value* table, Sum* partials) {
  const int64_t chunk = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (chunk >= sorted.num_chunks) return;
  const int64_t first = chunk * kScatterChunk;
  const int64_t last = min(first + kScatterChunk, sorted.list.count);
  const int64_t id_before = id_at(sorted, first - 1);
  const int64_t id_after = id_at(sorted, last);

  for (int64_t column = int64_t{blockIdx.y} * blockDim.x + threadIdx.x; column < sorted.columns;
       column += int64_t{gridDim.y} * blockDim.x) {
    Sum sum = 0;
    bool is_first = true;
    int64_t id = id_at(sorted, first);
    for (int64_t i = first; i < last && id >= 0; ++i) {
      sum += widen(rows[int64_t{sorted.positions[i]} * sorted.columns + column]);
      const int64_t next = i + 1 < last ? id_at(sorted, i + 1) : id_after;
      if (i + 1 < last && next == id) continue;
      const bool begun_before = is_first && id_before == id;
      const bool goes_on = i + 1 == last && id_after == id;
      if (begun_before || goes_on) {
        partials[(2 * chunk + (is_first ? 0 : 1)) * sorted.columns + column] = sum;
      } else {
        table[id * sorted.columns + column] = narrow<Value, Sum>(sum);
      }
      sum = 0;
      is_first = false;
      id = next;
    }
  }
}

// Works on ids that begin in this chunk and go on in the next.
template <typename Value, typename Sum>
__global__ void __launch_bounds__(kThreads)
    join_chunks(const Sorted sorted, const Sum* partials, Value* table) {
  const int64_t chunk = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (chunk + 1 >= sorted.num_chunks) return;  // nothing goes on after the last one
  const int64_t first = chunk * kScatterChunk;
  const int64_t id = id_at(sorted, first + kScatterChunk - 1);
  if (id < 0 || id_at(sorted, first + kScatterChunk) != id) return;
  const bool fills_chunk = id_at(sorted, first) == id;
  if (fills_chunk && id_at(sorted, first - 1) == id) return;  // begun earlier

  for (int64_t column = int64_t{blockIdx.y} * blockDim.x + threadIdx.x; column < sorted.columns;
       column += int64_t{gridDim.y} * blockDim.x) {
    Sum sum = partials[(2 * chunk + (fills_chunk ? 0 : 1)) * sorted.columns + column];
    for (int64_t next = chunk + 1; next < sorted.num_chunks; ++next) {
      if (id_at(sorted, next * kScatterChunk) != id) break;
      sum += partials[2 * next * sorted.columns + column];
    }
    table[id * sorted.columns + column] = narrow<Value, Sum>(sum);
  }
}

template <typename Value, typename Sum>
Status run(cudaStream_t stream, const ScatterAddArgs& args, const Sorted& sorted, void* partials) {
  auto* table = static_cast<Value*>(args.table);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaMemsetAsync(table, 0, args.list.num_rows * args.columns * sizeof(Value), stream),
      "scatter_add");
  if (args.list.count == 0) return Status::ok();

  int wide = 1;
  while (wide < kThreads && wide < args.columns) wide *= 2;
  const dim3 block(wide, kThreads / wide);
  const int64_t chunk_blocks = ceil_div(sorted.num_chunks, block.y);
  if (chunk_blocks > INT32_MAX)
    return Status::error("scatter_add: too many rows: ", args.list.count);
  const int64_t column_blocks = std::min<int64_t>(ceil_div(args.columns, wide), 65535);
  const dim3 grid(static_cast<unsigned>(chunk_blocks), static_cast<unsigned>(column_blocks));
  auto* sums = static_cast<Sum*>(partials);
  sum_chunks<Value, Sum>
      <<<grid, block, 0, stream>>>(sorted, static_cast<const Value*>(args.rows), table, sums);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "scatter_add");
  join_chunks<Value, Sum><<<grid, block, 0, stream>>>(sorted, sums, table);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "scatter_add");
  return Status::ok();
}

}  // namespace

Status scatter_add(cudaStream_t stream, const ScatterAddArgs& args) {
  const int64_t count = args.list.count;
  const int64_t num_rows = args.list.num_rows;
  if (num_rows == 0 || args.columns == 0) return Status::ok();
  if (count > INT32_MAX || num_rows >= int64_t{1} << 32) {
    return Status::error("scatter_add: at most 2^31 - 1 rows into a table of 2^32 - 1, got ", count,
                         " into ", num_rows, "; split the call");
  }
  const int64_t order_bytes = order_workspace_bytes(count);
  if (args.workspace_bytes < scatter_workspace_bytes(count, args.columns)) {
    return Status::error("scatter_add: workspace must have ",
                         scatter_workspace_bytes(count, args.columns), " bytes, got ",
                         args.workspace_bytes);
  }

  Sorted sorted{};
  sorted.list = args.list;
  sorted.columns = args.columns;
  sorted.num_chunks = ceil_div(count, kScatterChunk);
  if (count > 0) {
    OrderedPositions ordered;
    JAXDIRECT_RETURN_IF_ERROR(order_positions(stream, plan_stable_sort(num_rows), args.list,
                                              /*may_decline=*/false, args.workspace, order_bytes,
                                              &ordered));
    sorted.positions = ordered.positions;
  }
  void* partials = static_cast<char*>(args.workspace) + ceil_div(order_bytes, 256) * 256;
  switch (args.type) {
    case FloatType::kF16:
      return run<__half, float>(stream, args, sorted, partials);
    case FloatType::kBF16:
      return run<__nv_bfloat16, float>(stream, args, sorted, partials);
    case FloatType::kF32:
      return run<float, float>(stream, args, sorted, partials);
    case FloatType::kF64:
      return run<double, double>(stream, args, sorted, partials);
  }
  return Status::error("scatter_add: unknown type");
}

}  // namespace jaxdirect::hostmem
