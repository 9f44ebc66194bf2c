#pragma once

// Rows of 16-bit x into shared memory, for the kernels of stem.h: by warps, since rows of few
// channels start at any even address, which the copy engine does not take.
//
// A thread takes units: 8 values of a row, and as many more as the copies' shifts need. It reads
// the aligned 16-byte vectors that hold them, shifts them into place and stores each copy's 16
// bytes. Values outside of the image are zeros.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "conv/halo_store.cuh"
#include "conv/hopper.cuh"
#include "conv/stem.h"

namespace jaxdirect::conv {

// How values lie in shared memory: as they are (16 bits), rounded to TF32, or as bf16 parts.
enum class StemForm { kPlain, kTf32, kTwoParts, kThreeParts };

constexpr int stem_planes(StemForm form) {
  return form == StemForm::kThreeParts ? 3 : form == StemForm::kTwoParts ? 2 : 1;
}

#if JAXDIRECT_HOPPER

__device__ __forceinline__ uint32_t to_tf32(uint32_t value) {
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(value) : "f"(__uint_as_float(value)));
  return value;
}

// A tile's image and first output pixel.
struct StemPlace {
  int n, h, w;

  template <typename Tiling>
  __device__ __forceinline__ StemPlace(const Tiling& t, int tile) {
    w = tile % t.blocks_w * t.patch.tile_width;
    tile /= t.blocks_w;
    h = tile % t.blocks_h * t.patch.tile_height;
    n = tile / t.blocks_h;
  }

  // To the next tile.
  template <typename Tiling>
  __device__ __forceinline__ void advance(const Tiling& t) {
    w += t.patch.tile_width;
    if (w < t.blocks_w * t.patch.tile_width) return;
    w = 0;
    h += t.patch.tile_height;
    if (h < t.blocks_h * t.patch.tile_height) return;
    h = 0;
    ++n;
  }
};

// A tile's first pixel of x, of the filter's row `row`.
struct StemOrigin {
  int n, h, w;

  __device__ __forceinline__ StemOrigin(const StemProblem& p, const StemPlace& at, int row = 0)
      : n(at.n), h(at.h * p.stride_h - p.pad_h + row), w(at.w * p.stride_w - p.pad_w) {}
};

// 16 bytes at an aligned address if `wanted`, else zeros; without a branch, so that loads overlap.
__device__ __forceinline__ uint4 load_if(bool wanted, const void* from) {
  uint4 v;
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %5, 0;\n"
      "mov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
      "@wanted ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(from), "r"(static_cast<int>(wanted)));
  return v;
}

// x and its extent. T: __nv_bfloat16 or __half.
template <typename T>
struct StemImage {
  const T* data;
  int64_t values;

  __device__ __forceinline__ bool has_vector(const T* from) const {
    return from >= data && from + 16 / sizeof(T) <= data + values;
  }

  // 16 bytes from an aligned address of which a part lies outside of x: zeros there.
  __device__ __forceinline__ uint4 part_of_vector(const T* from) const {
    constexpr int kValues = 16 / sizeof(T);
    T parts[kValues];
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      parts[i] = from + i >= data && from + i < data + values ? from[i] : T(0.0f);
    }
    uint4 found;
    memcpy(&found, parts, 16);
    return found;
  }
};

// A unit on its way: the vectors that hold kWanted values from some value of a row on.
template <typename T, int kWanted>
struct StemUnit {
  static constexpr int kPerVector = 8;
  static constexpr int kVectors = (kWanted + kPerVector - 2) / kPerVector + 1;
  static constexpr int kWords = kWanted / 2;  // kWanted is even

  uint4 vectors[kVectors];
  const T* from;    // the first vector
  int offset;       // of the first wanted value in the vectors
  int first, last;  // those of the wanted values that lie in the image: [first, last)
  uint32_t to;      // byte in a copy

