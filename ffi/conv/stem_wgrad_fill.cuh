#pragma once

// Stages of stem_wgrad_kernel.cuh in shared memory, and the warpgroups that fill them.

#include <type_traits>

#include "conv/halo_pipeline.cuh"
#include "conv/stem_patch.cuh"
#include "conv/stem_wgrad.h"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

// A block's rows (blocks of 8), columns and tiles.
struct StemWgradWork {
  int first_block, end_block, first_row, first_column;  // a row of the filter
  int slice, first_tile, end_tile;

  // Reads the block's number anew each time: these values need not live in registers while
  // products have all of them.
  __device__ __forceinline__ explicit StemWgradWork(const StemWgradTiling& t) {
    int block;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
    const int item = block % t.items();
    slice = block / t.items();
    first_block = item % t.row_items * t.item_blocks;
    end_block = min(first_block + t.item_blocks, t.blocks);
    first_row = first_block / t.run_blocks;
    first_column = item / t.row_items * t.variant.columns;
    first_tile = static_cast<int>(int64_t{t.tiles} * slice / t.slices);
    end_tile = static_cast<int>(int64_t{t.tiles} * (slice + 1) / t.slices);
  }
};

// First output pixel of a tile.
struct StemTilePlace {
  int n, h, w;

  __device__ StemTilePlace(const StemWgradTiling& t, int tile) {
    w = tile % t.blocks_w * t.patch.tile_width;
    tile /= t.blocks_w;
    h = tile % t.blocks_h * t.patch.tile_height;
    n = tile / t.blocks_h;
  }
};

// A stage: y_bar's planes, rows of pixels in blocks of columns; then the patch.
struct StemWgradStages {
  uint32_t data, barriers;
  int y_bytes, stage_bytes;

  __device__ StemWgradStages(const StemWgradTiling& t, const void* shared, const void* barriers)
      : data((shared_address(shared) + 1023) / 1024 * 1024),
        barriers(shared_address(barriers)),
        y_bytes(t.y_bytes),
        stage_bytes(t.stage_bytes()) {}

  __device__ uint32_t y(int stage) const { return data + stage * stage_bytes; }
  __device__ uint32_t patch(int stage) const { return y(stage) + y_bytes; }
  __device__ uint32_t full(int stage) const { return barriers + 16 * stage; }
  __device__ uint32_t empty(int stage) const { return full(stage) + 8; }
};

// Where the groups of a tile are: byte / 16 of the first pixel's values in a copy of the patch, row
// << 16, column / 8 << 24. Spare ones have a row that no tile has.
__device__ __forceinline__ void place_groups(const StemProblem& p, const StemWgradTiling& t,
                                             uint32_t* places) {
  const int width = t.patch.tile_width / kStemGroup;
  for (int g = threadIdx.x; g < 2 * (kStemMostSteps + kStemSpareSteps); g += blockDim.x) {
    const uint32_t row = g / width, column = g % width;
    const uint32_t at = row * p.stride_h * t.patch.row_bytes / 16 + column * p.step_values();
    places[g] = g < t.groups ? at | row << 16 | column << 24 : kStemNoRow << 16;
  }
}

// What the products read of y_bar, by others than the copy engine's.
__device__ __forceinline__ void publish_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Rows of y_bar past the tile's, which the copy engine never writes.
template <int kRowBytes>
__device__ __forceinline__ void clear_spare_rows(const StemWgradTiling& t,
                                                 const StemWgradStages& stages) {
  const int rows = t.steps * 2 * kStemGroup, pixels = t.groups * kStemGroup;
  const int spare = (rows - pixels) * (kRowBytes / 16);  // vectors of a block
  const int blocks = t.y_bytes / (rows * kRowBytes);
  for (int i = threadIdx.x; i < t.stages * blocks * spare; i += blockDim.x) {
    const int block = i / spare;
    store_16(
        stages.y(block / blocks) + (block % blocks * rows + pixels) * kRowBytes + i % spare * 16, 0,
        0, 0, 0);
  }
  publish_to_products();
}

// float32 values of y_bar on their way into bf16 planes: for some groups of eight pixels, a
// thread's eight channels of its pixel in each.
template <StemWgradVariant kVariant>
class StemGradient {
  static constexpr int kUnits = kVariant.columns / 8;              // of a pixel
  static constexpr int kGroups = kStemFillThreads / (8 * kUnits);  // at a time
  static constexpr int kRowUnits = kVariant.row_bytes() / 16;
  static_assert(kGroups > 0);

 public:
  static constexpr int kAtOnce = 3;

