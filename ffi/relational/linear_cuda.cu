// out[s] = row(s) weight[weight_of[s / 64]] (+ bias), gather-GEMM(-scatter) on tensor cores
//
// [num_x, in_dim], [num_weights, in_dim, out_dim] -> [64 * num_tiles, out_dim]
//
// A block of eight warps takes a tile of 64 slots and up to 8 * kColumnTiles columns of the
// output (Product says who has what). Rows are gathered (or summed over their lists) into shared
// memory, 64 columns at a time, beside the same 64 rows of the weight. Several blocks a
// multiprocessor overlap one's loads with another's products.
//
// Bytes: one row of x per slot, or per list entry, and one row of out per slot; weights come
// from L2. At out_dim up to 128 the rows decide, not the products.

#include <algorithm>

#include "common/cuda.h"
#include "relational/linear.h"
#include "relational/mma.cuh"
#include "relational/stream.cuh"
#include "relational/tile.cuh"

namespace jaxdirect::relational {
namespace {

struct Alignment {
  bool x;       // rows of x and of summed take 16-byte accesses
  bool weight;  // rows of the weight do
  bool out;     // up to four neighbouring columns of the output may be stored at once
};

// Where the summed rows of list tiles start.
__device__ inline int64_t summed_row(const LinearArgs& args, int64_t slot) {
  const bool both = args.first == RowSource::kList && args.second == RowSource::kList;
  return both || slot < args.num_first * kTile ? slot : slot - args.num_first * kTile;
}

// tile[r][0..64) = the scaled sum of x over the list of slot first_slot + r, columns from
// `column` on. A group of lanes sums the lists of neighbouring slots: their entries are neighbours.
template <typename T>
__device__ void sum_lists(T* tile, const LinearArgs& args, int64_t first_slot, int64_t column,
                          bool vectors, const int* indptr) {
  constexpr int kLanes = kRowLanes<T>;
  constexpr int kCount = kVector<T>;
  constexpr int kRows = kTileRows / kRowGroups<T>;
  const int lane = threadIdx.x % kLanes;
  const int64_t at = column + lane * kCount;
  const T* x = static_cast<const T*>(args.x);
  int row = threadIdx.x / kLanes * kRows;
  const int end_row = row + kRows;
  float sums[kCount] = {};
  const auto finish_row = [&] {
    Raw<T, kCount> piece;
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      piece.values[j] = narrow<T>(sums[j]);
      sums[j] = 0;
    }
    piece.store(tile + row * kAlongStride<T> + lane * kCount);
    if (args.summed != nullptr && blockIdx.y == 0 && at < args.in_dim) {
      T* summed =
          static_cast<T*>(args.summed) + summed_row(args, first_slot + row) * args.in_dim + at;
      if (vectors) {
        piece.store(summed);
      } else {
        for (int j = 0; j < kCount && at + j < args.in_dim; ++j) summed[j] = piece.values[j];
      }
    }
    ++row;
  };
  struct Data {
    Raw<T, kCount> row;
  };
  stream<Data, kLanes, 4, 1>(
      group_mask<kLanes>(), indptr[row], args.num_x > 0 ? indptr[end_row] : indptr[row],
      [&](int entry) {
        Entry fetched;
        fetched.index = __ldg(args.far.indices + entry);
        if (fetched.index >= args.num_x) fetched.index = -1;
        const float scale = args.far_scale == nullptr ? 1.0f : __ldg(args.far_scale + entry);
        fetched.first = __float_as_int(scale);
        return fetched;
      },
      [&](Data* data, const Entry& entry) {
        const T* from = x + entry.index * args.in_dim;
        if (vectors) {
          data->row.clear();
          if (at < args.in_dim) data->row.load(from + at);
        } else {
#pragma unroll
          for (int j = 0; j < kCount; ++j) {
            data->row.values[j] = at + j < args.in_dim ? from[at + j] : narrow<T>(0.0f);
          }
        }
      },
      [&](int entry) {
        while (row + 1 < end_row && entry >= indptr[row + 1]) finish_row();
      },
      [&](const Data& data, const Entry& entry) {
        const float scale = __int_as_float(entry.first);
#pragma unroll
        for (int j = 0; j < kCount; ++j) sums[j] += scale * data.row[j];
      });
  while (row < end_row) finish_row();
}

// Neighbouring columns of a row, at once where that is allowed.
template <typename T, int kCount>
__device__ void store_columns(T* row, int64_t column, int64_t columns,
                              const float (&values)[kCount], bool vectors) {
  struct alignas(kCount * sizeof(T)) Packed {
    T values[kCount];
  };
  if (vectors && column + kCount <= columns) {
    Packed packed;
#pragma unroll
    for (int i = 0; i < kCount; ++i) packed.values[i] = narrow<T>(values[i]);
    *reinterpret_cast<Packed*>(row + column) = packed;
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (column + i < columns) row[column + i] = narrow<T>(values[i]);
  }
}

// Blocks that a multiprocessor should have room for: loads of one hide behind products of another.
template <bool kExact, int kColumnTiles>
inline constexpr int kBlocks = kColumnTiles > 9 || kExact ? 2 : 3;

// What the loads of a tile's rows start from.
__device__ void find_rows(int* places, const LinearArgs& args, RowSource source,
                          int64_t first_slot) {
  const int r = threadIdx.x;
  if (source == RowSource::kList) {
    if (r > kTileRows) return;
    const int64_t begin = __ldg(args.far.indptr + first_slot + r);
    places[r] = static_cast<int>(min(max(begin, int64_t{0}), args.far.num_entries));
  } else if (r < kTileRows) {
    const int64_t slot = first_slot + r;
    const int64_t row = source == RowSource::kOwn ? slot : __ldg(args.nodes + slot);
    places[r] = row < args.num_x ? static_cast<int>(row) : -1;
  }
}

template <typename T, bool kExact, bool kTransposed, int kColumnTiles>
__global__ void __launch_bounds__(kTileThreads, kBlocks<kExact, kColumnTiles>)
    multiply_tiles(const LinearArgs args, const Alignment aligned) {
  constexpr int kColumns = 8 * kColumnTiles;
  constexpr int kWeightStride = kTransposed ? kAlongStride<T> : kColumnStride<T, kColumnTiles>;
  extern __shared__ __align__(16) unsigned char shared[];
  T* rows = reinterpret_cast<T*>(shared);
  T* weights = rows + kTileRows * kAlongStride<T>;

  // Of each slot: the row of x it reads, or where its list begins.
  __shared__ int places[kTileRows + 1];

  const int64_t tile = blockIdx.x;
  const int64_t first_slot = tile * kTile;
  const int64_t first_column = int64_t{blockIdx.y} * kColumns;
  const int weight_index = __ldg(args.weight_of + tile);
  const bool has_weight = weight_index >= 0 && weight_index < args.num_weights;
  const RowSource source = tile < args.num_first ? args.first : args.second;
  const T* weight = static_cast<const T*>(args.weight) +
                    (has_weight ? weight_index : 0) * args.in_dim * args.out_dim;
  find_rows(places, args, source, first_slot);

  Product<T, kExact, false, kTransposed, kColumnTiles> product;
  for (int64_t column = 0; column < args.in_dim; column += kDepth) {
    __syncthreads();
    if constexpr (kTransposed) {
      copy_block<T, kColumns, kDepth>(weights, kWeightStride, weight, args.out_dim, args.in_dim,
                                      first_column, column, aligned.weight);
    } else {
      copy_block<T, kDepth, kColumns>(weights, kWeightStride, weight, args.in_dim, args.out_dim,
                                      column, first_column, aligned.weight);
    }
    if (source == RowSource::kList) {
      sum_lists<T>(rows, args, first_slot, column, aligned.x, places);
    } else {
      copy_rows(rows, kAlongStride<T>, kDepth, static_cast<const T*>(args.x), args.in_dim, column,
                aligned.x, places);
    }
    wait_for_copies();
    __syncthreads();
    const int left = static_cast<int>(min(int64_t{kDepth}, args.in_dim - column));
    product.add(rows, kAlongStride<T>, weights, kWeightStride, left);
  }

  const T* bias = static_cast<const T*>(args.bias);
  T* out = nullptr;
  bool biased = false;
  product.visit(
      [&](int r) {
        const int64_t slot = first_slot + r;
        const int node = args.scatter || bias != nullptr ? __ldg(args.nodes + slot) : 0;
        const int64_t to = args.scatter ? node : slot;
        out = static_cast<T*>(args.out) + to * args.out_dim;
        biased = bias != nullptr && has_weight && node >= 0;
        return to >= 0 && to < args.num_out;
      },
      [&]<int kCount>(int local, const float (&sums)[kCount]) {
        const int64_t column = first_column + local;
        float values[kCount];
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          values[i] = has_weight ? sums[i] : 0.0f;
          if (biased && column + i < args.out_dim) {
            values[i] += widen(bias[weight_index * args.out_dim + column + i]);
          }
        }
        store_columns(out, column, args.out_dim, values, aligned.out);
      });
}

