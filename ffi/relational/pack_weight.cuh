#pragma once

// A weight, from memory to the order of its fragments in shared memory.

#include <cstdint>

#include "relational/linear.h"
#include "relational/tile.cuh"

namespace jaxdirect::relational {

// Where an element of a weight lies.
struct WeightIndex {
  int in_dim;
  int out_dim;
  bool transposed;

  __device__ explicit WeightIndex(const LinearArgs& args)
      : in_dim(static_cast<int>(args.in_dim)),
        out_dim(static_cast<int>(args.out_dim)),
        transposed(args.transposed) {}

  __device__ bool contains(int k, int column) const { return k < in_dim && column < out_dim; }
  __device__ int64_t operator()(int k, int column) const {
    return transposed ? int64_t{column} * in_dim + k : int64_t{k} * out_dim + column;
  }
};

// Starts copying the part of a weight from (first_k, first_column) on, zero outside, to the order
// of its fragments. A warp takes the rows of one step of the product; half a warp meets no bank
// twice, because columns four apart lie one behind the other (of the extra ones, two apart).
template <bool kVectors, typename Product>
__device__ inline void pack_weight(float* to, const float* weight, const WeightIndex& at,
                                   int first_k, int first_column) {
  static_assert(kDepth == 8 * kTileThreads / 32);
  const int k = threadIdx.x / 32 * 8 + threadIdx.x % 8;
  const int apart = threadIdx.x / 8 % 2;
  const int other = threadIdx.x / 16 % 2;
  if (kVectors && !at.transposed) {
    // Two columns a copy.
    constexpr int kWide = Product::kWideColumns;
    const int column = 4 * apart + 2 * other;
    const auto copy = [&](int first, int place) {
      const bool inside = at.contains(first_k + k, first_column + first + column);
      const float* from = weight + at(first_k + k, first_column + first + column);
      copy_floats<2>(to + place, inside ? from : weight, inside);
    };
    const int place = Product::place(k, column);
#pragma unroll 4
    for (int first = 0; first < kWide; first += 8) copy(first, place + Product::place(0, first));
    const int extra = Product::place(k, kWide + column) - Product::place(0, kWide);
#pragma unroll
    for (int first = kWide; first < Product::kColumns; first += 8) {
      copy(first, extra + Product::place(0, first));
    }
    return;
  }
#pragma unroll 4
  for (int first = 0; first < Product::kColumns; first += 4) {
    // Every other two of eight columns, and then the others.
    const int column = first / 8 * 8 + 4 * apart + first / 4 % 2 * 2 + other;
    const bool inside = at.contains(first_k + k, first_column + column);
    const float* from = weight + at(first_k + k, first_column + column);
    copy_floats<1>(to + Product::place(k, column), inside ? from : weight, inside);
  }
}

constexpr int largest_divisor(int number, int most) {
  while (number % most != 0) --most;
  return most;
}

// The same of 16-bit elements, which no such copy takes: at once. A warp takes blocks of 8 by 4
// elements, whose places lie in banks of their own two by two.
template <bool kVectors, typename Product, typename T>
__device__ inline void pack_weight(T* to, const T* weight, const WeightIndex& at, int first_k,
                                   int first_column) {
  constexpr int kEach = kDepth * Product::kColumns / kTileThreads;
  const int fast = threadIdx.x % 8;
  const int slow = threadIdx.x % 32 / 8;
  const auto find = [&](int i, int* k, int* column) {
    const int block = threadIdx.x / 32 + i * (kTileThreads / 32);
    if (at.transposed) {
      *k = block % (kDepth / 8) * 8 + fast;
      *column = block / (kDepth / 8) * 4 + slow;
    } else {
      *k = block / (Product::kColumns / 8) * 4 + slow;
      *column = block % (Product::kColumns / 8) * 8 + fast;
    }
  };
  // So many loads are on their way together.
  constexpr int kBatch = largest_divisor(kEach, 5);
#pragma unroll 1
  for (int first = 0; first < kEach; first += kBatch) {
    T values[kBatch];
    int places[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      int k;
      int column;
      find(first + i, &k, &column);
      places[i] = Product::place(k, column);
      k += first_k;
      column += first_column;
      values[i] = at.contains(k, column) ? weight[at(k, column)] : narrow<T>(0.0f);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) to[places[i]] = values[i];
  }
}

}  // namespace jaxdirect::relational
