#pragma once

// Tensor-core products of fragments: mma.sync m16n8k8 for float32 (TF32, or three TF32 products
// for full accuracy) and m16n8k16 for 16-bit floats; float32 accumulators.
// PTX ISA, "Warp-level matrix instructions".

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace jaxdirect::relational {

template <typename T>
inline constexpr int kMmaDepth = std::is_same_v<T, float> ? 8 : 16;

struct FragmentA {
  uint32_t r[4];
};
struct FragmentB {
  uint32_t r[2];
};

__device__ inline uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

template <typename T>
__device__ inline void mma(float (&c)[4], const FragmentA& a, const FragmentB& b) {
  if constexpr (std::is_same_v<T, float>) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  } else if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  }
}

// A float32 fragment as a large and a small TF32 part.
template <typename Fragment>
__device__ inline void split_tf32(const Fragment& whole, Fragment* large, Fragment* small) {
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(whole.r) / 4); ++i) {
    const float value = __uint_as_float(whole.r[i]);
    large->r[i] = to_tf32(value);
    small->r[i] = to_tf32(value - __uint_as_float(large->r[i]));
  }
}

// sums += left right. float32 goes to the tensor cores as it is, which drop the bits that TF32
// lacks; kExact takes three products instead, and what is dropped then is of the order of 2^-22.
template <typename T, bool kExact>
__device__ inline void multiply(float (&sums)[4], const FragmentA& left, const FragmentB& right) {
  if constexpr (std::is_same_v<T, float> && kExact) {
    FragmentA left_large, left_small;
    FragmentB right_large, right_small;
    split_tf32(left, &left_large, &left_small);
    split_tf32(right, &right_large, &right_small);
    mma<T>(sums, left_small, right_large);
    mma<T>(sums, left_large, right_small);
    mma<T>(sums, left_large, right_large);
  } else {
    mma<T>(sums, left, right);
  }
}

}  // namespace jaxdirect::relational
