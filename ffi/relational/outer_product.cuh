#pragma once

// A^T B of two tiles of 64 rows on tensor cores, for eight warps.
//
// Both tiles are read across their rows as they came, so that no product needs a transposed copy.
// A product does not mind in which order it goes through the columns, as long as its result is
// read in the same: for float32 they are numbered so that a thread's elements lie side by side,
// and two or four come with one load.

#include "relational/mma.cuh"

namespace jaxdirect::relational {

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 columns from m and kMmaDepth rows from k of a tile, as A.
template <typename T>
__device__ inline FragmentA load_a(const T* tile, int stride, int m, int k) {
  const int lane = threadIdx.x % 32;
  FragmentA a;
  if constexpr (std::is_same_v<T, float>) {
    // Row t of the fragment is k + 2 t, row t + 4 is k + 2 t + 1; column g is m + 2 g and column
    // g + 8 is m + 2 g + 1.
    const T* from = tile + (k + 2 * (lane % 4)) * stride + m + 2 * (lane / 4);
    const float2 low = *reinterpret_cast<const float2*>(from);
    const float2 high = *reinterpret_cast<const float2*>(from + stride);
    a.r[0] = __float_as_uint(low.x);
    a.r[1] = __float_as_uint(low.y);
    a.r[2] = __float_as_uint(high.x);
    a.r[3] = __float_as_uint(high.y);
  } else {
    // Four 8x8 blocks: (m, k), (m + 8, k), (m, k + 8), (m + 8, k + 8).
    const int block = lane / 8;
    const int at_m = m + (block % 2) * 8;
    const int at_k = k + (block / 2) * 8;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(a.r[0]), "=r"(a.r[1]), "=r"(a.r[2]), "=r"(a.r[3])
                 : "r"(shared_address(tile + (at_k + lane % 8) * stride + at_m)));
  }
  return a;
}

// kMmaDepth rows from k and 8 columns from n of a tile, as B.
template <typename T>
__device__ inline FragmentB load_b(const T* tile, int stride, int k, int n) {
  const int lane = threadIdx.x % 32;
  FragmentB b;
  if constexpr (std::is_same_v<T, float>) {
    const T* from = tile + (k + 2 * (lane % 4)) * stride + n + lane / 4;
    b.r[0] = __float_as_uint(from[0]);
    b.r[1] = __float_as_uint(from[stride]);
  } else {
    const T* row = tile + (k + lane % 16) * stride + n;
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(b.r[0]), "=r"(b.r[1])
                 : "r"(shared_address(row)));
  }
  return b;
}

// Four fragments that hold 32 columns from n; of float32, fragment i has n + 4 g + i.
template <typename T>
__device__ inline void load_b_quad(FragmentB (&b)[4], const T* tile, int stride, int k, int n) {
  if constexpr (std::is_same_v<T, float>) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float4 four = *reinterpret_cast<const float4*>(
          tile + (k + 2 * (lane % 4) + half) * stride + n + lane / 4 * 4);
      b[0].r[half] = __float_as_uint(four.x);
      b[1].r[half] = __float_as_uint(four.y);
      b[2].r[half] = __float_as_uint(four.z);
      b[3].r[half] = __float_as_uint(four.w);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) b[i] = load_b(tile, stride, k, n + 8 * i);
  }
}

// One warp's part of a product of 64 and 8 * kColumnTiles columns: eight warps lie four along the
// columns of A, two along those of B. A warp has 16 of A's columns, kQuads runs of 32 of B's, and
// where columns are left over, 8 of those (of one column tile more, the first of both has them).
template <typename T, bool kExact, int kColumnTiles>
class OuterProduct {
  static constexpr bool kFloat = std::is_same_v<T, float>;
  static constexpr int kQuads = kColumnTiles / 8;
  static constexpr int kLeft = kColumnTiles % 8;
  static_assert(kLeft <= 1 || kColumnTiles == 2);

 public:
  __device__ OuterProduct()
      : row_(threadIdx.x / 32 % 4 * 16),
        column_(threadIdx.x / 128 * 32 * kQuads),
        single_(kColumnTiles == 2   ? static_cast<int>(threadIdx.x) / 128 * 8
                : threadIdx.x < 128 ? 64 * kQuads
                                    : -1) {}

  // Adds the product of `depth` rows of both tiles.
  __device__ void add(const T* a, int a_stride, const T* b, int b_stride, int depth) {
#pragma unroll 2
    for (int k = 0; k < depth; k += kMmaDepth<T>) {
      const FragmentA left = load_a(a, a_stride, row_, k);
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        FragmentB right[4];
        load_b_quad(right, b, b_stride, k, column_ + 32 * q);
#pragma unroll
        for (int i = 0; i < 4; ++i) multiply<T, kExact>(quads_[4 * q + i], left, right[i]);
      }
      if constexpr (kLeft > 0) {
        if (single_ >= 0) multiply<T, kExact>(left_, left, load_b(b, b_stride, k, single_));
      }
    }
  }

  // Calls row(r) and then emit(first column, values) for what this thread has.
  template <typename Row, typename Emit>
  __device__ void visit(const Row& row, const Emit& emit) const {
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (!row(row_ + (kFloat ? 2 * g + half : g + 8 * half))) continue;
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        const int column = column_ + 32 * q;
        if constexpr (kFloat) {
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
  int row_;
  int column_;
  int single_;
  float quads_[kQuads > 0 ? 4 * kQuads : 1][4] = {};
  float left_[4] = {};
};

}  // namespace jaxdirect::relational
