#pragma once

// fprop and dgrad of several groups:
//
//   out[n, p, q, g * width + k] = sum over taps, c < depth of in[n, h, w, g * depth + c] *
//                                 filter[tap, c, g * width + k]
//
// A thread block keeps one block of groups, with its filter as fragments in shared memory, and goes
// over tiles of results, each phase of a strided dgrad from the same halo. One warp copies halos of
// [images, rows, columns, in_bytes] ahead, in the copy engine's swizzle; eight multiply and write
// results to shared memory, from where the copy engine stores what lies inside of the image.
//
// A warp takes kRows x 16 results x kColumns x 8 channels. Row i of a product's left operand is the
// unit (16 bytes) of one pixel at one tap, wherever it lies in the halo: `load_matrices` takes its
// address from each lane. So one table of units serves every filter, stride and dilation.
//
// Bytes: in once (halos overlap in L2), out once. Shared memory is read at 128 bytes a tick: 4
// ticks for a product's left operand, which kColumns products share, 2 for the right one, which
// kRows do; a product itself takes 1.6. Floors on an H200 at 4.3 TB/s, bf16, batch 128, 3x3, 32
// groups: 56x56, C 128: 48 us; 28x28, C 256: 24 us; 14x14, C 512: 12 us; 56x56, C 256, stride 2: 60
// us.

#include "conv/grouped_filter.cuh"

namespace jaxdirect::conv {

struct GroupedArgs {
  CUtensorMap in;
  CUtensorMap out[kGroupedPhases];
  const void* filter;  // [taps, C/G, K]
  GroupedTiling tiling;
};

#if JAXDIRECT_HOPPER

// Shared memory: addresses of its parts.
struct GroupedMemory {
  uint32_t stages, results, filter, units, pixels, full, empty;

  __device__ explicit GroupedMemory(const GroupedTiling& t, uint32_t base) {
    stages = (base + 1023) & ~1023u;
    results = stages + t.stages * t.stage_bytes;
    filter = results + 2 * t.result_bytes;
    full = filter + t.filter_bytes;
    empty = full + 8 * t.stages;
    units = empty + 8 * t.stages;
    pixels = units + t.unit_bytes;
  }
};

// Where each result's first pixel lies in the halo, in bytes; those past the tile are its first.
__device__ inline void fill_pixels(const GroupedTiling& t, uint32_t to, int count) {
  for (int i = threadIdx.x; i < count; i += 32 * kGroupedWarps) {
    const int result = i < t.tile_results() ? i : 0;
    const int column = result % t.tile_width;
    const int row = result / t.tile_width % t.tile_height;
    const int image = result / t.tile_width / t.tile_height;
    const int pixel = (image * t.halo_height + row * t.step_h) * t.halo_width + column * t.step_w;
    store_word(to + 4 * i, pixel * t.block.in_bytes);
  }
}

// sums (+)= the products of one run over `rows` x 16 pixels; `pixels` are addresses before
// the swizzle.
template <typename T, int kColumns, int kRows>
__device__ __forceinline__ void multiply_run(float (&sums)[kRows][kColumns][4],
                                             const uint32_t (&pixels)[kRows], uint32_t mask,
                                             int units, uint32_t unit_table, uint32_t filter) {
  const int lane = threadIdx.x % 32;
  uint32_t unit = unit_table + lane / 16 * kGroupedUnitEntry;
  uint32_t right = filter + lane * 8;
  uint32_t offset = load_word(unit);
#pragma unroll 2
  for (int i = 0; i + 1 < units; i += 2, right += 256 * kColumns) {
    uint32_t a[kRows][4], b[kColumns][2];
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      load_matrices(a[m], swizzled(pixels[m] + offset, mask));
#pragma unroll
      for (uint32_t& value : a[m]) value = as_operand<T>(value);
    }
    unit += 2 * kGroupedUnitEntry;
    offset = load_word(unit);  // of the next step; past the last of a list other numbers follow
#pragma unroll
    for (int n = 0; n < kColumns; ++n) load_words(b[n], right + n * 256);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
#pragma unroll
      for (int n = 0; n < kColumns; ++n) multiply<T>(sums[m][n], a[m], b[n]);
    }
  }
  if (units % 2 == 0) return;
  offset = load_word(unit_table + (units - 1) * kGroupedUnitEntry);
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    uint32_t a[4];  // of which the upper lanes' half is not used
    load_matrices(a, swizzled(pixels[m] + offset, mask));
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      multiply_half<T>(sums[m][n], as_operand<T>(a[0]), as_operand<T>(a[1]),
                       load_word(right + n * 256));
    }
  }
}

// Results to shared memory, [results, out_bytes] in the swizzle; `to` is where the first of this
// lane's goes before it, and `columns` of the block's results are left from there on.
template <typename T, int kColumns, int kRows>
__device__ __forceinline__ void write_results(const float (&sums)[kRows][kColumns][4], int columns,
                                              int out_bytes, uint32_t mask, uint32_t to) {
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    if (n * kGroupedColumns >= columns) break;
#pragma unroll
    for (int i = 0; i < 2 * kRows; ++i) {
      const uint32_t at = swizzled(
          to + i * 8 * out_bytes + n * kGroupedColumns * static_cast<int>(sizeof(T)), mask);
      const float low = sums[i / 2][n][i % 2 * 2], high = sums[i / 2][n][i % 2 * 2 + 1];
      if constexpr (sizeof(T) == 4) {
        store_word(at, __float_as_uint(low));
        store_word(at + 4, __float_as_uint(high));
      } else {
        store_word(at, pack_pair(low, high, T()));
      }
    }
  }
}