template <typename T, bool kExact, bool kTransposed, int kColumnTiles>
Status launch(cudaStream_t stream, const LinearArgs& args, const Alignment& aligned) {
  constexpr int kWeightRows = kTransposed ? 8 * kColumnTiles : kDepth;
  constexpr int kWeightStride = kTransposed ? kAlongStride<T> : kColumnStride<T, kColumnTiles>;
  constexpr int kBytes =
      (kTileRows * kAlongStride<T> + kWeightRows * kWeightStride) * static_cast<int>(sizeof(T));
  const auto kernel = multiply_tiles<T, kExact, kTransposed, kColumnTiles>;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
      "typed_linear");
  const int64_t column_blocks = ceil_div(args.out_dim, 8 * kColumnTiles);
  if (args.num_tiles > INT32_MAX || column_blocks > 65535) {
    return Status::error("typed_linear: too much work for one launch: ", args.num_tiles, " tiles");
  }
  const dim3 grid(static_cast<unsigned>(args.num_tiles), static_cast<unsigned>(column_blocks));
  kernel<<<grid, kTileThreads, kBytes, stream>>>(args, aligned);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "typed_linear");
  return Status::ok();
}

template <typename T, bool kExact, bool kTransposed>
Status launch_width(cudaStream_t stream, const LinearArgs& args, const Alignment& aligned) {
  if (args.out_dim <= 16) return launch<T, kExact, kTransposed, 2>(stream, args, aligned);
  if (args.out_dim <= 64) return launch<T, kExact, kTransposed, 8>(stream, args, aligned);
  if (args.out_dim <= 72) return launch<T, kExact, kTransposed, 9>(stream, args, aligned);
  if (args.out_dim % 128 == 0) return launch<T, kExact, kTransposed, 16>(stream, args, aligned);
  return launch<T, kExact, kTransposed, 17>(stream, args, aligned);
}