  // Starts the loads.
  __device__ __forceinline__ void load(const StemImage<T>& x, const StemProblem& p,
                                       const StemPatch& patch, int n, int h0, int w0, int row,
                                       int block) {
    const int h = h0 + row, width = p.width * p.channels;
    const int value = w0 * p.channels + block * 8;  // of the image's row
    to = row * patch.row_bytes + block * patch.unit_bytes();
    first = max(-value, 0);
    last = row < patch.rows && h >= 0 && h < p.height ? min(width - value, kWanted) : 0;
    const T* wanted = x.data + (int64_t{n} * p.height + h) * width + value;
    offset = static_cast<int>(reinterpret_cast<uintptr_t>(wanted) % 16 / sizeof(T));
    from = wanted - offset;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      vectors[i] = load_if(needs(i) && x.has_vector(from + i * kPerVector), from + i * kPerVector);
    }
  }

  // Of vectors at either end of x, what belongs to x.
  __device__ __forceinline__ void complete(const StemImage<T>& x) {
    if (x.has_vector(from) && x.has_vector(from + (kVectors - 1) * kPerVector)) return;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (needs(i) && !x.has_vector(from + i * kPerVector)) {
        vectors[i] = x.part_of_vector(from + i * kPerVector);
      }
    }
  }

  __device__ __forceinline__ bool needs(int vector) const {
    const int begin = vector * kPerVector - offset;  // among the wanted
    return first < last && begin < last && begin + kPerVector > first;
  }

  // The wanted values in order, zeros outside of the image.
  __device__ __forceinline__ void take(uint32_t (&words)[kWords]) const {
    uint32_t v[4 * kVectors];
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      v[4 * i] = vectors[i].x, v[4 * i + 1] = vectors[i].y;
      v[4 * i + 2] = vectors[i].z, v[4 * i + 3] = vectors[i].w;
    }
    const int skip = offset / 2;  // whole words
#pragma unroll
    for (int i = 0; i < 4 * kVectors - 2; ++i) v[i] = skip & 2 ? v[i + 2] : v[i];
#pragma unroll
    for (int i = 0; i < 4 * kVectors - 3; ++i) v[i] = skip & 1 ? v[i + 1] : v[i];
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      words[i] = __funnelshift_r(v[i], v[i + 1], (offset & 1) * 16);
    }
    if (first == 0 && last >= kWanted) return;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if (2 * i < first || 2 * i >= last) words[i] &= 0xffff0000u;
      if (2 * i + 1 < first || 2 * i + 1 >= last) words[i] &= 0x0000ffffu;
    }
  }
};

// 16-bit values in order to every copy.
template <int kCopies, int kStep, int kWords>
__device__ __forceinline__ void store_copies(const uint32_t (&words)[kWords], uint32_t address,
                                             const StemPatch& patch) {
#pragma unroll
  for (int copy = 0; copy < kCopies; ++copy) {
    const int shift = copy * kStep;
    uint32_t v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = words[shift / 2 + i];
      if (shift % 2 != 0) v[i] = __funnelshift_r(v[i], words[shift / 2 + i + 1], 16);
    }
    store_16(address + patch.copy_at[copy], v[0], v[1], v[2], v[3]);
  }
}

// Thread `thread` of `threads`: the patch of the tile whose first input pixel is (h0, w0)
// of image n, to shared memory at `to`. A thread waits for as many units at once as fit into
// kRegisters.
template <int kCopies, int kStep, int kRegisters, typename T>
__device__ __forceinline__ void fill_patch(const StemImage<T>& x, const StemProblem& p,
                                           const StemPatch& patch, int n, int h0, int w0,
                                           uint32_t to, int thread, int threads) {
  constexpr int kWanted = 8 + ((kCopies - 1) * kStep + 1) / 2 * 2;
  constexpr int kAtOnce = kRegisters / (4 * StemUnit<T, kWanted>::kVectors + 4);
  // Thread and row of a unit go together, so that a warp's loads are neighbours.
  const int row_step = threads / patch.units, block_step = threads % patch.units;
  int row = thread / patch.units, block = thread % patch.units;
  while (row < patch.rows) {
    StemUnit<T, kWanted> found[kAtOnce];
    bool is_inside[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      is_inside[i] = row < patch.rows;
      found[i].load(x, p, patch, n, h0, w0, row, block);
      row += row_step, block += block_step;
      if (block >= patch.units) ++row, block -= patch.units;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) found[i].complete(x);
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (!is_inside[i]) continue;
      uint32_t words[kWanted / 2];
      found[i].take(words);
      store_copies<kCopies, kStep>(words, to + found[i].to, patch);
    }
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
