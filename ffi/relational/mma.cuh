#pragma once

// Tensor-core products of shared-memory tiles: mma.sync m16n8k8 for float32 (TF32, or three TF32
// products for full accuracy) and m16n8k16 for 16-bit floats; float32 accumulators.
// PTX ISA, "Warp-level matrix instructions".
//
// Tiles are read in either order of their axes, so that no product needs a transposed copy: A is
// [m][k] or, kAcross, [k][m]; B is [k][n] or, kTransposed, [n][k]. A product does not mind in which
// order it goes through k, n or m, as long as both sides agree: for float32 they are numbered so
// that a thread's elements lie side by side, and two or four come with one load.

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

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 rows from m and kMmaDepth columns from k of A.
template <bool kAcross, typename T>
__device__ inline FragmentA load_a(const T* tile, int stride, int m, int k) {
  const int lane = threadIdx.x % 32;
  FragmentA a;
  if constexpr (std::is_same_v<T, float>) {
    // Column t of the fragment is k + 2 t, column t + 4 is k + 2 t + 1; across, row g is m + 2 g
    // and row g + 8 is m + 2 g + 1.
    const int g = lane / 4;
    const int t = lane % 4;
    if constexpr (kAcross) {
      const float2 low = *reinterpret_cast<const float2*>(tile + (k + 2 * t) * stride + m + 2 * g);
      const float2 high =
          *reinterpret_cast<const float2*>(tile + (k + 2 * t + 1) * stride + m + 2 * g);
      a.r[0] = __float_as_uint(low.x);
      a.r[1] = __float_as_uint(low.y);
      a.r[2] = __float_as_uint(high.x);
      a.r[3] = __float_as_uint(high.y);
    } else {
      const float2 low = *reinterpret_cast<const float2*>(tile + (m + g) * stride + k + 2 * t);
      const float2 high = *reinterpret_cast<const float2*>(tile + (m + g + 8) * stride + k + 2 * t);
      a.r[0] = __float_as_uint(low.x);
      a.r[1] = __float_as_uint(high.x);
      a.r[2] = __float_as_uint(low.y);
      a.r[3] = __float_as_uint(high.y);
    }
  } else {
    // Four 8x8 blocks: (m, k), (m + 8, k), (m, k + 8), (m + 8, k + 8).
    const int block = lane / 8;
    const int at_m = m + (block % 2) * 8;
    const int at_k = k + (block / 2) * 8;
    if constexpr (kAcross) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(a.r[0]), "=r"(a.r[1]), "=r"(a.r[2]), "=r"(a.r[3])
                   : "r"(shared_address(tile + (at_k + lane % 8) * stride + at_m)));
    } else {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(a.r[0]), "=r"(a.r[1]), "=r"(a.r[2]), "=r"(a.r[3])
                   : "r"(shared_address(tile + (at_m + lane % 8) * stride + at_k)));
    }
  }
  return a;
}

// kMmaDepth rows from k and 8 columns from n of B.
template <bool kTransposed, typename T>
__device__ inline FragmentB load_b(const T* tile, int stride, int k, int n) {
  const int lane = threadIdx.x % 32;
  FragmentB b;
  if constexpr (std::is_same_v<T, float>) {
    const int g = lane / 4;
    const int t = lane % 4;
    if constexpr (kTransposed) {
      const float2 both = *reinterpret_cast<const float2*>(tile + (n + g) * stride + k + 2 * t);
      b.r[0] = __float_as_uint(both.x);
      b.r[1] = __float_as_uint(both.y);
    } else {
      b.r[0] = __float_as_uint(tile[(k + 2 * t) * stride + n + g]);
      b.r[1] = __float_as_uint(tile[(k + 2 * t + 1) * stride + n + g]);
    }
  } else if constexpr (kTransposed) {
    const T* row = tile + (n + lane % 8) * stride + k + (lane / 8 % 2) * 8;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(b.r[0]), "=r"(b.r[1])
                 : "r"(shared_address(row)));
  } else {
    const T* row = tile + (k + lane % 16) * stride + n;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(b.r[0]), "=r"(b.r[1])
                 : "r"(shared_address(row)));
  }
  return b;
}

