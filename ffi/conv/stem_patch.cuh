#pragma once

// Rows of x into shared memory, for the kernels of stem.h: by one warpgroup, since rows of few
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

inline constexpr int kPatchThreads = 128;

__device__ __forceinline__ void store_16(uint32_t address, uint32_t a, uint32_t b, uint32_t c,
                                         uint32_t d) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b), "r"(c),
               "r"(d)
               : "memory");
}

__device__ __forceinline__ uint32_t to_tf32(uint32_t value) {
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(value) : "f"(__uint_as_float(value)));
  return value;
}

// x as the copy engine's replacement sees it. T: __nv_bfloat16, __half or float.
template <typename T>
struct StemImage {
  const T* data;
  int64_t values;

  // 16 bytes from an aligned address of which a part may lie outside of x: zeros there.
  __device__ __forceinline__ uint4 vector(const T* from) const {
    constexpr int kValues = 16 / sizeof(T);
    const int64_t first = from - data;
    if (first >= 0 && first + kValues <= values) {
      return __ldg(reinterpret_cast<const uint4*>(from));
    }
    T parts[kValues];
#pragma unroll
    for (int i = 0; i < kValues; ++i) {
      parts[i] = first + i >= 0 && first + i < values ? from[i] : T(0.0f);
    }
    uint4 found;
    memcpy(&found, parts, 16);
    return found;
  }
};

// A unit on its way: the vectors that hold kWanted values from some value of a row on.
template <typename T, int kWanted>
struct StemUnit {
  static constexpr int kPerVector = 16 / sizeof(T);
  static constexpr int kVectors = (kWanted + kPerVector - 2) / kPerVector + 1;
  static constexpr int kWords = kWanted * sizeof(T) / 4;  // kWanted is even

  uint4 vectors[kVectors];
  int offset;       // of the first wanted value in the vectors
  int first, last;  // those of the wanted values that lie in the image: [first, last)
  uint32_t to;      // byte in a copy

  __device__ __forceinline__ void load(const StemImage<T>& x, const StemProblem& p,
                                       const StemPatch& patch, int n, int h0, int w0, int unit) {
    const int row = unit / patch.units, block = unit - row * patch.units;
    const int h = h0 + row, width = p.width * p.channels;
    const int value = w0 * p.channels + block * 8;  // of the image's row
    to = row * patch.row_bytes + block * (patch.row_bytes / patch.units);
    first = max(-value, 0);
    last = h >= 0 && h < p.height ? min(width - value, kWanted) : 0;
    if (last <= first) {
#pragma unroll
      for (uint4& v : vectors) v = make_uint4(0, 0, 0, 0);
      offset = first = last = 0;
      return;
    }
    const T* from = x.data + (int64_t{n} * p.height + h) * width + value;
    offset = static_cast<int>(reinterpret_cast<uintptr_t>(from) % 16 / sizeof(T));
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int begin = i * kPerVector - offset;  // among the wanted
      vectors[i] = begin < last && begin + kPerVector > first ? x.vector(from + begin)
                                                              : make_uint4(0, 0, 0, 0);
    }
  }

  // The wanted values in order, zeros outside of the image.
  __device__ __forceinline__ void take(uint32_t (&words)[kWords]) const {
    uint32_t v[4 * kVectors];
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      v[4 * i] = vectors[i].x, v[4 * i + 1] = vectors[i].y;
      v[4 * i + 2] = vectors[i].z, v[4 * i + 3] = vectors[i].w;
    }
    const int skip = offset * static_cast<int>(sizeof(T)) / 4;  // whole words
#pragma unroll
    for (int i = 0; i < 4 * kVectors - 2; ++i) v[i] = skip & 2 ? v[i + 2] : v[i];
#pragma unroll
    for (int i = 0; i < 4 * kVectors - 3; ++i) v[i] = skip & 1 ? v[i + 1] : v[i];
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(T) == 2) {
        words[i] = __funnelshift_r(v[i], v[i + 1], (offset & 1) * 16);
      } else {
        words[i] = v[i];
      }
    }
    if (first == 0 && last >= kWanted) return;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (sizeof(T) == 2) {
        if (2 * i < first || 2 * i >= last) words[i] &= 0xffff0000u;
        if (2 * i + 1 < first || 2 * i + 1 >= last) words[i] &= 0x0000ffffu;
      } else {
        if (i < first || i >= last) words[i] = 0;
      }
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

// Stores a unit in its form.
template <StemForm kForm, int kCopies, int kStep, typename T, int kWanted>
__device__ __forceinline__ void store_unit(const StemUnit<T, kWanted>& unit, const StemPatch& patch,
                                           uint32_t to) {
  using Unit = StemUnit<T, kWanted>;
  uint32_t words[Unit::kWords];
  unit.take(words);
  to += unit.to;
  if constexpr (kForm == StemForm::kPlain) {
    store_copies<kCopies, kStep>(words, to, patch);
  } else if constexpr (kForm == StemForm::kTf32) {
    static_assert(kCopies == 1);
#pragma unroll
    for (int half = 0; half < 8; half += 4) {
      store_16(to + half * 4, to_tf32(words[half]), to_tf32(words[half + 1]),
               to_tf32(words[half + 2]), to_tf32(words[half + 3]));
    }
  } else {
    float rest[kWanted];
#pragma unroll
    for (int i = 0; i < kWanted; ++i) rest[i] = __uint_as_float(words[i]);
#pragma unroll
    for (int plane = 0; plane < stem_planes(kForm); ++plane) {
      uint32_t part[kWanted / 2];
#pragma unroll
      for (int i = 0; i < kWanted / 2; ++i) {
        part[i] = pack_pair(rest[2 * i], rest[2 * i + 1], __nv_bfloat16());
        rest[2 * i] -= __uint_as_float(part[i] << 16);
        rest[2 * i + 1] -= __uint_as_float(part[i] & 0xffff0000u);
      }
      store_copies<kCopies, kStep>(part, to + plane * patch.plane_bytes(), patch);
    }
  }
}

// One warpgroup, thread `thread` of it: the patch of the tile whose first input pixel is (h0, w0)
// of image n, to shared memory at `to`.
template <StemForm kForm, int kCopies, int kStep, typename T>
__device__ __forceinline__ void fill_patch(const StemImage<T>& x, const StemProblem& p,
                                           const StemPatch& patch, int n, int h0, int w0,
                                           uint32_t to, int thread) {
  constexpr int kWanted = 8 + ((kCopies - 1) * kStep + 1) / 2 * 2;
  constexpr int kAtOnce = kWanted * sizeof(T) > 40 ? 1 : 2;
  const int units = patch.rows * patch.units;
  for (int unit = thread; unit < units; unit += kAtOnce * kPatchThreads) {
    StemUnit<T, kWanted> found[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (unit + i * kPatchThreads < units) {
        found[i].load(x, p, patch, n, h0, w0, unit + i * kPatchThreads);
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (unit + i * kPatchThreads < units) {
        store_unit<kForm, kCopies, kStep>(found[i], patch, to);
      }
    }
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
