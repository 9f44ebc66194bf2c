// out[w] = sum over the slots s of w's tiles of a(s)^T b(s), the weight gradient
//
// [num_slots, a_dim], [num_slots, b_dim] -> [num_weights, a_dim, b_dim]
//
// A block of eight warps takes a chunk (a run of one weight's tiles), 64 columns of a and up to
// 8 * kColumnTiles of b. Tiles of 64 slots go through shared memory,
// the product stays in registers until the chunk ends. `add_chunks` adds a weight's chunks in
// order. No atomics.
//
// Bytes: a row of a and of b per slot; chunks * a_dim * b_dim floats written and read.

#include <algorithm>

#include "common/cuda.h"
#include "relational/outer.h"
#include "relational/outer_product.cuh"
#include "relational/tile.cuh"

namespace jaxdirect::relational {
namespace {

struct Alignment {
  bool a;
  bool b;
};

// The row of a tile's slot in the first or second source, or -1. A slot without a node is padding:
// its rows count nothing, whatever they hold.
__device__ int row_of(const SlotRows& rows, int64_t slot, int node) {
  const int64_t row = rows.by_node ? node : slot - rows.first_slot;
  return node >= 0 && row >= 0 && row < rows.num_rows ? static_cast<int>(row) : -1;
}

template <typename T, bool kExact, int kColumnTiles>
__global__ void __launch_bounds__(kTileThreads)
    multiply_chunks(const OuterArgs args, const Alignment aligned) {
  constexpr int kColumns = 8 * kColumnTiles;
  constexpr int kStride = kColumnStride<T, kColumnTiles>;
  extern __shared__ __align__(16) unsigned char shared[];
  T* a_tile = reinterpret_cast<T*>(shared);
  T* b_tile = a_tile + kTileRows * kAcrossStride<T>;

  __shared__ int a_rows[kTileRows];
  __shared__ int b_rows[kTileRows];

  const int64_t chunk = blockIdx.x;
  const int64_t a_column = int64_t{blockIdx.y} * kDepth;
  const int64_t b_column = int64_t{blockIdx.z} * kColumns;
  const int begin = max(__ldg(args.chunks + 3 * chunk + 1), 0);
  const int end =
      static_cast<int>(min(int64_t{__ldg(args.chunks + 3 * chunk + 2)}, args.num_tiles));
  // The slot's node is read one tile ahead.
  const auto node_of = [&](int i, int* tile) {
    *tile = i < end ? __ldg(args.weight_tiles + i) : -1;
    const bool real = *tile >= 0 && *tile < args.num_tiles && threadIdx.x < kTileRows;
    return real ? __ldg(args.nodes + int64_t{*tile} * kTile + threadIdx.x) : -1;
  };
  int tile = -1;
  int node = node_of(begin, &tile);

  OuterProduct<T, kExact, kColumnTiles> product;
  for (int i = begin; i < end; ++i) {
    const int part = tile < args.num_first ? 0 : 1;
    const SlotRows& a = args.a[part];
    const SlotRows& b = args.b[part];
    if (threadIdx.x < kTileRows) {
      const int64_t slot = int64_t{tile} * kTile + threadIdx.x;
      a_rows[threadIdx.x] = row_of(a, slot, node);
      b_rows[threadIdx.x] = row_of(b, slot, node);
    }
    __syncthreads();
    copy_rows(a_tile, kAcrossStride<T>, kDepth, static_cast<const T*>(a.data), args.a_dim, a_column,
              aligned.a, a_rows);
#pragma unroll
    for (int c = 0; c < kColumns; c += kDepth) {
      copy_rows(b_tile + c, kStride, min(kColumns - c, kDepth), static_cast<const T*>(b.data),
                args.b_dim, b_column + c, aligned.b, b_rows);
    }
    node = node_of(i + 1, &tile);
    wait_for_copies();
    __syncthreads();
    product.add(a_tile, kAcrossStride<T>, b_tile, kStride, kTileRows);
  }

  float* partial = args.partials + chunk * args.a_dim * args.b_dim;
  float* out = nullptr;
  product.visit(
      [&](int r) {
        out = partial + (a_column + r) * args.b_dim;
        return a_column + r < args.a_dim;
      },
      [&]<int kCount>(int local, const float (&sums)[kCount]) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          const int64_t column = b_column + local + i;
          if (column < args.b_dim) out[column] = sums[i];
        }
      });
}