bool aligned_to(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

template <typename T, bool kExact>
Status run(cudaStream_t stream, const LinearArgs& args) {
  const int64_t weight_row = args.transposed ? args.in_dim : args.out_dim;
  const Alignment aligned = {
      args.in_dim % kVector<T> == 0 && aligned_to(args.x, 16) && aligned_to(args.summed, 16),
      weight_row % kVector<T> == 0 && aligned_to(args.weight, 16),
      args.out_dim % 4 == 0 && aligned_to(args.out, 16),
  };
  return args.transposed ? launch_width<T, kExact, true>(stream, args, aligned)
                         : launch_width<T, kExact, false>(stream, args, aligned);
}

}  // namespace

Status linear(cudaStream_t stream, const LinearArgs& args) {
  if (args.out_dim == 0) return Status::ok();
  if (args.scatter && args.num_out > 0) {
    // Rows that no slot names stay zero.
    JAXDIRECT_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(args.out, 0, args.num_out * args.out_dim * size_of(args.type), stream),
        "typed_linear");
  }
  if (args.num_tiles == 0) return Status::ok();
  switch (args.type) {
    case FloatType::kF16:
      return run<__half, false>(stream, args);
    case FloatType::kBF16:
      return run<__nv_bfloat16, false>(stream, args);
    case FloatType::kF32:
      return args.precision == Precision::kHighest ? run<float, true>(stream, args)
                                                   : run<float, false>(stream, args);
    case FloatType::kF64:
      break;
  }
  return Status::error("typed_linear: float64 has no CUDA kernel; use implementation='reference'");
}

}  // namespace jaxdirect::relational
