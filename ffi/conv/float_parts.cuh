#pragma once

// float32 values as sums of bf16 parts, the largest first. Two parts have 16 bits of the value,
// three all 24. What is left of an infinity is NaN.

#include "conv/halo_store.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// Two values; `parts` are kStep apart.
template <int kParts, int kStep = 1>
__device__ __forceinline__ void split_pair(float low, float high, uint32_t* parts) {
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const uint32_t pair = pack_pair(low, high, __nv_bfloat16());
    parts[part * kStep] = pair;
    if (part + 1 == kParts) break;
    low -= __uint_as_float(pair << 16);
    high -= __uint_as_float(pair & 0xffff0000u);
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
