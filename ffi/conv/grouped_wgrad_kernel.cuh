#pragma once

// wgrad of several groups, 16-bit values:
//
//   filter_bar[tap, c, g * width + k] = sum over n, p, q of x[n, h, w, g * depth + c] *
//                                       y_bar[n, p, q, g * width + k]
//
// by way of float32 partial sums [slots * shares, taps, depth, K]. A thread block keeps one block
// of groups and goes over tiles of y_bar with the halo of x that they meet. A warp multiplies, over
// 16 pixels at a time, pairs of units of x (16 rows: 8 channels at one tap, 8 at another) by
// kColumns x 8 channels of y_bar; it keeps the sums of kGroupedPairs x kColumns such products all
// along. Both operands lie pixel by pixel and are loaded transposed. Sums between channels of
// different groups are left out at the end.
//
// Bytes: x and y_bar once (halos overlap in L2), partial sums twice. Shared memory: 4 ticks for a
// pair of units, which kColumns products share. Floors as in grouped_kernel.cuh.

#include "conv/grouped_mma.cuh"

namespace jaxdirect::conv {

struct GroupedWgradArgs {
  CUtensorMap x, y;
  float* partials;
  int64_t filter_size;
  GroupedTiling tiling;
};

#if JAXDIRECT_HOPPER

struct GroupedWgradMemory {
  uint32_t stages, zeros, full, empty, pixels, units;

  __device__ explicit GroupedWgradMemory(const GroupedTiling& t, uint32_t base) {
    stages = (base + 1023) & ~1023u;
    zeros = stages + t.stages * t.stage_bytes;
    full = zeros + 1024;
    empty = full + 8 * t.stages;
    units = empty + 8 * t.stages;
    pixels = units + t.unit_bytes;
  }
};

// Of each pixel of a tile where its window begins in the halo, in bytes, and its place: 7 bits of
// column, 7 of row and 15 of image, with a bit of 0 above each. Those past the tile are in an image
// that is in no tile.
__device__ inline void fill_places(const GroupedTiling& t, uint32_t to) {
  for (int i = threadIdx.x; i < t.padded_results(); i += kGroupedThreads) {
    const int column = i % t.tile_width;
    const int row = i / t.tile_width % t.tile_height;
    const int image = i / t.tile_width / t.tile_height;
    const int pixel = (image * t.halo_height + row * t.step_h) * t.halo_width + column * t.step_w;
    store_word(to + 8 * i, pixel * t.block.in_bytes);
    store_word(to + 8 * i + 4, image << 16 | row << 8 | column);
  }
}

// The last place of a tile that is inside of y_bar, with the bits above set: these stay set in the
// difference to a place that is inside too.
constexpr uint32_t kPlaceBits = 0x80008080;

__device__ __forceinline__ uint32_t last_place(const GroupedTiling& t, const GroupedTile& box) {
  const GroupedPhase& phase = t.phase[0];
  const uint32_t image = min(t.batch - box.image, t.tile_images) - 1;
  const uint32_t row = min(phase.height - box.row, t.tile_height) - 1;
  const uint32_t column = min(phase.width - box.column, t.tile_width) - 1;
  return kPlaceBits | image << 16 | row << 8 | column;
}

// What a warp does: pairs of units [pair, pair + kGroupedPairs) of a bundle.
struct GroupedPart {
  int bundle, pair, share;

