#pragma once

// The filter's gradient on tensor cores; see wgrad.h for the work of a thread block.
//
//   sums[tap][k, c] = sum over a slice's pixels of y_bar[pixel, k] * x[pixel at tap, c]
//
// Depth is pixels, 16 a step: two runs of eight neighbours in a row of the tile. The left operand,
// y_bar transposed, comes into registers by ldmatrix once a step and serves every tap. The right
// one is x in the halo tile, channels contiguous: the descriptor's start is the first run moved by
// the tap, its group step the way to the second run. So x and y_bar are read once for all taps of
// a group, where an implicit product reads x once a tap. Pixels past the image's edge are zeros of
// y_bar.
//
// Of 96 channels of x the second 64 lie in a block of their own, half of it zeros.
//
// Warpgroup g has rows of k from 64 g (row_blocks == 2), or half of the taps. Bytes: x * groups *
// column_blocks + y_bar * groups * chunks, from L2 for the most part; floor: operations.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "conv/halo_pipeline.cuh"
#include "conv/wgmma.cuh"
#include "conv/wgrad.h"

namespace jaxdirect::conv {

inline constexpr int kStoreBarrier = 1;  // of both warpgroups; each one's own follow

#if JAXDIRECT_HOPPER

// A block's item and slice, and the tiles of the slice.
struct WgradWork {
  int chunk, column_block, group, slice, first_tile, end_tile;

  __device__ explicit WgradWork(const WgradTiling& t) {
    column_block = blockIdx.x;
    chunk = blockIdx.y;
    slice = blockIdx.z;
    for (group = 0; slice >= t.group[group].slices; ++group) slice -= t.group[group].slices;
    const int slices = t.group[group].slices;
    const int least = t.tiles() / slices, more = t.tiles() % slices;
    first_tile = slice * least + min(slice, more);
    end_tile = first_tile + least + (slice < more);
  }
};

// What a warpgroup has of a block's work.
struct WgradShare {
  int first, count, row_block;  // taps

  __device__ WgradShare(const WgradTiling& t, const WgradWork& work, int group) {
    const WgradGroup& taps = t.group[work.group];
    first = taps.first;
    count = taps.count;
    row_block = group;
    if (t.row_blocks == 2) return;
    const int half = (count + 1) / 2;
    first += group * half;
    count = group == 0 ? half : count - half;
    row_block = 0;
  }
};

struct WgradStages {
  uint32_t data, barriers;
  int halo_bytes, stage_bytes;

  __device__ WgradStages(const WgradTiling& t, const void* shared) {
    data = (shared_address(shared) + 1023) / 1024 * 1024;
    halo_bytes = t.halo_bytes;
    stage_bytes = t.halo_bytes + t.y_bytes;
    barriers = data + t.data_bytes();
  }

