#pragma once

// Stages of stem_wgrad_kernel.cuh in shared memory, and the warpgroups that fill them.

#include "conv/halo_pipeline.cuh"
#include "conv/stem_rows.cuh"
#include "conv/stem_wgrad.h"
#include "conv/stem_words.cuh"

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
  // What of a producer's next tile is on its way: float32 y_bar, and x.
  __device__ uint32_t raw_y(const StemWgradTiling& t, int producer) const {
    return data + t.stages * stage_bytes + producer * t.raw_y_bytes;
  }
  __device__ uint32_t raw_x(const StemWgradTiling& t, int producer) const {
    return raw_y(t, kStemProducers) + producer * t.raw_x_bytes;
  }
  __device__ uint32_t raw_y_full(int producer) const {
    return barriers + 16 * kStemMostStages + 8 * producer;
  }
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

// Without branches, so that loads and stores overlap.
__device__ __forceinline__ void load_16_if(bool wanted, float (&to)[4], uint32_t address) {
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %5, 0;\n"
      "@wanted ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];\n}"
      : "+f"(to[0]), "+f"(to[1]), "+f"(to[2]), "+f"(to[3])
      : "r"(address), "r"(static_cast<int>(wanted))
      : "memory");
}

__device__ __forceinline__ void store_8_if(bool wanted, uint32_t address, uint32_t a, uint32_t b) {
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %3, 0;\n"
      "@wanted st.shared.v2.u32 [%0], {%1, %2};\n}" ::"r"(address),
      "r"(a), "r"(b), "r"(static_cast<int>(wanted))
      : "memory");
}

// What the products read of y_bar, by others than the copy engine's.
__device__ __forceinline__ void publish_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Rows of y_bar past the tile's, which nothing else writes.
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

// A tile of float32 y_bar, as the copy engine left it, to bf16 planes: four channels of a pixel at
// a time.
template <StemWgradVariant kVariant>
__device__ __forceinline__ void split_gradient(const StemWgradTiling& t, uint32_t raw, uint32_t to,
                                               int thread) {
  constexpr int kQuads = kVariant.columns / 4, kRowBytes = kVariant.row_bytes();
  constexpr int kThreads = kVariant.fill_threads(), kPlanes = kVariant.planes;
  // After so many turns a thread has the same channels again, some pixels further.
  constexpr int kPeriod = kThreads % (8 * kQuads) == 0 ? 1 : kQuads == 24 ? 3 : 2;
  constexpr int kPixels = kPeriod * kThreads / kQuads;
  constexpr int kRowQuads = kRowBytes / 8, kAtOnce = kPeriod == 3 ? 3 : 4;
  static_assert(kPixels % 8 == 0 && kPeriod * kThreads % kQuads == 0);
  const int rows = t.steps * 2 * kStemGroup, plane_bytes = t.y_bytes / kPlanes;
  const int vectors = t.groups * kStemGroup * kQuads;
  uint32_t places[kPeriod];
#pragma unroll
  for (int i = 0; i < kPeriod; ++i) {
    const int vector = thread + i * kThreads;
    const int pixel = vector / kQuads, quad = vector % kQuads;
    const int turn = kRowBytes == 128 ? pixel % 8 : pixel / 2 % 4;
    places[i] = to + (quad / kRowQuads * rows + pixel) * kRowBytes +
                (quad % kRowQuads / 2 ^ turn) * 16 + quad % 2 * 8;
  }
  raw += thread * 16;
  for (int left = vectors - thread; left > 0; left -= kAtOnce * kThreads) {
    float found[kAtOnce][4];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
#pragma unroll
      for (float& value : found[i]) value = 0;
      load_16_if(left > i * kThreads, found[i], raw + i * kThreads * 16);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint32_t at = places[i % kPeriod] + i / kPeriod * (kPixels * kRowBytes);
      uint32_t low[kPlanes], high[kPlanes];
      split_pair<kPlanes>(found[i][0], found[i][1], low);
      split_pair<kPlanes>(found[i][2], found[i][3], high);
#pragma unroll
      for (int plane = 0; plane < kPlanes; ++plane) {
        store_8_if(left > i * kThreads, at + plane * plane_bytes, low[plane], high[plane]);
      }
    }
    raw += kAtOnce * kThreads * 16;
#pragma unroll
    for (uint32_t& place : places) place += kAtOnce / kPeriod * (kPixels * kRowBytes);
  }
}