  __device__ __forceinline__ StemGradient(const StemProblem& p, const StemWgradTiling& t,
                                          const StemWgradWork& work, const float* y, int thread)
      : y_(y),
        rows_(t.steps * 2 * kStemGroup),
        plane_bytes_(t.y_bytes / kVariant.planes),
        unit_(thread % kUnits),
        pixel_(thread / kUnits % 8),
        first_(thread < kGroups * 8 * kUnits ? thread / (8 * kUnits) : 1 << 20),  // none
        k_(work.first_column + unit_ * 8) {
    const int turn = kVariant.row_bytes() == 128 ? pixel_ : pixel_ / 2;
    to_ = (unit_ / kRowUnits * rows_ + pixel_) * kVariant.row_bytes() +
          (unit_ % kRowUnits ^ turn) * 16;
    has_low_ = k_ < p.out_channels, has_high_ = k_ + 4 < p.out_channels;
  }

  // Turns of kAtOnce times kGroups groups.
  __device__ int turns(const StemWgradTiling& t) const {
    return (2 * t.steps + kAtOnce * kGroups - 1) / (kAtOnce * kGroups);
  }

  __device__ __forceinline__ void load(const StemProblem& p, const StemTilePlace& at,
                                       const uint32_t* places, int turn,
                                       float4 (&to)[kAtOnce][2]) const {
    const float* image = y_ + (int64_t{at.n} * p.out_height * p.out_width) * p.out_channels + k_;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int group = first_ + (turn * kAtOnce + i) * kGroups;
      to[i][0] = to[i][1] = make_float4(0, 0, 0, 0);
      if (group * kStemGroup >= rows_) continue;
      const uint32_t entry = places[group];
      const int h = at.h + (entry >> 16 & 0xff), w = at.w + (entry >> 24) * kStemGroup + pixel_;
      if ((entry >> 16 & 0xff) == kStemNoRow || h >= p.out_height || w >= p.out_width) continue;
      const float* from = image + (int64_t{h} * p.out_width + w) * p.out_channels;
      if (has_low_) to[i][0] = __ldg(reinterpret_cast<const float4*>(from));
      if (has_high_) to[i][1] = __ldg(reinterpret_cast<const float4*>(from + 4));
    }
  }

  __device__ __forceinline__ void store(uint32_t stage, int turn,
                                        const float4 (&from)[kAtOnce][2]) const {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int group = first_ + (turn * kAtOnce + i) * kGroups;
      if (group * kStemGroup >= rows_) continue;
      float rest[8] = {from[i][0].x, from[i][0].y, from[i][0].z, from[i][0].w,
                       from[i][1].x, from[i][1].y, from[i][1].z, from[i][1].w};
      const uint32_t to = stage + to_ + group * kStemGroup * kVariant.row_bytes();
#pragma unroll
      for (int plane = 0; plane < kVariant.planes; ++plane) {
        uint32_t part[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          part[j] = pack_pair(rest[2 * j], rest[2 * j + 1], __nv_bfloat16());
          rest[2 * j] -= __uint_as_float(part[j] << 16);
          rest[2 * j + 1] -= __uint_as_float(part[j] & 0xffff0000u);
        }
        store_16(to + plane * plane_bytes_, part[0], part[1], part[2], part[3]);
      }
    }
  }

 private:
  const float* y_;
  const int rows_, plane_bytes_;
  const int unit_, pixel_, first_, k_;
  uint32_t to_;
  bool has_low_, has_high_;
};

// Whole 16 bytes of [from, to) into L2.
__device__ __forceinline__ void prefetch_range(const void* from, const void* to) {
  const uint64_t begin = (reinterpret_cast<uint64_t>(from) + 15) / 16 * 16;
  const uint64_t end = reinterpret_cast<uint64_t>(to) / 16 * 16;
  if (end <= begin) return;
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(begin),
               "r"(static_cast<uint32_t>(end - begin))
               : "memory");
}

// What a later tile will load, into L2: a thread has too few registers to wait for memory with.
template <typename Value>
__device__ __forceinline__ void prefetch_tile(const StemImage<Value>& x, const float* y,
                                              const StemProblem& p, const StemWgradTiling& t,
                                              const StemWgradWork& work, const StemTilePlace& at,
                                              int thread) {
  const int width = p.width * p.channels, h0 = at.h * p.stride_h - p.pad_h + work.first_row;
  const int begin = (at.w * p.stride_w - p.pad_w) * p.channels;
  const int first = max(begin, 0), last = min(begin + t.patch.units * 8 + 8, width);
  for (int row = thread; row < t.patch.rows; row += kStemFillThreads) {
    const int h = h0 + row;
    if (h < 0 || h >= p.height || last <= first) continue;
    const Value* from = x.data + (int64_t{at.n} * p.height + h) * width;
    prefetch_range(from + first, from + last);
  }
  if (y == nullptr || work.first_block != 0 || work.first_column != 0) return;
  const int rows = min(t.patch.tile_height, p.out_height - at.h);
  const int columns = min(t.patch.tile_width, p.out_width - at.w);
  for (int row = thread; row < rows; row += kStemFillThreads) {
    const float* from =
        y + ((int64_t{at.n} * p.out_height + at.h + row) * p.out_width + at.w) * p.out_channels;
    prefetch_range(from, from + int64_t{columns} * p.out_channels);
  }
}

