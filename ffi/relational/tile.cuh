#pragma once

// Loading pieces of gathered rows and of weights into shared memory, for both typed products.

#include <cstdint>

#include "relational/lists.h"
#include "relational/vector.cuh"

namespace jaxdirect::relational {

inline constexpr int kTileThreads = 256;
inline constexpr int kTileRows = static_cast<int>(kTile);
// Columns of a row that are in shared memory at a time.
inline constexpr int kDepth = 64;
// Threads that load 64 columns together, 16 bytes each, and how many such groups there are.
template <typename T>
inline constexpr int kRowLanes = kDepth / kVector<T>;
template <typename T>
inline constexpr int kRowGroups = kTileThreads / kRowLanes<T>;

// Rows of shared memory that a product reads across lie so far apart that fragments meet no bank
// twice: those of kDepth columns, and those of kColumnTiles * 8.
template <typename T>
inline constexpr int kAcrossStride = std::is_same_v<T, float> ? kDepth + 4 : kDepth + 8;
template <typename T, int kColumnTiles>
inline constexpr int kColumnStride = std::is_same_v<T, float> ? 8 * kColumnTiles + 4
                                     : kColumnTiles % 2 == 0  ? 8 * kColumnTiles + 8
                                                              : 8 * kColumnTiles;

// Starts a copy of 16 bytes to shared memory, or of zeros.
__device__ inline void copy_piece(void* to, const void* from, bool real) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(real ? 16 : 0));
}

// The same of kCount floats, one or two.
template <int kCount>
__device__ inline void copy_floats(float* to, const float* from, bool real) {
  constexpr int kBytes = kCount * static_cast<int>(sizeof(float));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "n"(kBytes), "r"(real ? kBytes : 0));
}

// The copies started since the last call are a group.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all groups but the last kPending; for all copies if that is 0.
template <int kPending = 0>
__device__ inline void wait_for_copies() {
  if constexpr (kPending == 0) {
    asm volatile("cp.async.wait_all;" ::: "memory");
  } else {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
  }
}

// to[0..] = row[column..], 16 bytes; zero behind the row's end. Without `vectors`, element by
// element and at once.
template <typename T>
__device__ inline void copy_columns(T* to, const T* row, int64_t column, int64_t columns, bool real,
                                    bool vectors) {
  if (vectors) {
    const bool inside = real && column < columns;
    copy_piece(to, inside ? row + column : row, inside);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) {
    to[i] = real && column + i < columns ? row[column + i] : narrow<T>(0.0f);
  }
}

// tile[r][0..width) = columns [column, column + width) of data[rows[r]], width at most 64; a
// negative row gives zeros. `rows` is in shared memory.
template <typename T>
__device__ inline void copy_rows(T* tile, int stride, int width, const T* data, int64_t columns,
                                 int64_t column, bool vectors, const int* rows) {
  const int lane = threadIdx.x % kRowLanes<T>;
  if (lane * kVector<T> >= width) return;
#pragma unroll 4
  for (int r = threadIdx.x / kRowLanes<T>; r < kTileRows; r += kRowGroups<T>) {
    const int64_t row = rows[r];
    copy_columns(tile + r * stride + lane * kVector<T>, data + max(row, int64_t{0}) * columns,
                 column + lane * kVector<T>, columns, row >= 0, vectors);
  }
}

}  // namespace jaxdirect::relational
