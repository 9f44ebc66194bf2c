#pragma once

// fprop and dgrad of several groups:
//
//   out[n, p, q, g * width + k] = sum over taps, c < depth of in[n, h, w, g * depth + c] *
//                                 filter[tap, c, g * width + k]
//
// A thread block keeps one block of groups, with its filter as fragments in shared memory, and goes
// over tiles of results, each phase of a strided dgrad from the same halo. One warp copies halos of
// [images, rows, columns, in_bytes] ahead, in the copy engine's swizzle; eight multiply and write results
// to shared memory, from where the copy engine stores what lies inside of the image.
//
// A warp takes kRows x 16 results x kColumns x 8 channels. Row i of a product's left operand is the
// unit (16 bytes) of one pixel at one tap, wherever it lies in the halo: `load_matrices` takes its
// address from each lane. So one table of units serves every filter, stride and dilation.
//
// Bytes: in once (halos overlap in L2), out once. Shared memory is read at 128 bytes a tick: 4 ticks
// for a product's left operand, which kColumns products share, 2 for the right one, which kRows do;
// a product itself takes 1.6. Floors on an H200 at 4.3 TB/s, bf16, batch 128, 3x3, 32 groups:
// 56x56, C 128: 48 us; 28x28, C 256: 24 us; 14x14, C 512: 12 us; 56x56, C 256, stride 2: 60 us.

#include "conv/grouped_mma.cuh"

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

// Calls visit(phase, bundle, first step) for each, in the order in which filter and units lie.
template <typename Visit>
__device__ __forceinline__ void for_each_run(const GroupedTiling& t, const Visit& visit) {
  int step = 0;
  for (int p = 0; p < t.phases; ++p) {
    for (int b = 0; b < t.block.bundles; ++b) {
      visit(p, b, step);
      step += t.steps(p, b);
    }
  }
}

// Where each result's first pixel lies in the halo, in bytes; those past the tile are its first.
__device__ inline void fill_pixels(const GroupedTiling& t, uint32_t to, int count) {
  for (int i = threadIdx.x; i < count; i += 32 * kGroupedWarps) {
    const int result = i < t.tile_results() ? i : 0;
    const int column = result % t.tile_width;
    const int row = result / t.tile_width % t.tile_height;
    const int image = result / t.tile_width / t.tile_height;
    const int pixel =
        (image * t.halo_height + row * t.step_h) * t.halo_width + column * t.step_w;
    store_word(to + 4 * i, pixel * t.block.in_bytes);
  }
}

// Where the units of a run lie from a result's first pixel on, in bytes: tap by tap.
__device__ inline void fill_units(const GroupedTiling& t, uint32_t to) {
  for_each_run(t, [&](int p, int b, int step) {
    const GroupedPhase& phase = t.phase[p];
    const int units = t.block.units[b];
    for (int i = threadIdx.x; i < phase.taps() * units; i += 32 * kGroupedWarps) {
      const int tap = i / units;
      const int row = phase.origin_h + tap / phase.taps_w * phase.tap_step_h;
      const int column = phase.origin_w + tap % phase.taps_w * phase.tap_step_w;
      const int offset = (row * t.halo_width + column) * t.block.in_bytes +
                         (t.block.first[b] + i % units) * kGroupedUnit;
      store_word(to + 4 * (2 * step + i), offset);
    }
  });
}

// One value of the filter, by channels of the block; 0 between channels of different groups.
template <typename T>
__device__ __forceinline__ T filter_value(const GroupedTiling& t, const T* filter, int tap,
                                          int block, int in, int out) {
  const GroupedBlock& k = t.block;
  const int group = out / k.width;
  const int all = block * k.groups + group;
  if (out >= k.out_channels() || in / k.depth != group || all >= t.groups) return T(0.0f);
  const int64_t c = in - group * k.depth, o = out - group * k.width;
  if (t.transposed) {
    return filter[(int64_t{tap} * k.width + o) * t.groups * k.depth + all * k.depth + c];
  }
  return filter[(int64_t{tap} * k.depth + c) * t.groups * k.width + all * k.width + o];
}

// The filter of a block as the right operands of products, [step, columns, lane, 2 words].
template <typename T, int kColumns>
__device__ inline void fill_filter(const GroupedTiling& t, const T* filter, int block,
                                   uint32_t to) {
  constexpr int kPerWord = 4 / sizeof(T);
  const int lane = threadIdx.x % 32;
  for_each_run(t, [&](int p, int b, int step) {
    const GroupedPhase& phase = t.phase[p];
    const int units = t.block.units[b];
    for (int i = threadIdx.x / 32; i < 2 * t.steps(p, b); i += kGroupedWarps) {
      const int tap = i / units;
      const int number = phase.first_filter_tap + tap / phase.taps_w * phase.filter_step_h +
                         tap % phase.taps_w * phase.filter_step_w;
      const int in = (t.block.first[b] + i % units) * t.block.unit_channels + lane % 4 * kPerWord;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        const int out = (b * kColumns + n) * kGroupedColumns + lane / 4;
        uint32_t word = 0;
        if (i < phase.taps() * units) {
          if constexpr (kPerWord == 1) {
            word = as_operand<T>(
                __float_as_uint(filter_value(t, filter, number, block, in, out)));
          } else {
            const T low = filter_value(t, filter, number, block, in, out);
            const T high = filter_value(t, filter, number, block, in + 1, out);
            word = uint32_t{reinterpret_cast<const uint16_t&>(low)} |
                   uint32_t{reinterpret_cast<const uint16_t&>(high)} << 16;
          }
        }
        const int fragment = (step + i / 2) * kColumns + n;
        store_word(to + fragment * 256 + lane * 8 + i % 2 * 4, word);
      }
    }
  });
}

