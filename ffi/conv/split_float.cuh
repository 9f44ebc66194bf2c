#pragma once

// float32 as a sum of bf16 parts, each the rounded rest of those before.

#include "conv/halo_store.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// Two values to three bf16 pairs.
__device__ __forceinline__ void split_pair(float low, float high, uint32_t& p0, uint32_t& p1,
                                           uint32_t& p2) {
  p0 = pack_pair(low, high, __nv_bfloat16());
  low -= __uint_as_float(p0 << 16);
  high -= __uint_as_float(p0 & 0xffff0000u);
  p1 = pack_pair(low, high, __nv_bfloat16());
  low -= __uint_as_float(p1 << 16);
  high -= __uint_as_float(p1 & 0xffff0000u);
  p2 = pack_pair(low, high, __nv_bfloat16());
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