// Some warps: every kStemProducers-th of the slice's tiles from `group` on. Copies of the patch are
// kCopies.
template <int kCopies, StemWgradVariant kVariant>
__device__ __forceinline__ void fill_copies(const CUtensorMap& y_map, const void* x,
                                            const StemProblem& p, const StemWgradTiling& t,
                                            const StemWgradStages& stages, int group, int warp) {
  const StemWgradWork work(t);
  constexpr bool kSplits = kVariant.planes > 1;
  constexpr int kThreads = kVariant.fill_threads();
  const int thread = warp * 32 + threadIdx.x % 32, pixels = t.groups * kStemGroup;
  const auto rows = [&] {
    if constexpr (kSplits) {
      constexpr StemForm kForm = kVariant.planes == 3 ? StemForm::kThreeParts : StemForm::kTwoParts;
      return StemRows<kForm, kCopies, 8 / kCopies>(static_cast<const float*>(x), p, t.patch,
                                                   stages.raw_x(t, group), warp, kThreads / 32);
    } else {
      return StemWords<kCopies, 8 / kCopies, kThreads, kStemFillRegisters>(
          static_cast<const uint16_t*>(x), p, t.patch, thread);
    }
  }();
  const uint32_t raw_y = stages.raw_y(t, group), raw_y_full = stages.raw_y_full(group);
  // Once all warps have read the buffer, one fetches anew: the last, which has the least to do for
  // x, so that no other waits (for three parts it would take too many registers).
  constexpr bool kAllWait = kVariant.planes == 3;
  constexpr int kFetcher = kAllWait ? 0 : kThreads - 32;
  const auto fetch_y = [&](const StemPlace& at) {
    barrier_expect(raw_y_full, pixels * kVariant.columns * 4);
    copy_tensor(raw_y, &y_map, raw_y_full, work.first_column, at.w, at.h, at.n);
  };
  const int begin = work.first_tile + group;
  StemPlace at(t, begin);
  if (kSplits && begin < work.end_tile) {
    rows.fetch(p, t.patch, StemOrigin(p, at, work.first_row));
    if (thread == kFetcher) fetch_y(at);
  }
  uint32_t raw_parity = 0;
  RingPlace place;
  for (int i = 0; i < group; ++i) place.advance(t.stages);
  for (int tile = begin; tile < work.end_tile; tile += kStemProducers) {
    StemPlace next = at;
    for (int i = 0; i < kStemProducers; ++i) next.advance(t);
    const uint32_t full = stages.full(place.stage);
    const bool goes_on = tile + kStemProducers < work.end_tile;
    const StemOrigin own(p, at, work.first_row), later(p, next, work.first_row);
    if (!kSplits && goes_on) rows.fetch(p, t.patch, later);
    barrier_wait(stages.empty(place.stage), place.parity ^ 1);
    if constexpr (kSplits) {
      barrier_wait(raw_y_full, raw_parity);
      raw_parity ^= 1;
      split_gradient<kVariant>(t, raw_y, stages.y(place.stage), thread);
      publish_to_products();
      if (kAllWait || thread >= kFetcher) {
        asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(kThreads) : "memory");
        if (goes_on && thread == kFetcher) fetch_y(next);
      } else {
        asm volatile("bar.arrive %0, %1;" ::"r"(1 + group), "n"(kThreads) : "memory");
      }
    } else if (thread == 0) {
      constexpr int kBlock = kVariant.row_bytes() / 2;  // channels
      const int rows = t.steps * 2 * kStemGroup;
      barrier_expect(full, pixels * kVariant.columns * 2);
#pragma unroll
      for (int block = 0; block < kVariant.columns / kBlock; ++block) {
        copy_tensor(stages.y(place.stage) + block * rows * kVariant.row_bytes(), &y_map, full,
                    work.first_column + block * kBlock, at.w, at.h, at.n);
      }
    }
    if constexpr (kSplits) {
      rows.place(p, t.patch, stages.patch(place.stage), goes_on, later);
    } else {
      rows.place(p, t.patch, stages.patch(place.stage), own);
    }
    barrier_arrive(full);
    for (int i = 0; i < kStemProducers; ++i) place.advance(t.stages);
    at = next;
  }
}

template <StemWgradVariant kVariant>
__device__ __forceinline__ void fill_stages(const CUtensorMap& y_map, const void* x,
                                            const StemProblem& p, const StemWgradTiling& t,
                                            const StemWgradStages& stages, int group, int warp) {
  const auto fill = [&](auto copies) {
    fill_copies<decltype(copies)::value, kVariant>(y_map, x, p, t, stages, group, warp);
  };
  switch (t.patch.copies) {
    case 8:
      return fill(Constant<8>());
    case 4:
      return fill(Constant<4>());
    case 2:
      return fill(Constant<2>());
    default:
      return fill(Constant<1>());
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