  __device__ GroupedPart(const GroupedTiling& t, int warp) {
    bundle = warp % t.block.bundles;
    pair = warp / t.block.bundles % t.parts * kGroupedPairs;
    share = warp / t.block.bundles / t.parts;
  }
};

// What a lane reads of sixteen pixels, and where: lanes of each eight give the addresses of the
// pixels 0-7, 0-7, 8-15 and 8-15, of a pair's first and second unit in turn.
template <int kColumns>
struct GroupedReads {
  uint32_t units[kGroupedPairs];      // in the halo, from a pixel on
  uint32_t runs[(kColumns + 1) / 2];  // in y_bar, from a pixel on
  uint32_t x_swizzle, y_swizzle, zeros;
  int pixel;
};

// sums += x^T y over sixteen pixels, whose place is known; `y` is this lane's pixel.
template <typename T, int kColumns>
__device__ __forceinline__ void multiply_pixels(float (&sums)[kGroupedPairs][kColumns][4],
                                                const GroupedReads<kColumns>& reads,
                                                const uint32_t (&place)[2], uint32_t last,
                                                uint32_t x, uint32_t y) {
  const bool holds = ((last - place[1]) & kPlaceBits) == kPlaceBits;
  const uint32_t mask = holds ? ~0u : 0u;
  const uint32_t x_at = holds ? x + place[0] : reads.zeros, y_at = holds ? y : reads.zeros;
  uint32_t b[kColumns + 1][2];
#pragma unroll
  for (int n = 0; n < kColumns; n += 2) {
    uint32_t both[4];
    load_transposed(both, swizzled(y_at + (reads.runs[n / 2] & mask), reads.y_swizzle));
    b[n][0] = both[0], b[n + 1][0] = both[1], b[n][1] = both[2], b[n + 1][1] = both[3];
  }
#pragma unroll
  for (int p = 0; p < kGroupedPairs; ++p) {
    uint32_t a[4];
    load_transposed(a, swizzled(x_at + (reads.units[p] & mask), reads.x_swizzle));
#pragma unroll
    for (int n = 0; n < kColumns; ++n) multiply<T>(sums[p][n], a, b[n]);
  }
}

template <int kColumns>
__device__ inline void write_partial(const GroupedTiling& t, const GroupedPart& part, int block,
                                     uint32_t unit_table,
                                     const float (&sums)[kGroupedPairs][kColumns][4], float* to) {
  const GroupedBlock& k = t.block;
  const int lane = threadIdx.x % 32, all_units = t.phase[0].taps() * k.units[part.bundle];
  const int first_out = part.bundle * kColumns * kGroupedColumns + lane % 4 * 2;
  const int groups = min(k.groups, t.groups - block * k.groups);
  const int64_t out_channels = int64_t{t.groups} * k.width;
  const uint32_t list = unit_table + t.first_step[0][part.bundle] * 2 * kGroupedUnitEntry;
  int out_group[kColumns][2];
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    out_group[n][0] = (first_out + n * kGroupedColumns) / k.width;
    out_group[n][1] = (first_out + n * kGroupedColumns + 1) / k.width;
  }
#pragma unroll
  for (int p = 0; p < kGroupedPairs; ++p) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int number = 2 * (part.pair + p) + half;
      if (number >= all_units) continue;
      const uint32_t unit = load_word(list + number * kGroupedUnitEntry + 4);
      const int in = (unit >> 16) * k.unit_channels + lane / 4;
      const int group = in / k.depth, c = in - group * k.depth;
      if (group >= groups) continue;
      float* row = to + (int64_t{unit & 0xffff} * k.depth + c) * out_channels +
                   block * k.out_channels() + first_out;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (out_group[n][i] == group) row[n * kGroupedColumns + i] = sums[p][n][2 * half + i];
        }
      }
    }
  }
}

template <int kColumns>
__device__ __forceinline__ void find_reads(const GroupedTiling& t, const GroupedWgradMemory& at,
                                           const GroupedPart& part, GroupedReads<kColumns>* reads) {
  const int lane = threadIdx.x % 32, last = t.phase[0].taps() * t.block.units[part.bundle] - 1;
  const uint32_t list = at.units + t.first_step[0][part.bundle] * 2 * kGroupedUnitEntry;
#pragma unroll
  for (int p = 0; p < kGroupedPairs; ++p) {
    // Those past the last are not kept.
    const int unit = min(2 * (part.pair + p) + lane / 8 % 2, last);
    reads->units[p] = load_word(list + unit * kGroupedUnitEntry);
  }
#pragma unroll
  for (int n = 0; n < kColumns; n += 2) {
    const int run = part.bundle * kColumns + min(n + lane / 8 % 2, kColumns - 1);
    reads->runs[n / 2] = min(run, t.block.column_runs() - 1) * kGroupedUnit;
  }
  reads->x_swizzle = swizzle_mask(t.block.in_bytes);
  reads->y_swizzle = swizzle_mask(t.block.out_bytes);
  reads->zeros = at.zeros;
  reads->pixel = lane % 8 + lane / 16 * 8;
}

