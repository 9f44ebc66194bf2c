#pragma once

// The filter of a block of groups as the right operands of its products, in shared memory:
// [step, columns, lane, 2 words], where a step is a pair of units and lane 4 o + i has, of output
// channel o, the i-th four bytes of each unit. Sixteen bytes of the filter are loaded at a time,
// and many at once: all of a thread block's products wait for it.

#include "conv/grouped_mma.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// Which of `count` neighbours from `first` on lie in [begin, end), as bits.
__device__ __forceinline__ uint32_t bits_between(int first, int count, int begin, int end) {
  const int low = min(max(begin - first, 0), count), high = min(max(end - first, 0), count);
  return high > low ? (1u << high) - (1u << low) : 0;
}

// Sixteen bytes of the filter, and which of their values belong to the products of both groups.
struct GroupedValues {
  uint4 bits;
  uint32_t kept;

  __device__ __forceinline__ void load(const void* from, const void* anywhere, uint32_t keep) {
    kept = keep;  // no branch: loads overlap
    bits = __ldg(static_cast<const uint4*>(keep != 0 ? from : anywhere));
  }

  __device__ __forceinline__ uint32_t word(int i) const {
    return i == 0 ? bits.x : i == 1 ? bits.y : i == 2 ? bits.z : bits.w;
  }

  // 16-bit values.
  __device__ __forceinline__ uint32_t half(int i) const {
    return kept >> i & 1 ? word(i / 2) >> i % 2 * 16 & 0xffff : 0;
  }

  __device__ __forceinline__ uint32_t single(int i) const { return kept >> i & 1 ? word(i) : 0; }
};

// Which units and output channels of the block a warp brings: eight channels, and every so many-th
// unit. What a bundle has past the last eight channels is never stored, and may be anything.
struct GroupedShare {
  int run, bundle, first, step, block;
  uint32_t to;

  __device__ GroupedShare(const GroupedTiling& t, int columns, int of_block, uint32_t filter_at) {
    const int warp = threadIdx.x / 32, runs = t.block.column_runs();
    run = warp % runs, bundle = run / columns;
    first = warp / runs, step = kGroupedWarps / runs;
    block = of_block;
    to = filter_at + run % columns * 256;
  }
};

// fprop: the values of a row are output channels. A lane has, of one unit, two input channels of 16
// bits or one of 32.
template <typename T>
struct GroupedRows {
  static constexpr int kUnits = 8;  // of a warp's load
  const GroupedTiling& t;
  const T* filter;
  GroupedShare share;
  GroupedValues values[2];

  __device__ __forceinline__ int unit() const { return threadIdx.x % 32 / 4; }

  __device__ __forceinline__ void load(int tap, int unit) {
    const GroupedBlock& k = t.block;
    const int64_t row_size = int64_t{t.groups} * k.width;
    const int out = share.run * kGroupedColumns, lane = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int in = unit * k.unit_channels + (sizeof(T) == 2 ? 2 * lane + i : lane);
      const int group = in / k.depth, part = sizeof(T) == 2 ? 0 : 4 * i;
      const bool exists = share.block * k.groups + group < t.groups;
      const uint32_t keep = bits_between(out + part, 16 / sizeof(T), group * k.width,
                                         exists ? (group + 1) * k.width : 0);
      values[i].load(filter + (int64_t{tap} * k.depth + in - group * k.depth) * row_size +
                         share.block * k.out_channels() + out + part,
                     filter, keep);
    }
  }

  __device__ __forceinline__ void store(uint32_t to) const {
#pragma unroll
    for (int o = 0; o < kGroupedColumns; ++o) {
      const uint32_t word = sizeof(T) == 2 ? values[0].half(o) | values[1].half(o) << 16
                                           : as_operand<T>(values[o / 4].single(o % 4));
      store_word(to + (4 * o + threadIdx.x % 4) * 8, word);
    }
  }
};

// dgrad: the values of a row are input channels. A lane has one unit of an output channel.
template <typename T>
struct GroupedColumnsOf {
  static constexpr int kUnits = 4;
  const GroupedTiling& t;
  const T* filter;
  GroupedShare share;
  GroupedValues values;

  __device__ __forceinline__ int unit() const { return threadIdx.x % 4; }

  __device__ __forceinline__ void load(int tap, int unit) {
    const GroupedBlock& k = t.block;
    const int64_t row_size = int64_t{t.groups} * k.depth;
    const int out = share.run * kGroupedColumns + threadIdx.x % 32 / 4, group = out / k.width;
    const bool exists = group < k.groups && share.block * k.groups + group < t.groups;
    const int in = unit * k.unit_channels;
    values.load(
        filter + (int64_t{tap} * k.width + out - group * k.width) * row_size +
            share.block * k.in_channels() + in,
        filter,
        bits_between(in, k.unit_channels, group * k.depth, exists ? (group + 1) * k.depth : 0));
  }

  __device__ __forceinline__ void store(uint32_t to) const {
    const int out = threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t word = sizeof(T) == 2 ? values.half(2 * i) | values.half(2 * i + 1) << 16
                                           : as_operand<T>(values.single(i));
      store_word(to + (4 * out + i) * 8, word);
    }
  }
};

template <typename Reader, int kColumns, typename T>
__device__ __forceinline__ void fill_filter_by(const GroupedTiling& t, const T* filter,
                                               const GroupedShare& share, uint32_t units_at) {
  constexpr int kBatch = 5;
  for (int p = 0; p < t.phases; ++p) {
    const int units =
        share.first < share.step ? t.phase[p].taps() * t.block.units[share.bundle] : 0;
    const int first_step = t.first_step[p][share.bundle], step = share.step * Reader::kUnits;
    const uint32_t list = units_at + first_step * 2 * kGroupedUnitEntry;
    for (int begin = share.first * Reader::kUnits; begin < units; begin += kBatch * step) {
      Reader readers[kBatch] = {{t, filter, share, {}},
                                {t, filter, share, {}},
                                {t, filter, share, {}},
                                {t, filter, share, {}},
                                {t, filter, share, {}}};
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int i = min(begin + j * step + readers[j].unit(), units - 1);
        const uint32_t unit = load_word(list + i * kGroupedUnitEntry + 4);
        readers[j].load(unit & 0xffff, unit >> 16);
      }
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int i = begin + j * step + readers[j].unit();
        const uint32_t to = share.to + (first_step + i / 2) * kColumns * 256 + i % 2 * 4;
        if (i < units) readers[j].store(to);
      }
    }
  }
}

template <typename T, int kColumns>
__device__ inline void fill_filter(const GroupedTiling& t, const T* filter, int block,
                                   uint32_t units_at, uint32_t to) {
  const GroupedShare share(t, kColumns, block, to);
  if (t.transposed) {
    fill_filter_by<GroupedColumnsOf<T>, kColumns>(t, filter, share, units_at);
  } else {
    fill_filter_by<GroupedRows<T>, kColumns>(t, filter, share, units_at);
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
