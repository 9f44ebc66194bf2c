#pragma once

// As stem_patch.cuh's fill_patch, with less work a value: words are read one by one, so that none
// needs to be moved into its place. Neighbouring threads read the same sectors.

#include "conv/stem_patch.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// A word of global memory if `wanted`, else zeros.
__device__ __forceinline__ uint32_t load_if(bool wanted, const uint32_t* from) {
  uint32_t value;
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %2, 0;\nmov.b32 %0, 0;\n"
      "@wanted ld.global.nc.u32 %0, [%1];\n}"
      : "=r"(value)
      : "l"(from), "r"(static_cast<int>(wanted)));
  return value;
}

// kWanted 16-bit values on their way, from value number `first_value` of a row of x on.
template <int kWanted>
struct StemValues {
  static constexpr int kLoads = kWanted / 2 + 1;  // a pair may begin in the middle of a word

  uint32_t found[kLoads];
  int first, last;  // those that lie in the image: [first, last)
  int is_odd;       // whether the first is the second of a word

  __device__ __forceinline__ void load(const uint16_t* row, int first_value, int width) {
    first = max(-first_value, 0);
    last = min(width - first_value, kWanted);
    const auto from = reinterpret_cast<uintptr_t>(row + first_value);
    is_odd = from / 2 & 1;
    const auto* words = reinterpret_cast<const uint32_t*>(from & ~uintptr_t{3});
    const int begin = (first + is_odd) / 2, end = last > first ? (last + is_odd + 1) / 2 : 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) found[i] = load_if(i >= begin && i < end, words + i);
  }

  // The values in order, zeros outside of the image.
  __device__ __forceinline__ void take(uint32_t (&words)[kWanted / 2]) const {
#pragma unroll
    for (int i = 0; i < kWanted / 2; ++i) {
      words[i] = __funnelshift_r(found[i], found[i + 1], is_odd * 16);
    }
    if (first == 0 && last >= kWanted) return;
#pragma unroll
    for (int i = 0; i < kWanted / 2; ++i) {
      if (2 * i < first || 2 * i >= last) words[i] &= 0xffff0000u;
      if (2 * i + 1 < first || 2 * i + 1 >= last) words[i] &= 0x0000ffffu;
    }
  }
};

// x's 16-bit values as they are, by kThreads threads that wait for as many units as fit into
// kRegisters.
template <int kCopies, int kStep, int kThreads, int kRegisters>
class StemWords {
  static constexpr int kWanted = 8 + ((kCopies - 1) * kStep + 1) / 2 * 2;
  static constexpr int kFit = kRegisters / (StemValues<kWanted>::kLoads + 4);
  static constexpr int kAtOnce = kFit > 1 ? kFit : 1;

 public:
  __device__ __forceinline__ StemWords(const uint16_t* x, const StemProblem& p,
                                       const StemPatch& patch, int thread)
      : x_(x),
        thread_(thread),
        row_step_(kThreads / patch.units),
        unit_step_(kThreads - row_step_ * patch.units),
        first_row_(thread / patch.units),
        first_unit_(thread - first_row_ * patch.units) {}

  // What a later tile will load, into L2: a thread has too few registers to wait for memory.
  __device__ __forceinline__ void fetch(const StemProblem& p, const StemPatch& patch,
                                        const StemOrigin& at) const {
    constexpr int kLine = 64;  // values
    const int width = p.width * p.channels;
    const int first = at.w * p.channels, lines = (patch.units * 8 + 7) / kLine + 1;
    const uint16_t* image = x_ + int64_t{at.n} * p.height * width;
    for (int row = thread_ / 4; row < patch.rows; row += kThreads / 4) {
      const int h = at.h + row;
      for (int line = thread_ % 4; line < lines; line += 4) {
        const int value = first + line * kLine;
        if (h < 0 || h >= p.height || value < 0 || value >= width) continue;
        asm volatile("prefetch.global.L2 [%0];" ::"l"(image + int64_t{h} * width + value));
      }
    }
  }

  // Places a tile in the patch at `to`.
  __device__ __forceinline__ void place(const StemProblem& p, const StemPatch& patch, uint32_t to,
                                        const StemOrigin& at) const {
    const int width = p.width * p.channels;
    // The last word is half outside of x.
    const int64_t values = int64_t{p.batch} * p.height * width;
    if (values % 2 != 0 && at.n == p.batch - 1 && at.h + patch.rows >= p.height) {
      place_singly(p, patch, to, at);
      return;
    }
    const uint16_t* image = x_ + int64_t{at.n} * p.height * width;
    int row = first_row_, unit = first_unit_;
    while (row < patch.rows) {
      StemValues<kWanted> found[kAtOnce];
      uint32_t place[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int h = at.h + row;
        const bool is_inside = row < patch.rows;
        place[i] = is_inside ? to + row * patch.row_bytes + unit * 16 : 0;
        found[i].load(image + int64_t{h} * width, at.w * p.channels + unit * 8,
                      is_inside && h >= 0 && h < p.height ? width : -(1 << 24));
        row += row_step_, unit += unit_step_;
        if (unit >= patch.units) ++row, unit -= patch.units;
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (place[i] == 0) continue;
        uint32_t words[kWanted / 2];
        found[i].take(words);
        store_copies<kCopies, kStep>(words, place[i], patch);
      }
    }
  }

 private:
  // The same value by value: few tiles of few images.
  __device__ __forceinline__ void place_singly(const StemProblem& p, const StemPatch& patch,
                                               uint32_t to, const StemOrigin& at) const {
    const int width = p.width * p.channels;
#pragma unroll 1
    for (int i = thread_; i < patch.rows * patch.units * kCopies; i += kThreads) {
      const int copy = i % kCopies, place = i / kCopies;
      const int row = place / patch.units, unit = place % patch.units, h = at.h + row;
      const int first = at.w * p.channels + unit * 8 + copy * kStep;
      const uint16_t* from = x_ + (int64_t{at.n} * p.height + h) * width;
      uint32_t words[4] = {};
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const bool is_value = h >= 0 && h < p.height && first + j >= 0 && first + j < width;
        const uint16_t value = is_value ? from[first + j] : 0;
        words[j / 2] |= uint32_t{value} << (j % 2 * 16);
      }
      store_16(to + patch.copy_at[copy] + row * patch.row_bytes + unit * 16, words[0], words[1],
               words[2], words[3]);
    }
  }

  const uint16_t* const x_;
  const int thread_, row_step_, unit_step_, first_row_, first_unit_;
};

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
