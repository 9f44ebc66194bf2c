#pragma once

// How the lanes of a group lie over the columns and heads of a row, for both attention kernels.

#include "common/cuda.h"
#include "relational/vector.cuh"

namespace jaxdirect::relational {

// A row's columns in lanes of one 16-byte vector. Heads must fill a power of two of lanes, so
// that they add up by shuffles; Python pads them with zero columns to make it so.
struct HeadLayout {
  int64_t lanes = 0;
  int64_t lanes_per_head = 0;

  // Blocks of `lanes_of_block` lanes (with their chunks) that hold whole heads.
  int64_t column_blocks(int64_t lanes_of_block) const { return ceil_div(lanes, lanes_of_block); }
  // Lanes to add over in a group: a wider head fills the group, chunk by chunk.
  int head_lanes(int group) const {
    return static_cast<int>(lanes_per_head < group ? lanes_per_head : group);
  }
};

inline Status head_layout(const char* op, int64_t columns, int64_t heads, int64_t vector,
                          HeadLayout* layout) {
  layout->lanes = columns / vector;
  layout->lanes_per_head = columns / heads / vector;
  const int64_t lanes = layout->lanes_per_head;
  if (columns % (heads * vector) != 0 || (lanes & (lanes - 1)) != 0 || lanes > 128) {
    return Status::error(op, ": columns of a head must be a power of two of at least ", vector,
                         " and at most ", 128 * vector, ", got ", columns / heads,
                         "; pad them with zeros");
  }
  return Status::ok();
}

// The columns of one lane: kChunks vectors, kLanes vectors apart.
template <typename T, int kLanes, int kChunks>
class Columns {
  static constexpr int kCount = kVector<T>;

 public:
  __device__ Columns(int64_t columns, int lane)
      : columns_(columns), first_((int64_t{blockIdx.y} * kLanes * kChunks + lane) * kCount) {}

  // With several chunks the block must hold one head alone.
  __device__ int64_t head(int64_t heads) const {
    return first_ < columns_ ? first_ / (columns_ / heads) : 0;
  }

  __device__ bool leads_head(int lane, int head_lanes) const {
    return first_ < columns_ && lane % head_lanes == 0;
  }

  __device__ void load(Raw<T, kCount> (&chunks)[kChunks], const T* row) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      if (at(c) < columns_) {
        chunks[c].load(row + at(c));
      } else {
        chunks[c].clear();
      }
    }
  }

  __device__ float dot(const Raw<T, kCount> (&a)[kChunks],
                       const Raw<T, kCount> (&b)[kChunks]) const {
    float product = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) product += a[c][i] * b[c][i];
    }
    return product;
  }

  __device__ void clear(float (&sums)[kChunks][kCount]) const { scale(sums, 0.0f, true); }

  __device__ void scale(float (&sums)[kChunks][kCount], float factor, bool zero = false) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[c][i] = zero ? 0.0f : sums[c][i] * factor;
    }
  }

  __device__ void add(float (&sums)[kChunks][kCount], float weight,
                      const Raw<T, kCount> (&values)[kChunks]) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[c][i] += weight * values[c][i];
    }
  }

  __device__ void store_scaled(T* row, const float (&sums)[kChunks][kCount], float factor) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      float scaled[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) scaled[i] = sums[c][i] * factor;
      if (at(c) < columns_) store<T, kCount>(row + at(c), scaled);
    }
  }

  // `row` is aligned to 16 bytes.
  __device__ void store_floats(float* row, const float (&sums)[kChunks][kCount]) const {
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
#pragma unroll
      for (int i = 0; i < kCount; i += 4) {
        const float four[4] = {sums[c][i], sums[c][i + 1], sums[c][i + 2], sums[c][i + 3]};
        if (at(c) < columns_) store<float, 4>(row + at(c) + i, four);
      }
    }
  }

 private:
  __device__ int64_t at(int chunk) const { return first_ + int64_t{chunk} * kLanes * kCount; }

  int64_t columns_;
  int64_t first_;
};

// exp(a - b), with exp(-inf - -inf) = 0: a weight of nothing against nothing.
__device__ inline float exp_difference(float a, float b) {
  return a == -INFINITY ? 0.0f : __expf(a - b);
}

__device__ inline float log_sum_exp(float largest, float weights) {
  return weights > 0 ? largest + __logf(weights) : weights;
}

// Weighted sums relative to their largest score, of a few columns of one head.
struct Running {
  static constexpr int kCount = 4;
  float sums[kCount] = {};
  float largest = -INFINITY;
  float weights = 0;

  __device__ void add(const Running& other) {
    const float both = fmaxf(largest, other.largest);
    const float mine = exp_difference(largest, both);
    const float theirs = exp_difference(other.largest, both);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] = sums[i] * mine + other.sums[i] * theirs;
    weights = weights * mine + other.weights * theirs;
    largest = both;
  }
};

}  // namespace jaxdirect::relational