// Whether four neighbouring fragments of B take every fourth column each.
template <typename T, bool kTransposed>
inline constexpr bool kInterleaved = std::is_same_v<T, float> && !kTransposed;

// Four fragments that hold 32 columns from n; interleaved, fragment i has n + 4 g + i.
template <bool kTransposed, typename T>
__device__ inline void load_b_quad(FragmentB (&b)[4], const T* tile, int stride, int k, int n) {
  if constexpr (kInterleaved<T, kTransposed>) {
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 four =
          *reinterpret_cast<const float4*>(tile + (k + 2 * t + half) * stride + n + 4 * g);
      b[0].r[half] = __float_as_uint(four.x);
      b[1].r[half] = __float_as_uint(four.y);
      b[2].r[half] = __float_as_uint(four.z);
      b[3].r[half] = __float_as_uint(four.w);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) b[i] = load_b<kTransposed>(tile, stride, k, n + 8 * i);
  }
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

// One warp's part of a product of 64 rows and 8 * kColumnTiles columns: eight warps lie four along
// the rows, two along the columns. A warp has 16 rows, kQuads runs of 32 columns, and where
// columns are left over, 8 of those (of one column tile more, the first of both has them).
template <typename T, bool kExact, bool kAcrossA, bool kTransposedB, int kColumnTiles>
class Product {
  static constexpr bool kFloat = std::is_same_v<T, float>;
  static constexpr int kQuads = kColumnTiles / 8;
  static constexpr int kLeft = kColumnTiles % 8;
  static_assert(kLeft <= 1 || kColumnTiles == 2);

 public:
  __device__ Product()
      : row_(threadIdx.x / 32 % 4 * 16),
        column_(threadIdx.x / 128 * 32 * kQuads),
        single_(kColumnTiles == 2   ? static_cast<int>(threadIdx.x) / 128 * 8
                : threadIdx.x < 128 ? 64 * kQuads
                                    : -1) {}

  // Adds A[64][depth] B[depth][columns]. float32 goes to the tensor cores as it is, which drop
  // the bits that TF32 lacks; kExact takes three products instead, and what is dropped then is of
  // the order of 2^-22.
  __device__ void add(const T* a, int a_stride, const T* b, int b_stride, int depth) {
#pragma unroll 2
    for (int k = 0; k < depth; k += kMmaDepth<T>) {
      const FragmentA left = load_a<kAcrossA>(a, a_stride, row_, k);
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        FragmentB right[4];
        load_b_quad<kTransposedB>(right, b, b_stride, k, column_ + 32 * q);
#pragma unroll
        for (int i = 0; i < 4; ++i) multiply(quads_[4 * q + i], left, right[i]);
      }
      if constexpr (kLeft > 0) {
        if (single_ >= 0) multiply(left_, left, load_b<kTransposedB>(b, b_stride, k, single_));
      }
    }
  }

  // Calls row(r) and then emit(first column, values, their number) for what this thread has.
  template <typename Row, typename Emit>
  __device__ void visit(const Row& row, const Emit& emit) const {
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!row(row_ + (kFloat && kAcrossA ? 2 * g + half : g + 8 * half))) continue;
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        const int column = column_ + 32 * q;
        if constexpr (kInterleaved<T, kTransposedB>) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            const float values[4] = {quads_[4 * q][2 * half + j], quads_[4 * q + 1][2 * half + j],
                                     quads_[4 * q + 2][2 * half + j],
                                     quads_[4 * q + 3][2 * half + j]};
            emit(column + 8 * t + 4 * j, values);
          }
        } else {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float values[2] = {quads_[4 * q + i][2 * half], quads_[4 * q + i][2 * half + 1]};
            emit(column + 8 * i + 2 * t, values);
          }
        }
      }
      if constexpr (kLeft > 0) {
        const float values[2] = {left_[2 * half], left_[2 * half + 1]};
        if (single_ >= 0) emit(single_ + 2 * t, values);
      }
    }
  }

 private:
  __device__ static void multiply(float (&sums)[4], const FragmentA& left, const FragmentB& right) {
    if constexpr (kFloat && kExact) {
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

  int row_;
  int column_;
  int single_;
  float quads_[kQuads > 0 ? 4 * kQuads : 1][4] = {};
  float left_[4] = {};
};

}  // namespace jaxdirect::relational