  __device__ uint32_t halo(int stage) const { return data + stage * stage_bytes; }
  __device__ uint32_t y(int stage) const { return halo(stage) + halo_bytes; }
  __device__ uint32_t full(int stage) const { return barriers + 16 * stage; }
  __device__ uint32_t empty(int stage) const { return full(stage) + 8; }
};

// Tiles `first` to `end` - 1, by one thread.
__device__ inline void fetch_wgrad_tiles(const CUtensorMap& x, const CUtensorMap& y,
                                         const WgradProblem& p, const WgradTiling& t,
                                         const WgradWork& work, const WgradStages& stages,
                                         RingPlace& place, int first, int end) {
  const WgradGroup& group = t.group[work.group];
  const uint32_t x_block = t.halo_pixels() * kSwizzleRow;
  const uint32_t y_block = t.tile_pixels() * kSwizzleRow;
  for (int tile = first; tile < end; ++tile) {
    const int w = tile % t.blocks_w * t.tile_width;
    const int h = tile / t.blocks_w % t.blocks_h * t.tile_height;
    const int n = tile / t.blocks_w / t.blocks_h * t.tile_images;
    const uint32_t full = stages.full(place.stage);
    barrier_wait(stages.empty(place.stage), place.parity ^ 1);
    barrier_expect(full, t.x_blocks() * x_block + t.row_blocks * y_block);
    for (int block = 0; block < t.x_blocks(); ++block) {
      copy_tensor(stages.halo(place.stage) + block * (t.halo_bytes / t.x_blocks()), &x, full,
                  work.chunk * t.columns + block * kWgradBlock, n,
                  w * p.stride_w - p.pad_w + group.origin_w,
                  h * p.stride_h - p.pad_h + group.origin_h);
    }
    for (int block = 0; block < t.row_blocks; ++block) {
      copy_tensor(stages.y(place.stage) + block * (t.y_bytes / t.row_blocks), &y, full,
                  (work.column_block * t.row_blocks + block) * kWgradBlock, n, w, h);
    }
    place.advance(t.stages);
  }
}

// The halo's pixel of a run's first pixel.
__device__ inline int run_pixel(const WgradTiling& t, int run) {
  const int pixel = run * kRun, row = t.tile_width * t.tile_images;
  if (pixel >= t.tile_pixels()) return 0;  // zeros of y_bar
  return pixel / row * t.halo_width * t.tile_images + pixel % row;
}

// Writes a warpgroup's sums of the tap at `place`: 64 rows of k from `row_block`, kColumns of c
// from `column` of the block's on. `turn`: which of two buffers; taps take turns. They go by way of
// shared memory in boxes of 32 x 32, swizzled, so that memory sees whole lines and the writes of a
// warp, eight rows of four columns, meet in no bank.
template <int kColumns>
__device__ __forceinline__ void store_tap(const float (&sums)[kColumns / 2], const CUtensorMap& map,
                                          const WgradTiling& t, const WgradWork& work, int place,
                                          int row_block, int column, uint32_t shared, int turn) {
  constexpr int kBoxBytes = kStoreBox * kSwizzleRow;
  const int group = warpgroup(), thread = threadIdx.x % 128, lane = thread % 32;
  const uint32_t from = shared + (2 * group + turn) * t.columns * kWgradBlock * 4;
  if (thread == 0) store_wait<1>();  // the buffer is read
  sync_threads(kStoreBarrier + 1 + group, 128);
#pragma unroll
  for (int j = 0; j < kColumns / 2; ++j) {
    const int c = j / 4 * 8 + lane % 4 * 2 + j % 2;
    const int row = thread / 32 * 16 + lane / 4 + j / 2 % 2 * 8;
    const uint32_t at = (c / kStoreBox * 2 + row / kStoreBox) * kBoxBytes +
                        c % kStoreBox * kSwizzleRow + (row % kStoreBox / 4 ^ c % 8) * 16 +
                        row % 4 * 4;
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(from + at), "f"(sums[j]) : "memory");
  }
  copy_engine_fence();
  sync_threads(kStoreBarrier + 1 + group, 128);
  if (thread != 0) return;
  const int k = (work.column_block * t.row_blocks + row_block) * kWgradBlock;
  const int c = work.chunk * t.columns + column;
  for (int box = 0; box < 2 * kColumns / kStoreBox; ++box) {
    store_tensor(&map, from + box * kBoxBytes, k + box % 2 * kStoreBox, c + box / 2 * kStoreBox,
                 work.slice * t.taps + t.tap[place].number);
  }
  store_commit();
}

// Before store_tap takes the stages' memory. Of both warpgroups.
__device__ __forceinline__ void finish_products() { sync_threads(kStoreBarrier, 128 * kConsumers); }

// Behind the last store_tap: shared memory must stay until it is read.
__device__ __forceinline__ void finish_stores() {
  if (threadIdx.x % 128 == 0) store_wait<0>();
}

// A warpgroup without taps only gives stages back.
template <typename Stages>
__device__ inline void give_stages_back(const WgradWork& work, const Stages& stages, int count) {
  RingPlace place;
  for (int tile = work.first_tile; tile < work.end_tile; ++tile) {
    barrier_wait(stages.full(place.stage), place.parity);
    if (threadIdx.x % 32 == 0) barrier_arrive(stages.empty(place.stage));
    place.advance(count);
  }
  finish_products();
}

// One warpgroup: every step of the slice's tiles. load(turn, stage, step) loads a step's left
// operand while products of the two steps before it run, so there are three, which take turns;
// multiply(turn, stage, step) begins the step's group of products.
template <typename Stages, typename Load, typename Multiply>
__device__ __forceinline__ void take_steps(const WgradTiling& t, const WgradWork& work,
                                           const Stages& stages, const Load& load,
                                           const Multiply& multiply) {
  const bool speaks = threadIdx.x % 32 == 0;
  const int steps = t.steps();
  RingPlace place;
  int tile = work.first_tile, step = 0, held = -1;
  // Whether there is a step after it.
  const auto take_one = [&](auto turn) {
    multiply(turn, place.stage, step);
    const bool first = step == 0;
    int ended = -1;
    if (++step == steps) {
      step = 0;
      ended = place.stage;
      place.advance(t.stages);
      if (++tile == work.end_tile) return false;
      // No stage is held any more: tiles have two steps at least.
      barrier_wait(stages.full(place.stage), place.parity);
    }
    load(std::integral_constant<int, (decltype(turn)::value + 1) % 3>(), place.stage, step);
    product_wait<1>();
    if (speaks && first && held >= 0) barrier_arrive(stages.empty(held));
    if (ended >= 0) held = ended;
    return true;
  };
  barrier_wait(stages.full(place.stage), place.parity);
  load(std::integral_constant<int, 0>(), place.stage, step);
  while (take_one(std::integral_constant<int, 0>()) && take_one(std::integral_constant<int, 1>()) &&
         take_one(std::integral_constant<int, 2>())) {
  }
  product_wait<0>();
}

