// out[s] = row(s) weight[weight_of[s / 64]], gather-GEMM(-scatter) on tensor cores
//
// [.., in_dim], [num_weights, in_dim, out_dim] -> [64 * num_tiles, out_dim]
//
// Blocks of eight warps stay, and go through runs of neighbouring tiles of 64 slots. Rows are
// gathered into shared memory 64 columns at a time, kStages - 1 steps ahead of the product; the
// weight lies beside them, in the order of its fragments (RowsProduct), until a tile has another.
// The plan puts the tiles of one weight together.
//
// Bytes: one row of x and one of out per slot; weights come from L2. At out_dim up to 128 the
// rows decide, not the products.

#include <algorithm>
#include <utility>

#include "common/cuda.h"
#include "relational/linear.h"
#include "relational/pack_weight.cuh"
#include "relational/rows_product.cuh"
#include "relational/tile.cuh"

namespace jaxdirect::relational {
namespace {

template <typename T, bool kExact, int kWide, bool kExtra>
struct Layout {
  using Product = RowsProduct<T, kExact, kWide, kExtra>;
  // Pieces of rows in shared memory: one in use, the others on their way.
  static constexpr int kStages = sizeof(T) == 4 ? 2 : 3;
  static constexpr int kStageSize = kTileRows * Product::kRowStride;
  // Their slots' nodes, where the output is scattered.
  static constexpr int kKeptBytes = kStages * kTileRows * static_cast<int>(sizeof(int));
  // Blocks that a multiprocessor has registers for.
  static constexpr int kBlocks = kWide > 2 || kExact ? 2 : 4;

  static constexpr int bytes(int weight_pieces) {
    return (kStages * kStageSize + weight_pieces * Product::kWeightSize) *
           static_cast<int>(sizeof(T));
  }
};

// What there is to share out.
struct Machine {
  int multiprocessors = 0;
  int shared = 0;    // bytes of shared memory a multiprocessor
  int most = 0;      // bytes that a block may have of it
  int reserved = 0;  // bytes that a block takes besides its own
};

Status find_machine(Machine* machine) {
  int device = 0;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), "typed_linear");
  const std::pair<int*, cudaDeviceAttr> wanted[] = {
      {&machine->multiprocessors, cudaDevAttrMultiProcessorCount},
      {&machine->shared, cudaDevAttrMaxSharedMemoryPerMultiprocessor},
      {&machine->most, cudaDevAttrMaxSharedMemoryPerBlockOptin},
      {&machine->reserved, cudaDevAttrReservedSharedMemoryPerBlock},
  };
  for (const auto& [value, attribute] : wanted) {
    JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaDeviceGetAttribute(value, attribute, device),
                                   "typed_linear");
  }
  return Status::ok();
}

// Tiles that a block takes in a row, at most.
constexpr int64_t kMostRun = 16;

// One block's way through the tiles and their rows' pieces.
struct Step {
  int tile;
  int column = 0;
  int in_run = 0;

  __device__ explicit Step(int run) : tile(static_cast<int>(blockIdx.x) * run) {}

  __device__ bool is_done(const LinearArgs& args) const {
    return tile >= static_cast<int>(args.num_tiles);
  }

  __device__ void advance(const LinearArgs& args, int run) {
    column += kDepth;
    if (column < static_cast<int>(args.in_dim)) return;
    column = 0;
    ++tile;
    if (++in_run < run) return;
    in_run = 0;
    tile += static_cast<int>(gridDim.x - 1) * run;
  }
};

// The nodes of the rows that a thread copies, read a step before they are needed.
template <typename T>
struct Nodes {
  static constexpr int kCount = kTileRows / kRowGroups<T>;
  int values[kCount];

  __device__ void read(const LinearArgs& args, const Step& step) {
    if (step.is_done(args)) return;
    const int32_t* from = args.nodes + int64_t{step.tile} * kTile + threadIdx.x / kRowLanes<T>;
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = __ldg(from + i * kRowGroups<T>);
  }
};