template <typename T, int kColumns, int kRows>
__device__ __forceinline__ void multiply_tiles(const GroupedArgs& args, const GroupedMemory& at,
                                               int block, int slot) {
  const GroupedTiling& t = args.tiling;
  const int warp = warp_index(), lane = threadIdx.x % 32;
  fill_pixels(t, at.pixels, t.padded_results());
  fill_units(t, at.units);
  grouped_barrier();
  fill_filter<T, kColumns>(t, static_cast<const T*>(args.filter), block, at.units, at.filter);
  grouped_barrier();

  // A warp has one bundle, and every so many-th set of results.
  const int set_step = kGroupedWarps / t.block.bundles, bundle = warp % t.block.bundles;
  const int first_set = warp / t.block.bundles, in_bytes = t.block.in_bytes;
  const int out_bytes = t.block.out_bytes, units = t.block.units[bundle];
  const int sets = first_set < set_step ? t.row_sets() : 0;
  const int first_column = bundle * kColumns * kGroupedColumns + lane % 4 * 2;
  const int columns = t.block.out_channels() - first_column;
  const uint32_t in_mask = swizzle_mask(in_bytes), out_mask = swizzle_mask(out_bytes);
  const uint32_t place = lane / 4 * out_bytes + first_column * static_cast<int>(sizeof(T));
  constexpr int kSet = kRows * kGroupedRows;
  const uint32_t lane_pixels = at.pixels + lane % 16 * 4;
  int stage = 0, parity = 0, buffer = 0;
  for (int tile = slot; tile < t.tiles(); tile += t.slots) {
    const GroupedTile box(t, tile);
    const uint32_t halo = at.stages + stage * t.stage_bytes;
    barrier_wait(at.full + 8 * stage, parity);
    for (int p = 0; p < t.phases; ++p) {
      const uint32_t results = at.results + buffer * t.result_bytes;
      const int step = t.first_step[p][bundle], all_units = t.phase[p].taps() * units;
      for (int set = first_set; set < sets; set += set_step) {
        uint32_t pixels[kRows];
#pragma unroll
        for (int m = 0; m < kRows; ++m) {
          pixels[m] = halo + load_word(lane_pixels + (set * kSet + m * kGroupedRows) * 4);
        }
        float sums[kRows][kColumns][4] = {};
        multiply_run<T, kColumns, kRows>(sums, pixels, in_mask, all_units,
                                         at.units + 2 * kGroupedUnitEntry * step,
                                         at.filter + 256 * kColumns * step);
        write_results<T, kColumns, kRows>(sums, columns, out_bytes, out_mask,
                                          results + place + set * kSet * out_bytes);
      }
      if (p + 1 == t.phases) {
        __syncwarp();
        if (lane == 0) barrier_arrive(at.empty + 8 * stage);
      }
      // The other buffer is free when its store has read it: that was asked for a phase ago.
      copy_engine_fence();
      if (threadIdx.x == 0) store_wait<0>();
      grouped_barrier();
      if (threadIdx.x == 0) {
        store_tensor(&args.out[p], results, block * t.block.out_channels(), box.column, box.row,
                     box.image);
        store_commit();
      }
      buffer ^= 1;
    }
    if (++stage == t.stages) stage = 0, parity ^= 1;
  }
  if (threadIdx.x == 0) store_wait<0>();
}

__device__ inline void copy_halos(const GroupedArgs& args, const GroupedMemory& at, int block,
                                  int slot) {
  const GroupedTiling& t = args.tiling;
  int stage = 0, parity = 0;
  for (int tile = slot; tile < t.tiles(); tile += t.slots) {
    const GroupedTile box(t, tile);
    barrier_wait(at.empty + 8 * stage, parity ^ 1);
    barrier_expect(at.full + 8 * stage, t.halo_bytes());
    copy_tensor(at.stages + stage * t.stage_bytes, &args.in, at.full + 8 * stage,
                block * t.block.in_channels(), box.column * t.step_w + t.halo_first_w,
                box.row * t.step_h + t.halo_first_h, box.image);
    if (++stage == t.stages) stage = 0, parity ^= 1;
  }
}

#endif  // JAXDIRECT_HOPPER

template <typename T, int kColumns, int kRows>
__global__ void __launch_bounds__(kGroupedThreads, 2)
    grouped(const __grid_constant__ GroupedArgs args) {
#if JAXDIRECT_HOPPER
  extern __shared__ uint8_t shared[];
  const GroupedTiling& t = args.tiling;
  const GroupedMemory at(t, shared_address(shared));
  if (threadIdx.x == 0) {
    for (int s = 0; s < t.stages; ++s) {
      barrier_init(at.full + 8 * s, 1);
      barrier_init(at.empty + 8 * s, kGroupedWarps);
    }
    barrier_init_fence();
  }
  __syncthreads();
  const int block = static_cast<int>(blockIdx.x) % t.block.blocks;
  const int slot = static_cast<int>(blockIdx.x) / t.block.blocks;
  if (warp_index() < kGroupedWarps) {
    multiply_tiles<T, kColumns, kRows>(args, at, block, slot);
  } else if (threadIdx.x % 32 == 0) {
    copy_halos(args, at, block, slot);
  }
#endif
}

}  // namespace jaxdirect::conv
