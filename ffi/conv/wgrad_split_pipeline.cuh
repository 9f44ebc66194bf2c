#pragma once

// How float32 values come to the products of wgrad_split_kernel.cuh: the stages in shared memory,
// the thread that fetches and the warps that split halos, and the tables of a tile's runs.

#include "conv/float_parts.cuh"
#include "conv/wgrad_kernel.cuh"

namespace jaxdirect::conv {

inline constexpr int kSplitters = 3;                  // warps
inline constexpr int kRawRow = kWgradBlock * 4;       // bytes of a halo's pixel
inline constexpr int kWgradMaxRuns = 64;              // of a tile
inline constexpr int kFullArrivals = kSplitters + 1;  // and who fetches y_bar

// What a tile's runs are, the same for all tiles.
struct WgradRuns {
  // By step: the first run's pixel, and from it to the second's.
  uint32_t pixels[kWgradMaxRuns / 2 + 1];  // a pair's second may be none
  // Of every pixel of a run its row of y_bar, or one of zeros: in bytes, with the row's swizzle.
  uint16_t y_rows[kWgradMaxRuns][kRun];
};

#if JAXDIRECT_HOPPER

// Stages of split halos and y_bar, and of float32 halos before that.
struct WgradSplitStages {
  uint32_t data, raw_data, barriers;
  int halo_bytes, stage_bytes, raw_bytes, stages;

  __device__ WgradSplitStages(const WgradTiling& t, const void* shared) {
    data = (shared_address(shared) + 1023) / 1024 * 1024;
    halo_bytes = t.halo_bytes;
    stage_bytes = t.halo_bytes + t.y_bytes;
    raw_bytes = t.raw_bytes;
    stages = t.stages;
    raw_data = data + t.stages * stage_bytes;
    barriers = data + t.data_bytes();
  }