// Starts the copy of a piece of a tile's rows, kStride apart; those without a node are zero. Keeps
// the nodes for the output.
template <typename T, int kStride, bool kVectors>
__device__ inline void copy_tile(T* stage, int* kept, const LinearArgs& args, const Step& step,
                                 const Nodes<T>& nodes) {
  if (step.is_done(args)) return;
  const SlotRows& rows = args.x[step.tile < static_cast<int>(args.num_first) ? 0 : 1];
  const int group = threadIdx.x / kRowLanes<T>;
  const int lane = threadIdx.x % kRowLanes<T>;
  const int own = step.tile * kTileRows - static_cast<int>(rows.first_slot) + group;
  const auto count = static_cast<unsigned>(min(rows.num_rows, int64_t{INT32_MAX}));
  const auto width = static_cast<unsigned>(args.in_dim);
  const unsigned column = step.column + lane * kVector<T>;
  const T* data = static_cast<const T*>(rows.data);
  T* to = stage + group * kStride + lane * kVector<T>;
#pragma unroll
  for (int i = 0; i < Nodes<T>::kCount; ++i, to += kRowGroups<T> * kStride) {
    const int node = nodes.values[i];
    const auto row = static_cast<unsigned>(rows.by_node ? node : own + i * kRowGroups<T>);
    const bool real = node >= 0 && row < count;
    const T* from = data + uint64_t{row} * width + column;
    if (args.scatter && lane == 0) kept[group + i * kRowGroups<T>] = node;
    if constexpr (kVectors) {
      const bool inside = real && column < width;
      copy_piece(to, inside ? from : data, inside);
    } else {
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) {
        to[j] = real && column + j < width ? from[j] : narrow<T>(0.0f);
      }
    }
  }
}

__device__ inline bool is_weight(const LinearArgs& args, int weight) {
  return weight >= 0 && weight < args.num_weights;
}

// Writes a tile's rows, to their slots or their nodes.
template <typename T, bool kVectors, typename Product>
__device__ inline void store_tile(const Product& product, const LinearArgs& args, int tile,
                                  int first_column, const int* nodes) {
  const auto width = static_cast<unsigned>(args.out_dim);
  const auto count = static_cast<unsigned>(min(args.num_out, int64_t{INT32_MAX}));
  T* out = static_cast<T*>(args.out) + first_column;
  product.visit(
      [&](int r, T** row) {
        const auto to = static_cast<unsigned>(args.scatter ? nodes[r] : tile * kTileRows + r);
        *row = out + uint64_t{to} * width;
        return to < count;
      },
      [&]<int kCount>(T* row, int local, const float (&values)[kCount]) {
        if constexpr (kVectors) {
          if (first_column + local < width) store<T, kCount>(row + local, values);
        } else {
#pragma unroll
          for (int i = 0; i < kCount; ++i) {
            if (first_column + local + i < width) row[local + i] = narrow<T>(values[i]);
          }
        }
      });
}

// kVectors: rows of x and of the output take 16-byte accesses.
template <typename T, bool kExact, int kWide, bool kExtra, bool kVectors>
__global__ void __launch_bounds__(kTileThreads, Layout<T, kExact, kWide, kExtra>::kBlocks)
    multiply_tiles(const LinearArgs args, const int run, const int weight_pieces) {
  using Is = Layout<T, kExact, kWide, kExtra>;
  using Product = typename Is::Product;
  extern __shared__ __align__(16) unsigned char shared[];
  T* stages = reinterpret_cast<T*>(shared);
  T* weights = stages + Is::kStages * Is::kStageSize;
  int* kept = reinterpret_cast<int*>(weights + weight_pieces * Product::kWeightSize);
  const int first_column = blockIdx.y * Product::kColumns;

  Step loading(run);
  Nodes<T> nodes;
  nodes.read(args, loading);
  const auto load = [&](int stage) {
    copy_tile<T, Product::kRowStride, kVectors>(stages + stage * Is::kStageSize,
                                                kept + stage * kTileRows, args, loading, nodes);
    commit_copies();
    loading.advance(args, run);
    if (loading.column == 0) nodes.read(args, loading);
  };
#pragma unroll
  for (int stage = 0; stage + 1 < Is::kStages; ++stage) load(stage);

  // The weight in shared memory: all its pieces, or the one from held_column on.
  int held_weight = -1;
  int held_column = 0;
  Step step(run);
  int weight = step.is_done(args) ? -1 : __ldg(args.weight_of + step.tile);
  int stage = 0;
  Product product;
  while (!step.is_done(args)) {
    const int wanted_column = weight_pieces > 1 ? 0 : step.column;
    if (is_weight(args, weight) && (weight != held_weight || wanted_column != held_column)) {
      __syncthreads();  // Nobody reads the one before any more.
      const WeightIndex at(args);
      const T* from = static_cast<const T*>(args.weight) + weight * args.in_dim * args.out_dim;
      for (int piece = 0; piece < weight_pieces; ++piece) {
        pack_weight<kVectors, Product>(weights + piece * Product::kWeightSize, from, at,
                                       wanted_column + piece * kDepth, first_column);
      }
      held_weight = weight;
      held_column = wanted_column;
      wait_for_copies();
    } else {
      wait_for_copies<Is::kStages - 2>();
    }
    __syncthreads();
    load(stage == 0 ? Is::kStages - 1 : stage - 1);

    const Step done = step;
    const int done_weight = weight;
    step.advance(args, run);
    if (step.column == 0 && !step.is_done(args)) weight = __ldg(args.weight_of + step.tile);
    if (is_weight(args, done_weight)) {
      const int piece = (done.column - held_column) / kDepth;
      product.add(stages + stage * Is::kStageSize, weights + piece * Product::kWeightSize,
                  static_cast<int>(args.in_dim) - done.column);
    }
    const int* of_stage = kept + stage * kTileRows;
    stage = stage + 1 == Is::kStages ? 0 : stage + 1;
    if (step.column > 0) continue;
    store_tile<T, kVectors>(product, args, done.tile, first_column, of_stage);
    product.clear();
  }
}