template <typename T>
__global__ void __launch_bounds__(256) add_chunks(const OuterArgs args) {
  const int64_t size = args.a_dim * args.b_dim;
  const int64_t element = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t weight = blockIdx.y;
  if (element >= size) return;
  const int begin = max(__ldg(args.chunk_indptr + weight), 0);
  const int end =
      static_cast<int>(min(int64_t{__ldg(args.chunk_indptr + weight + 1)}, args.num_chunks));
  float sum = 0;
#pragma unroll 8
  for (int chunk = begin; chunk < end; ++chunk) sum += args.partials[chunk * size + element];
  static_cast<T*>(args.out)[weight * size + element] = narrow<T>(sum);
}

template <typename T, bool kExact, int kColumnTiles>
Status launch(cudaStream_t stream, const OuterArgs& args, const Alignment& aligned) {
  constexpr int kBytes =
      kTileRows * (kAcrossStride<T> + kColumnStride<T, kColumnTiles>)*static_cast<int>(sizeof(T));
  const auto kernel = multiply_chunks<T, kExact, kColumnTiles>;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
      "typed_linear gradient");
  const int64_t a_blocks = ceil_div(args.a_dim, kDepth);
  const int64_t b_blocks = ceil_div(args.b_dim, 8 * kColumnTiles);
  if (args.num_chunks > INT32_MAX || a_blocks > 65535 || b_blocks > 65535) {
    return Status::error("typed_linear gradient: too much work for one launch");
  }
  const dim3 grid(static_cast<unsigned>(args.num_chunks), static_cast<unsigned>(a_blocks),
                  static_cast<unsigned>(b_blocks));
  kernel<<<grid, kTileThreads, kBytes, stream>>>(args, aligned);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "typed_linear gradient");
  return Status::ok();
}

template <typename T, bool kExact>
Status run(cudaStream_t stream, const OuterArgs& args) {
  const auto vectors = [](const SlotRows(&rows)[2], int64_t dim) {
    return dim % kVector<T> == 0 && reinterpret_cast<uintptr_t>(rows[0].data) % 16 == 0 &&
           reinterpret_cast<uintptr_t>(rows[1].data) % 16 == 0;
  };
  const Alignment aligned = {vectors(args.a, args.a_dim), vectors(args.b, args.b_dim)};
  if (args.num_chunks > 0) {
    if (args.b_dim <= 16) {
      JAXDIRECT_RETURN_IF_ERROR((launch<T, kExact, 2>(stream, args, aligned)));
    } else if (args.b_dim <= 64) {
      JAXDIRECT_RETURN_IF_ERROR((launch<T, kExact, 8>(stream, args, aligned)));
    } else if (args.b_dim <= 72) {
      JAXDIRECT_RETURN_IF_ERROR((launch<T, kExact, 9>(stream, args, aligned)));
    } else if (args.b_dim % 128 == 0) {
      JAXDIRECT_RETURN_IF_ERROR((launch<T, kExact, 16>(stream, args, aligned)));
    } else {
      JAXDIRECT_RETURN_IF_ERROR((launch<T, kExact, 17>(stream, args, aligned)));
    }
  }
  const int64_t blocks = ceil_div(args.a_dim * args.b_dim, 256);
  if (blocks > INT32_MAX || args.num_weights > 65535) {
    return Status::error("typed_linear gradient: at most 65535 weights, got ", args.num_weights);
  }
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(args.num_weights));
  add_chunks<T><<<grid, 256, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "typed_linear gradient");
  return Status::ok();
}

}  // namespace

Status outer(cudaStream_t stream, const OuterArgs& args) {
  if (args.num_weights == 0 || args.a_dim == 0 || args.b_dim == 0) return Status::ok();
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
  return Status::error(
      "typed_linear gradient: float64 has no CUDA kernel; use implementation='reference'");
}

}  // namespace jaxdirect::relational