// sums (+)= the products of one run over `rows` x 16 pixels; `pixels` are addresses before
// the swizzle.
template <typename T, int kColumns, int kRows>
__device__ __forceinline__ void multiply_run(float (&sums)[kRows][kColumns][4],
                                             const uint32_t (&pixels)[kRows], uint32_t mask,
                                             int units, uint32_t unit_table,
                                             uint32_t filter) {
  const int lane = threadIdx.x % 32;
  uint32_t unit = unit_table + lane / 16 * 4;
  uint32_t right = filter + lane * 8;
#pragma unroll 2
  for (int i = 0; i + 1 < units; i += 2, unit += 8, right += 256 * kColumns) {
    const uint32_t offset = load_word(unit);
    uint32_t a[kRows][4], b[kColumns][2];
#pragma unroll
    for (int n = 0; n < kColumns; ++n) load_words(b[n], right + n * 256);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      load_matrices(a[m], swizzled(pixels[m] + offset, mask));
#pragma unroll
      for (uint32_t& value : a[m]) value = as_operand<T>(value);
    }
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
#pragma unroll
      for (int n = 0; n < kColumns; ++n) multiply<T>(sums[m][n], a[m], b[n]);
    }
  }
  if (units % 2 == 0) return;
  const uint32_t offset = load_word(unit_table + (units - 1) * 4);
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

// Results to shared memory, [results, out_bytes] in the swizzle.
template <typename T, int kColumns, int kRows>
__device__ __forceinline__ void write_results(const GroupedTiling& t,
                                              const float (&sums)[kRows][kColumns][4], int set,
                                              int bundle, uint32_t to) {
  const int lane = threadIdx.x % 32;
  const uint32_t mask = swizzle_mask(t.block.out_bytes);
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = (set * kRows + m) * kGroupedRows + half * 8 + lane / 4;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        const int run = bundle * kColumns + n;
        if (run >= t.block.column_runs()) break;
        const int column = run * kGroupedColumns + lane % 4 * 2;
        const uint32_t at =
            swizzled(to + row * t.block.out_bytes + column * static_cast<int>(sizeof(T)), mask);
        const float low = sums[m][n][2 * half], high = sums[m][n][2 * half + 1];
        if constexpr (sizeof(T) == 4) {
          store_word(at, __float_as_uint(low));
          store_word(at + 4, __float_as_uint(high));
        } else {
          store_word(at, pack_pair(low, high, T()));
        }
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
  fill_filter<T, kColumns>(t, static_cast<const T*>(args.filter), block, at.filter);
  grouped_barrier();

  const uint32_t mask = swizzle_mask(t.block.in_bytes);
  const int items = t.block.bundles * t.row_sets();
  int stage = 0, parity = 0, buffer = 0;
  for (int tile = slot; tile < t.tiles(); tile += t.slots) {
    const GroupedTile box(t, tile);
    const uint32_t halo = at.stages + stage * t.stage_bytes;
    barrier_wait(at.full + 8 * stage, parity);
    int first_step = 0;
    for (int p = 0; p < t.phases; ++p) {
      const uint32_t results = at.results + buffer * t.result_bytes;
      for (int item = warp; item < items; item += kGroupedWarps) {
        const int bundle = item % t.block.bundles, set = item / t.block.bundles;
        int step = first_step;
        for (int b = 0; b < bundle; ++b) step += t.steps(p, b);
        uint32_t pixels[kRows];
#pragma unroll
        for (int m = 0; m < kRows; ++m) {
          const int result = (set * kRows + m) * kGroupedRows + lane % 16;
          pixels[m] = halo + load_word(at.pixels + 4 * result);
        }
        float sums[kRows][kColumns][4] = {};
        multiply_run<T, kColumns, kRows>(sums, pixels, mask, t.phase[p].taps() * t.block.units[bundle],
                                         at.units + 8 * step, at.filter + 256 * kColumns * step);
        write_results<T, kColumns, kRows>(t, sums, set, bundle, results);
      }
      for (int b = 0; b < t.block.bundles; ++b) first_step += t.steps(p, b);
      if (p + 1 == t.phases) {
        __syncwarp();
        if (lane == 0) barrier_arrive(at.empty + 8 * stage);
      }
      // The other buffer is free when its store has read it: that was asked for a phase ago.
      copy_engine_fence();
      if (threadIdx.x == 0) store_wait();
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
  if (threadIdx.x == 0) store_wait();
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