template <typename T, bool kExact, int kWide, bool kExtra, bool kVectors = true>
Status launch(cudaStream_t stream, const LinearArgs& args) {
  using Is = Layout<T, kExact, kWide, kExtra>;
  Machine machine;
  JAXDIRECT_RETURN_IF_ERROR(find_machine(&machine));
  // All of a weight where two blocks have room for it.
  const int64_t pieces = std::max<int64_t>(ceil_div(args.in_dim, kDepth), 1);
  const int kept = args.scatter ? Is::kKeptBytes : 0;
  const int room =
      std::min(machine.shared / 2 - machine.reserved, machine.most) - kept - Is::bytes(0);
  const int held = pieces <= room / (Is::bytes(1) - Is::bytes(0)) ? static_cast<int>(pieces) : 1;
  const int bytes = Is::bytes(held) + kept;
  const auto kernel = multiply_tiles<T, kExact, kWide, kExtra, kVectors>;
  // Not the bytes of this call: another thread's may need more.
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, machine.most),
      "typed_linear");
  const int64_t column_blocks = ceil_div(args.out_dim, Is::Product::kColumns);
  if (column_blocks > 65535 || args.in_dim > INT32_MAX || args.num_tiles > INT32_MAX / kTile) {
    return Status::error("typed_linear: too much work for one launch: ", args.num_tiles, " tiles, ",
                         args.in_dim, " and ", args.out_dim, " columns");
  }
  const int blocks = std::min(Is::kBlocks, machine.shared / (bytes + machine.reserved));
  const int64_t most = std::max<int64_t>(machine.multiprocessors * blocks / column_blocks, 1);
  // As even as they can be with runs of that length.
  const int64_t rounds = std::max<int64_t>(ceil_div(args.num_tiles, most * kMostRun), 1);
  const int64_t run = ceil_div(args.num_tiles, most * rounds);
  const dim3 grid(static_cast<unsigned>(std::min(most, ceil_div(args.num_tiles, run))),
                  static_cast<unsigned>(column_blocks));
  kernel<<<grid, kTileThreads, bytes, stream>>>(args, static_cast<int>(run), held);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "typed_linear");
  return Status::ok();
}

bool aligned_to(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

template <typename T, bool kExact>
Status run(cudaStream_t stream, const LinearArgs& args) {
  const bool vectors = args.in_dim % kVector<T> == 0 && args.out_dim % kVector<T> == 0 &&
                       aligned_to(args.x[0].data, 16) && aligned_to(args.x[1].data, 16) &&
                       aligned_to(args.weight, 16) && aligned_to(args.out, 16);
  if (!vectors) return launch<T, kExact, 4, true, false>(stream, args);
  if (args.out_dim <= 16) return launch<T, kExact, 0, true>(stream, args);
  if (args.out_dim <= 64) return launch<T, kExact, 2, false>(stream, args);
  if (args.out_dim <= 80) return launch<T, kExact, 2, true>(stream, args);
  if (args.out_dim % 128 == 0) return launch<T, kExact, 4, false>(stream, args);
  return launch<T, kExact, 4, true>(stream, args);
}

}  // namespace

Status linear(cudaStream_t stream, const LinearArgs& args) {
  if (args.out_dim == 0) return Status::ok();
  if (args.scatter && args.fill && args.num_out > 0) {
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