  __device__ uint32_t halo(int stage) const { return data + stage * stage_bytes; }
  __device__ uint32_t y(int stage) const { return halo(stage) + halo_bytes; }
  __device__ uint32_t raw(int stage) const { return raw_data + stage * raw_bytes; }
  __device__ uint32_t full(int stage) const { return barriers + 16 * stage; }
  __device__ uint32_t empty(int stage) const { return full(stage) + 8; }
  __device__ uint32_t raw_full(int stage) const { return full(stages + stage); }
  __device__ uint32_t raw_empty(int stage) const { return raw_full(stage) + 8; }
};

// One thread.
__device__ inline void fetch_split_tiles(const CUtensorMap& x, const CUtensorMap& y,
                                         const WgradProblem& p, const WgradTiling& t,
                                         const WgradWork& work, const WgradSplitStages& stages) {
  const WgradGroup& group = t.group[work.group];
  const uint32_t y_block = t.tile_pixels() * kSwizzleRow;
  const int y_blocks = 2 * t.row_blocks;
  RingPlace place, raw;
  for (int tile = work.first_tile; tile < work.end_tile; ++tile) {
    const int w = tile % t.blocks_w * t.tile_width;
    const int h = tile / t.blocks_w % t.blocks_h * t.tile_height;
    const int n = tile / t.blocks_w / t.blocks_h * t.tile_images;
    const uint32_t raw_full = stages.raw_full(raw.stage), full = stages.full(place.stage);
    barrier_wait(stages.raw_empty(raw.stage), raw.parity ^ 1);
    barrier_expect(raw_full, t.halo_pixels() * kRawRow);
    copy_tensor(stages.raw(raw.stage), &x, raw_full, work.chunk * kWgradBlock, n,
                w * p.stride_w - p.pad_w + group.origin_w,
                h * p.stride_h - p.pad_h + group.origin_h);
    raw.advance(t.raw_stages);
    barrier_wait(stages.empty(place.stage), place.parity ^ 1);
    barrier_expect(full, y_blocks * y_block);
    for (int block = 0; block < y_blocks; ++block) {
      copy_tensor(stages.y(place.stage) + block * t.y_rows * kSwizzleRow, &y, full,
                  work.column_block * t.row_blocks * kWgradBlock + block * kWgradBlock / 2, n, w,
                  h);
    }
    place.advance(t.stages);
  }
}

// kSplitters warps; a thread has four neighbouring channels of every sixth pixel.
template <int kParts>
__device__ __forceinline__ void split_halos(const WgradTiling& t, const WgradWork& work,
                                            const WgradSplitStages& stages, int thread) {
  constexpr int kStep = 32 * kSplitters / (kWgradBlock / 4);  // pixels
  constexpr int kAtOnce = kParts == 3 ? 2 : 4;
  const int pixels = t.halo_pixels(), quad = thread % 16, first = thread / 16;
  RingPlace place, raw;
  for (int tile = work.first_tile; tile < work.end_tile; ++tile) {
    barrier_wait(stages.raw_full(raw.stage), raw.parity);
    barrier_wait(stages.empty(place.stage), place.parity ^ 1);
    const uint32_t from = stages.raw(raw.stage) + quad * 16;
    const uint32_t to = stages.halo(place.stage) + quad % 2 * 8;
    for (int pixel = first; pixel < pixels; pixel += kAtOnce * kStep) {
      uint4 values[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {  // beyond the halo what is read is not used
        values[i] = load_16(from + min(pixel + i * kStep, pixels - 1) * kRawRow);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int row = pixel + i * kStep;
        uint32_t parts[kParts][2];
        const auto split = [&](uint32_t low, uint32_t high, uint32_t* to) {
          split_pair<kParts, 2>(__uint_as_float(low), __uint_as_float(high), to);
        };
        split(values[i].x, values[i].y, &parts[0][0]);
        split(values[i].z, values[i].w, &parts[0][1]);
        const uint32_t at = to + row * kSwizzleRow + (quad / 2 ^ row % 8) * 16;
        if (row >= pixels) break;
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
          store_8(at + part * t.part_bytes, parts[part][0], parts[part][1]);
        }
      }
    }
    copy_engine_fence();
    __syncwarp();
    if (thread % 32 == 0) {
      barrier_arrive(stages.full(place.stage));
      barrier_arrive(stages.raw_empty(raw.stage));
    }
    place.advance(t.stages);
    raw.advance(t.raw_stages);
  }
}

// All threads; the block synchronises afterwards.
__device__ inline void prepare_split(const WgradTiling& t, const WgradSplitStages& stages,
                                     WgradRuns& runs) {
  if (threadIdx.x == 0) {
    for (int i = 0; i < t.stages; ++i) {
      barrier_init(stages.full(i), kFullArrivals);
      barrier_init(stages.empty(i), kConsumerWarps);
    }
    for (int i = 0; i < t.raw_stages; ++i) {
      barrier_init(stages.raw_full(i), 1);
      barrier_init(stages.raw_empty(i), kSplitters);
    }
    barrier_init_fence();
  }
  const int line_runs = t.line_runs();
  const auto run_pixel = [&](int run) {
    if (run >= t.runs) return 0;
    return run / line_runs * t.halo_width * t.tile_images + run % line_runs * kRun;
  };
  if (threadIdx.x < t.steps()) {
    const int from = run_pixel(2 * threadIdx.x), to = run_pixel(2 * threadIdx.x + 1);
    // A last run alone: any pixels do for the other, under zeros of y_bar.
    runs.pixels[threadIdx.x] = from | (to > from ? to - from : 0) << 16;
  }
  for (int i = threadIdx.x; i < t.steps() * 2 * kRun; i += blockDim.x) {
    const int run = i / kRun, pixel = run % line_runs * kRun + i % kRun;
    const int n = pixel % t.tile_images, column = pixel / t.tile_images;
    const int w = t.flat ? column % t.halo_width : column;
    const int h = t.flat ? column / t.halo_width : run / line_runs;
    int row = t.tile_pixels();  // zeros
    if (run < t.runs && w < t.tile_width && h < t.tile_height) {
      row = (h * t.tile_width + w) * t.tile_images + n;
    }
    runs.y_rows[run][i % kRun] = row * kSwizzleRow | row % 8 * 16;
  }
  // Zeros: rows of y_bar behind the tile, and of the halo's parts behind the halo.
  const auto clear = [&](uint32_t base, int blocks, int pitch, int first, int end) {
    const int words = (end - first) * (kSwizzleRow / 4);
    for (int i = threadIdx.x; i < blocks * words; i += blockDim.x) {
      const uint32_t at = base + i / words * pitch + first * kSwizzleRow + i % words * 4;
      asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(0) : "memory");
    }
  };
  for (int stage = 0; stage < t.stages; ++stage) {
    clear(stages.y(stage), 2 * t.row_blocks, t.y_rows * kSwizzleRow, t.tile_pixels(), t.y_rows);
    clear(stages.halo(stage), t.parts, t.part_bytes, t.halo_pixels(), t.part_bytes / kSwizzleRow);
  }
  copy_engine_fence();
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
