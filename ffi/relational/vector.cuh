#pragma once

// 16-byte loads and stores of short runs of one row, widened to float.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace jaxdirect::relational {

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(__half value) { return __half2float(value); }
__device__ inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ inline T narrow(float value) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(value);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(value);
  } else {
    return value;
  }
}

// How many elements of T a thread holds: 16 bytes where rows allow it.
template <typename T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

template <typename T, int kCount>
struct Raw {
  T values[kCount];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = narrow<T>(0.0f);
  }

  // Data that many rows share stays in the caches; the source is never written meanwhile.
  __device__ void load(const T* from) {
    if constexpr (kCount * sizeof(T) == 16) {
      *reinterpret_cast<uint4*>(values) = __ldg(reinterpret_cast<const uint4*>(from));
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[i] = from[i];
    }
  }

  __device__ float operator[](int i) const { return widen(values[i]); }
};

__device__ inline uint32_t bits_of(float value) { return __float_as_uint(value); }
__device__ inline uint32_t bits_of(__half value) { return __half_as_ushort(value); }
__device__ inline uint32_t bits_of(__nv_bfloat16 value) { return __bfloat16_as_ushort(value); }

// One value of four bytes, or two of two bytes.
template <typename T>
__device__ inline uint32_t to_word(float first, float second) {
  const uint32_t low = bits_of(narrow<T>(first));
  if constexpr (sizeof(T) == 4) {
    return low;
  } else {
    return bits_of(narrow<T>(second)) << 16 | low;
  }
}

// To memory that takes accesses of kCount elements, up to 16 bytes, and that the kernel does not
// read. In assembly, because the compiler makes four stores of one uint4.
template <typename T, int kCount>
__device__ inline void store(T* to, const float (&from)[kCount]) {
  constexpr int kWords = kCount * static_cast<int>(sizeof(T)) / 4;
  constexpr int kStep = 4 / static_cast<int>(sizeof(T));
  const auto word = [&](int i) { return to_word<T>(from[i * kStep], from[(i + 1) * kStep - 1]); };
  if constexpr (kWords == 4) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(word(0)), "r"(word(1)),
                 "r"(word(2)), "r"(word(3)));
  } else if constexpr (kWords == 2) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(word(0)), "r"(word(1)));
  } else if constexpr (kWords == 1) {
    *reinterpret_cast<uint32_t*>(to) = word(0);
  } else {
    static_assert(kCount == 1);
    *to = narrow<T>(from[0]);
  }
}

// Lanes of a warp that work on one row; all of them come here together.
template <int kLanes>
__device__ inline unsigned group_mask() {
  if constexpr (kLanes == 32) {
    return 0xffffffffu;
  } else {
    return ((1u << kLanes) - 1u) << ((threadIdx.x & 31u) & ~(kLanes - 1u));
  }
}

// Sum over aligned runs of `width` lanes (a power of two), in a fixed order; all get it.
__device__ inline float sum_lanes(unsigned mask, float value, int width) {
  for (int step = 1; step < width; step *= 2) value += __shfl_xor_sync(mask, value, step);
  return value;
}

}  // namespace jaxdirect::relational