// One warpgroup: kTaps taps from place `first` on, 64 rows of k from `row_block`.
template <typename T, int kColumns, int kTaps>
__device__ __forceinline__ void multiply_taps(const CUtensorMap& sums_map, const WgradTiling& t,
                                              const WgradWork& work, const WgradStages& stages,
                                              const uint32_t* runs, int first, int row_block) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const uint32_t x_block = t.halo_bytes / t.x_blocks();
  float sums[kTaps][kColumns / 2];  // the first step sets them
  uint32_t shift[kTaps];
#pragma unroll
  for (int i = 0; i < kTaps; ++i) shift[i] = t.tap[first + i].shift * kSwizzleRow;
  // Matrix lane / 8: its columns of k, and the step's second run.
  const uint32_t y_lane = row_block * (t.y_bytes / t.row_blocks) +
                          (lane / 16 * kRun + lane % 8) * kSwizzleRow +
                          ((2 * warp + lane / 8 % 2) ^ lane % 8) * 16;
  uint32_t a[3][4], run[3];
  bool add = false;
  const auto load = [&](auto turn, int stage, int step) {
    load_transposed(a[turn], stages.y(stage) + y_lane + step * 2 * kRun * kSwizzleRow);
    run[turn] = runs[step];
  };
  const auto multiply_step = [&](auto turn, int stage, int) {
    const uint64_t layout = operand_layout((run[turn] >> 16) * kSwizzleRow, x_block);
    const uint32_t at = stages.halo(stage) + (run[turn] & 0xffff) * kSwizzleRow;
    product_fence();
#pragma unroll
    for (int i = 0; i < kTaps; ++i) {
      multiply<T, kColumns, true>(sums[i], a[turn], operand_at(layout, at + shift[i]), add);
    }
    product_commit();
    add = true;
  };
  take_steps(t, work, stages, load, multiply_step);
  finish_products();
#pragma unroll
  for (int i = 0; i < kTaps; ++i) {
    settle(sums[i]);
    store_tap<kColumns>(sums[i], sums_map, t, work, first + i, row_block, 0, stages.data, i % 2);
  }
  finish_stores();
}

// The same for a number of taps that is not known ahead.
template <typename T, int kColumns, int kTaps, typename... Args>
__device__ __forceinline__ void multiply_share(int count, const Args&... args) {
  if constexpr (kTaps > 0) {
    if (count == kTaps) return multiply_taps<T, kColumns, kTaps>(args...);
    multiply_share<T, kColumns, kTaps - 1>(count, args...);
  }
}

#endif  // JAXDIRECT_HOPPER

template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads, 1)
    wgrad_slices(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap y,
                 const __grid_constant__ CUtensorMap sums, const __grid_constant__ WgradProblem p,
                 const __grid_constant__ WgradTiling t) {
#if JAXDIRECT_HOPPER
  extern __shared__ char shared[];
  __shared__ uint32_t runs[64];  // by step: the first run's pixel, and from it to the second's
  const WgradStages stages(t, shared);
  const WgradWork work(t);
  RingPlace place;
  if (threadIdx.x == 128 * kConsumers) {
    for (int i = 0; i < t.stages; ++i) {
      barrier_init(stages.full(i), 1);
      barrier_init(stages.empty(i), kConsumerWarps);
    }
    barrier_init_fence();
    // Comes while the other threads prepare.
    fetch_wgrad_tiles(x, y, p, t, work, stages, place, work.first_tile, work.first_tile + 1);
  }
  if (threadIdx.x < t.steps()) {
    const int from = run_pixel(t, 2 * threadIdx.x), to = run_pixel(t, 2 * threadIdx.x + 1);
    // A last run alone: any pixels do for the other, under zeros of y_bar.
    runs[threadIdx.x] = from | (to > from ? to - from : 0) << 16;
  }
  // Rows of y_bar past the tile, of steps that are not full.
  const int y_rows = t.steps() * 2 * kRun, spare = y_rows - t.tile_pixels();
  for (int i = threadIdx.x; i < t.stages * t.row_blocks * spare * (kSwizzleRow / 4);
       i += blockDim.x) {
    const int word = i % (kSwizzleRow / 4), row = i / (kSwizzleRow / 4) % max(spare, 1);
    const int block = i / (kSwizzleRow / 4) / max(spare, 1);
    const uint32_t at = stages.y(block / t.row_blocks) +
                        (block % t.row_blocks * y_rows + t.tile_pixels() + row) * kSwizzleRow;
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(at + word * 4), "r"(0) : "memory");
  }
  __syncthreads();
  const int group = warpgroup();
  if (group == kConsumers) {
    give_registers<40>();
    if (threadIdx.x == 128 * kConsumers) {
      fetch_wgrad_tiles(x, y, p, t, work, stages, place, work.first_tile + 1, work.end_tile);
    }
    return;
  }
  take_registers<232>();
  const WgradShare share(t, work, group);
  if (share.count == 0) return give_stages_back(work, stages, t.stages);
  constexpr int kTaps = kColumns == kWgradBlock ? kWgradTapsAtOnce : kWgradTapsOf96;
  multiply_share<T, kColumns, kTaps>(share.count, sums, t, work, stages, runs, share.first,
                                     share.row_block);
#endif
}

}  // namespace jaxdirect::conv
