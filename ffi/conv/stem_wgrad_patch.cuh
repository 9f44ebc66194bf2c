#pragma once

// As stem_patch.cuh's fill_patch, with less work a value: words of 16-bit values and single float32
// values are read one by one, so that none needs to be moved into its place. Neighbouring threads
// read the same sectors.

#include "conv/stem_floats.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// Values of a unit on its way: kWanted from value number `first_value` of a row of x on.
template <typename T, int kWanted>
struct StemValues {
  // A pair may begin in the middle of a word.
  static constexpr int kLoads = sizeof(T) == 2 ? kWanted / 2 + 1 : kWanted;
  using Word = std::conditional_t<sizeof(T) == 2, uint32_t, float>;

  Word found[kLoads];
  int first, last;  // those that lie in the image: [first, last)
  int is_odd;       // whether the first is the second of a word

  __device__ __forceinline__ void load(const T* row, int first_value, int width) {
    first = max(-first_value, 0);
    last = min(width - first_value, kWanted);
    const T* from = row + first_value;
    if constexpr (sizeof(T) == 2) {
      is_odd = reinterpret_cast<uintptr_t>(from) / 2 & 1;
      const auto* words =
          reinterpret_cast<const uint32_t*>(reinterpret_cast<uintptr_t>(from) & ~uintptr_t{3});
      const int begin = (first + is_odd) / 2, end = last > first ? (last + is_odd + 1) / 2 : 0;
#pragma unroll
      for (int i = 0; i < kLoads; ++i) found[i] = load_if(i >= begin && i < end, words + i);
    } else {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) found[i] = load_if(i >= first && i < last, from + i);
    }
  }

  // 16-bit values in order, zeros outside of the image.
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

// A unit to every copy, in its form.
template <StemForm kForm, int kCopies, int kStep, typename T, int kWanted>
__device__ __forceinline__ void store_values(const StemValues<T, kWanted>& values,
                                             const StemPatch& patch, uint32_t to) {
  if constexpr (kForm == StemForm::kPlain) {
    uint32_t words[kWanted / 2];
    values.take(words);
    store_copies<kCopies, kStep>(words, to, patch);
  } else {
    float rest[kWanted];
#pragma unroll
    for (int i = 0; i < kWanted; ++i) rest[i] = values.found[i];
#pragma unroll
    for (int plane = 0; plane < stem_planes(kForm); ++plane) {
      uint32_t part[kWanted / 2];
#pragma unroll
      for (int i = 0; i < kWanted / 2; ++i) {
        part[i] = pack_pair(rest[2 * i], rest[2 * i + 1], __nv_bfloat16());
        rest[2 * i] -= __uint_as_float(part[i] << 16);
        rest[2 * i + 1] -= __uint_as_float(part[i] & 0xffff0000u);
      }
      store_copies<kCopies, kStep>(part, to + plane * patch.plane_bytes(), patch);
    }
  }
}

// A thread's first unit of a patch, and how far the next is.
struct StemTurns {
  int row, block, row_step, block_step;

  __device__ __forceinline__ StemTurns(const StemPatch& patch, int thread, int threads)
      : row(thread / patch.units),
        block(thread - row * patch.units),
        row_step(threads / patch.units),
        block_step(threads - row_step * patch.units) {}
};

// As fill_patch; x's words must lie in x as a whole.
template <StemForm kForm, int kCopies, int kStep, int kRegisters, typename T>
__device__ __forceinline__ void fill_values(const T* x, const StemProblem& p,
                                            const StemPatch& patch, const StemTurns& turns, int n,
                                            int h0, int w0, uint32_t to) {
  constexpr int kWanted = 8 + ((kCopies - 1) * kStep + 1) / 2 * 2;
  using Values = StemValues<T, kWanted>;
  constexpr int kFit = kRegisters / (Values::kLoads + 4);
  // Patches of eight copies have few units.
  constexpr int kAtOnce = kFit > 1 && !(sizeof(T) == 4 && kCopies == 8) ? kFit : 1;
  const int width = p.width * p.channels;
  int row = turns.row, block = turns.block;
  const T* image = x + int64_t{n} * p.height * width;
  while (row < patch.rows) {
    Values found[kAtOnce];
    uint32_t at[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int h = h0 + row;
      const bool is_inside = row < patch.rows;
      at[i] = is_inside ? to + row * patch.row_bytes + block * 16 : 0;
      found[i].load(image + int64_t{h} * width, w0 * p.channels + block * 8,
                    is_inside && h >= 0 && h < p.height ? width : -(1 << 24));
      row += turns.row_step, block += turns.block_step;
      if (block >= patch.units) ++row, block -= patch.units;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (at[i] != 0) store_values<kForm, kCopies, kStep>(found[i], patch, at[i]);
    }
  }
}

// The same for 16-bit values whose words may not lie in x: few tiles of few images.
template <int kCopies, int kStep, typename T>
__device__ __forceinline__ void fill_singly(const T* x, const StemProblem& p,
                                            const StemPatch& patch, int n, int h0, int w0,
                                            uint32_t to, int thread, int threads) {
  const int width = p.width * p.channels;
#pragma unroll 1
  for (int i = thread; i < patch.rows * patch.units * kCopies; i += threads) {
    const int copy = i % kCopies, unit = i / kCopies;
    const int row = unit / patch.units, block = unit % patch.units, h = h0 + row;
    const int first = w0 * p.channels + block * 8 + copy * kStep;
    const T* from = x + (int64_t{n} * p.height + h) * width;
    uint32_t words[4] = {};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      uint16_t value = 0;
      if (h >= 0 && h < p.height && first + j >= 0 && first + j < width) {
        memcpy(&value, from + first + j, 2);
      }
      words[j / 2] |= uint32_t{value} << (j % 2 * 16);
    }
    store_16(to + patch.copy_at[copy] + row * patch.row_bytes + block * 16, words[0], words[1],
             words[2], words[3]);
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