template <typename T, int kColumns>
__device__ __forceinline__ void sum_tiles(const GroupedWgradArgs& args,
                                          const GroupedWgradMemory& at, const GroupedPart& part,
                                          int block, int slot) {
  const GroupedTiling& t = args.tiling;
  GroupedReads<kColumns> reads;
  find_reads(t, at, part, &reads);
  float sums[kGroupedPairs][kColumns][4] = {};
  const int first = part.share * kGroupedRows + reads.pixel, step = t.shares * kGroupedRows;
  const int end = t.padded_results();
  const uint32_t first_y = t.stage_bytes - t.result_bytes + first * t.block.out_bytes;
  const uint32_t step_y = step * t.block.out_bytes;
  int stage = 0, parity = 0;
  for (int tile = slot; tile < t.tiles(); tile += t.slots) {
    const uint32_t last = last_place(t, GroupedTile(t, tile));
    uint32_t place[2];
    load_words(place, at.pixels + 8 * first);
    barrier_wait(at.full + 8 * stage, parity);
    const uint32_t x = at.stages + stage * t.stage_bytes;
    uint32_t y = x + first_y;
    for (int i = first; i < end; i += step, y += step_y) {
      const uint32_t here[2] = {place[0], place[1]};
      if (i + step < end) load_words(place, at.pixels + 8 * (i + step));
      multiply_pixels<T, kColumns>(sums, reads, here, last, x, y);
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(at.empty + 8 * stage);
    if (++stage == t.stages) stage = 0, parity ^= 1;
  }
  write_partial<kColumns>(
      t, part, block, at.units, sums,
      args.partials + (int64_t{slot} * t.shares + part.share) * args.filter_size);
}

__device__ inline void copy_tiles(const GroupedWgradArgs& args, const GroupedWgradMemory& at,
                                  int block, int slot) {
  const GroupedTiling& t = args.tiling;
  const int halo_stage = t.stage_bytes - t.result_bytes;
  int stage = 0, parity = 0;
  for (int tile = slot; tile < t.tiles(); tile += t.slots) {
    const GroupedTile box(t, tile);
    const uint32_t full = at.full + 8 * stage, to = at.stages + stage * t.stage_bytes;
    barrier_wait(at.empty + 8 * stage, parity ^ 1);
    barrier_expect(full, t.halo_bytes() + t.tile_results() * t.block.out_bytes);
    copy_tensor(to, &args.x, full, block * t.block.in_channels(),
                box.column * t.step_w + t.halo_first_w, box.row * t.step_h + t.halo_first_h,
                box.image);
    copy_tensor(to + halo_stage, &args.y, full, block * t.block.out_channels(), box.column, box.row,
                box.image);
    if (++stage == t.stages) stage = 0, parity ^= 1;
  }
}

#endif  // JAXDIRECT_HOPPER

template <typename T, int kColumns>
__global__ void __launch_bounds__(kGroupedThreads, kColumns <= kGroupedSharedColumns ? 2 : 1)
    grouped_slices(const __grid_constant__ GroupedWgradArgs args) {
#if JAXDIRECT_HOPPER
  extern __shared__ uint8_t shared[];
  const GroupedTiling& t = args.tiling;
  const GroupedWgradMemory at(t, shared_address(shared));
  const int warp = warp_index(), lane = threadIdx.x % 32;
  const int working = t.block.bundles * t.parts * t.shares;
  if (threadIdx.x == 0) {
    for (int s = 0; s < t.stages; ++s) {
      barrier_init(at.full + 8 * s, 1);
      barrier_init(at.empty + 8 * s, working);
    }
    barrier_init_fence();
  }
  fill_places(t, at.pixels);
  if (warp < kGroupedWarps) fill_units(t, at.units);
  if (warp == 0) store_word(at.zeros + 4 * lane, 0);
  __syncthreads();
  const int block = static_cast<int>(blockIdx.x) % t.block.blocks;
  const int slot = static_cast<int>(blockIdx.x) / t.block.blocks;
  if (warp < working) {
    sum_tiles<T, kColumns>(args, at, GroupedPart(t, warp), block, slot);
  } else if (warp == kGroupedWarps && lane == 0) {
    copy_tiles(args, at, block, slot);
  }
#endif
}

}  // namespace jaxdirect::conv