// A tile's patch, in the copies that its stride needs.
template <StemForm kForm, typename T>
__device__ __forceinline__ void fill_any_patch(const StemImage<T>& x, const StemProblem& p,
                                               const StemPatch& patch, int n, int h0, int w0,
                                               uint32_t to, int thread) {
  switch (patch.copies) {
    case 8:
      return fill_patch<kForm, 8, 1>(x, p, patch, n, h0, w0, to, thread, kStemFillThreads);
    case 4:
      return fill_patch<kForm, 4, 2>(x, p, patch, n, h0, w0, to, thread, kStemFillThreads);
    case 2:
      return fill_patch<kForm, 2, 4>(x, p, patch, n, h0, w0, to, thread, kStemFillThreads);
    default:
      return fill_patch<kForm, 1, 8>(x, p, patch, n, h0, w0, to, thread, kStemFillThreads);
  }
}

// One warpgroup: every kStemProducers-th of the slice's tiles from `group` on.
template <typename T, StemWgradVariant kVariant>
__device__ __forceinline__ void fill_stages(const CUtensorMap& y_map, const void* x, const float* y,
                                            const StemProblem& p, const StemWgradTiling& t,
                                            const StemWgradStages& stages, const uint32_t* places,
                                            int group) {
  const StemWgradWork work(t);
  constexpr bool kSplits = kVariant.planes > 1;
  constexpr StemForm kForm = kVariant.planes == 3   ? StemForm::kThreeParts
                             : kVariant.planes == 2 ? StemForm::kTwoParts
                                                    : StemForm::kPlain;
  using Value = std::conditional_t<kSplits, float, __nv_bfloat16>;  // or __half: bits
  const StemImage<Value> image{static_cast<const Value*>(x),
                               int64_t{p.batch} * p.height * p.width * p.channels};
  const int thread = threadIdx.x % 128;
  RingPlace place;
  for (int i = 0; i < group; ++i) place.advance(t.stages);
  for (int tile = work.first_tile + group; tile < work.end_tile; tile += kStemProducers) {
    const StemTilePlace at(t, tile);
    const uint32_t full = stages.full(place.stage);
    if (tile + kStemProducers < work.end_tile) {
      const StemTilePlace next(t, tile + kStemProducers);
      prefetch_tile(image, kSplits ? y : nullptr, p, t, work, next, thread);
    }
    if constexpr (kSplits) {
      using Gradient = StemGradient<kVariant>;
      const Gradient gradient(p, t, work, y, thread);
      const int turns = gradient.turns(t);
      float4 next[Gradient::kAtOnce][2];
      gradient.load(p, at, places, 0, next);
      barrier_wait(stages.empty(place.stage), place.parity ^ 1);
      for (int turn = 0; turn < turns; ++turn) {
        float4 now[Gradient::kAtOnce][2];
        memcpy(now, next, sizeof(now));
        if (turn + 1 < turns) gradient.load(p, at, places, turn + 1, next);
        gradient.store(stages.y(place.stage), turn, now);
      }
      publish_to_products();
    } else {
      barrier_wait(stages.empty(place.stage), place.parity ^ 1);
      if (thread == 0) {
        constexpr int kBlock = kVariant.row_bytes() / 2;  // channels
        const int pixels = t.groups * kStemGroup, rows = t.steps * 2 * kStemGroup;
        barrier_expect(full, pixels * kVariant.columns * 2);
#pragma unroll
        for (int block = 0; block < kVariant.columns / kBlock; ++block) {
          copy_tensor(stages.y(place.stage) + block * rows * kVariant.row_bytes(), &y_map, full,
                      work.first_column + block * kBlock, at.w, at.h, at.n);
        }
      }
    }
    fill_any_patch<kForm>(image, p, t.patch, at.n, at.h * p.stride_h - p.pad_h + work.first_row,
                          at.w * p.stride_w - p.pad_w, stages.patch(place.stage), thread);
    __syncwarp();
    if (thread % 32 == 0) barrier_arrive(full);
    for (int i = 0; i < kStemProducers; ++i) place.advance(t.stages);
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
