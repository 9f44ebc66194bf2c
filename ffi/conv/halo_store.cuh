#pragma once

// Accumulators to memory: rows of output channels, 16 bytes a lane where values have 16 bits.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "conv/hopper.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

__device__ __forceinline__ uint32_t pack_pair(float low, float high, __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ __forceinline__ uint32_t pack_pair(float low, float high, __half) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Lane t of four holds value t of each of four blocks; afterwards it holds all values of block t.
__device__ __forceinline__ void transpose_quad(uint32_t (&v)[4], int t) {
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = t & step;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const uint32_t sent = upper ? v[i] : v[i | step];
      const uint32_t received = __shfl_xor_sync(0xffffffff, sent, step);
      (upper ? v[i] : v[i | step]) = received;
    }
  }
}

// One accumulator row (half 0: row lane / 4, half 1: row lane / 4 + 8 of the warp's) to
// out[0, kColumns), of which the first `columns` exist. Every lane of a warp takes part.
template <int kColumns, typename T>
__device__ __forceinline__ void store_row(const float (&sums)[kColumns / 2], int half, T* out,
                                          int columns) {
  const int t = threadIdx.x % 4;
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int group = 0; group < kColumns / 32; ++group) {
      uint32_t v[4];
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        const int first = 4 * (4 * group + b) + 2 * half;
        v[b] = pack_pair(sums[first], sums[first + 1], T());
      }
      transpose_quad(v, t);
      const int column = 32 * group + 8 * t;
      if (out != nullptr && column < columns) {
        store_vector(out + column, make_uint4(v[0], v[1], v[2], v[3]));
      }
    }
  } else {
#pragma unroll
    for (int block = 0; block < kColumns / 8; ++block) {
      const int column = 8 * block + 2 * t, first = 4 * block + 2 * half;
      if (out != nullptr && column < columns) {
        *reinterpret_cast<float2*>(out + column) = make_float2(sums[first], sums[first + 1]);
      }
    }
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
