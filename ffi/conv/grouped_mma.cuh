#pragma once

// What the grouped kernels ask of a single warp: products of 16 x 8 values over 32 bytes of depth,
// addresses in the copy engine's swizzle, and copies of results to global memory.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "conv/grouped.h"
#include "conv/halo_store.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// Where the copy engine puts a byte of a tile that starts at a multiple of 1024. Its swizzles exist
// for rows of 128, 64 and 32 bytes alone; other rows are left as they are.
__device__ __forceinline__ uint32_t swizzled(uint32_t address, uint32_t mask) {
  return address ^ ((address >> 3) & mask);
}

__device__ __forceinline__ uint32_t swizzle_mask(int row_bytes) {
  return row_bytes == 128 || row_bytes == 64 || row_bytes == 32 ? row_bytes - 16 : 0;
}

__device__ __forceinline__ uint32_t load_word(uint32_t address) {
  uint32_t word;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(address) : "memory");
  return word;
}

__device__ __forceinline__ void load_words(uint32_t (&to)[2], uint32_t address) {
  asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void store_word(uint32_t address, uint32_t word) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
}

// d[16, 8] += a[16, 32 bytes] * b[32 bytes, 8]. Lane l has of d the columns 2 (l % 4) + {0, 1} of
// rows l / 4 and l / 4 + 8.
template <typename T>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// The same over 16 bytes of depth: the last unit where their number is odd.
template <typename T>
__device__ __forceinline__ void multiply_half(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t b) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(b));
  } else if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(b));
  } else {
    asm("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(b));
  }
}

// Tensor cores would cut float32 off; 16-bit values are as they are.
template <typename T>
__device__ __forceinline__ uint32_t as_operand(uint32_t bits) {
  if constexpr (std::is_same_v<T, float>) {
    uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
    return rounded;
  } else {
    return bits;
  }
}

// Of the warps that multiply.
__device__ __forceinline__ void grouped_barrier() { sync_threads(1, 32 * kGroupedWarps); }

// Which warp a thread is of, for all lanes the same.
__device__ __forceinline__ int warp_index() {
  return __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0);
}

// The box of a tile: its first result.
struct GroupedTile {
  int image, row, column;

  __device__ GroupedTile(const GroupedTiling& t, int tile) {
    column = tile % t.tiles_w * t.tile_width;
    row = tile / t.tiles_w % t.tiles_h * t.tile_height;
    image = tile / t.tiles_w / t.tiles_h * t.tile_images;
  }
};

// Of each unit of a bundle's phase, tap by tap: where it lies from a result's first pixel on, in
// bytes; and its number among a pixel's units (upper half) and that of its tap in the filter. By
// the warps that multiply.
inline constexpr int kGroupedUnitEntry = 8;  // bytes

__device__ inline void fill_units(const GroupedTiling& t, uint32_t to) {
  for (int run = warp_index(); run < t.phases * t.block.bundles; run += kGroupedWarps) {
    const int p = run / t.block.bundles, b = run % t.block.bundles;
    const GroupedPhase& phase = t.phase[p];
    const int units = t.block.units[b], step = t.first_step[p][b];
    for (int i = threadIdx.x % 32; i < phase.taps() * units; i += 32) {
      const int tap = i / units, tap_h = tap / phase.taps_w, tap_w = tap % phase.taps_w;
      const int row = phase.origin_h + tap_h * phase.tap_step_h;
      const int column = phase.origin_w + tap_w * phase.tap_step_w;
      const int number =
          phase.first_filter_tap + tap_h * phase.filter_step_h + tap_w * phase.filter_step_w;
      const int unit = t.block.first[b] + i % units;
      const uint32_t at = to + (2 * step + i) * kGroupedUnitEntry;
      store_word(at, (row * t.halo_width + column) * t.block.in_bytes + unit * kGroupedUnit);
      store_word(at + 4, unit << 16 | number);
    }
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
