#pragma once

// Stable radix sorting of edge records by several threads; the result does not depend on how many.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "relational/plan_memory.h"

namespace jaxdirect::relational {

struct Record {
  uint32_t src;
  uint32_t dst;
  uint32_t weight;
  uint32_t edge;
};
using Records = PlanVector<Record>;

inline int bit_width(uint64_t value) {
  int width = 0;
  for (; value > 0; value >>= 1) ++width;
  return width;
}

// Bits that numbers in [0, count) take.
inline int bits_for(int64_t count) { return count > 1 ? bit_width(count - 1) : 0; }

namespace sort_internal {

// 2^12 places to write to still lie in the second-level cache.
inline constexpr int kMostDigitBits = 12;
inline constexpr int64_t kLeastBlock = 1 << 16;

struct Digit {
  int shift;
  int bits;
};

template <typename Key>
void sort_by_digit(const Executor& executor, const Records& from, Records* to, Digit digit,
                   const Key& key) {
  const auto count = static_cast<int64_t>(from.size());
  const int64_t blocks = std::clamp<int64_t>(
      count / kLeastBlock, 1, executor.num_threads == 1 ? 1 : 4 * executor.num_threads);
  const int64_t digits = int64_t{1} << digit.bits;
  const uint64_t mask = digits - 1;
  std::vector<uint32_t> places(blocks * digits);
  const auto each_block = [&](const auto& body) {
    parallel_for(executor, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        body(places.data() + block * digits, count * block / blocks, count * (block + 1) / blocks);
      }
    });
  };
  each_block([&](uint32_t* counts, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++counts[key(from[i]) >> digit.shift & mask];
  });
  uint32_t place = 0;
  for (int64_t value = 0; value < digits; ++value) {
    for (int64_t block = 0; block < blocks; ++block) {
      place += std::exchange(places[block * digits + value], place);
    }
  }
  each_block([&](uint32_t* next, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      (*to)[next[key(from[i]) >> digit.shift & mask]++] = from[i];
    }
  });
}

}  // namespace sort_internal

// Sorts by key(record), a number of so many bits. `scratch` is overwritten.
template <typename Key>
void sort_records(const Executor& executor, Records* records, Records* scratch, int bits,
                  const Key& key) {
  const int passes = (bits + sort_internal::kMostDigitBits - 1) / sort_internal::kMostDigitBits;
  scratch->resize(records->size());
  for (int pass = 0; pass < passes; ++pass) {
    const int begin = bits * pass / passes;
    const int end = bits * (pass + 1) / passes;
    sort_internal::sort_by_digit(executor, *records, scratch, {begin, end - begin}, key);
    std::swap(*records, *scratch);
  }
}

}  // namespace jaxdirect::relational
