#pragma once

// As stem_patch.cuh's fill_patch, with less work a value: words of 16-bit values and single float32
// values are read one by one, so that none needs to be moved into its place. Neighbouring threads
// read the same sectors.

#include "conv/stem_floats.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

__device__ __forceinline__ uint32_t load_if(bool wanted, const uint32_t* from) {
  uint32_t value;
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %2, 0;\nmov.b32 %0, 0;\n"
      "@wanted ld.global.nc.u32 %0, [%1];\n}"
      : "=r"(value)
      : "l"(from), "r"(static_cast<int>(wanted)));
  return value;
}

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

// As fill_patch; x's words must lie in x as a whole.
template <StemForm kForm, int kCopies, int kStep, int kRegisters, typename T>
__device__ __forceinline__ void fill_values(const T* x, const StemProblem& p,
                                            const StemPatch& patch, int n, int h0, int w0,
                                            uint32_t to, int thread, int threads) {
  constexpr int kWanted = 8 + ((kCopies - 1) * kStep + 1) / 2 * 2;
  using Values = StemValues<T, kWanted>;
  constexpr int kAtOnce = kRegisters / (Values::kLoads + 4);
  const int width = p.width * p.channels, row_step = threads / patch.units;
  const int block_step = threads - row_step * patch.units;
  int row = thread / patch.units, block = thread - row * patch.units;
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
      row += row_step, block += block_step;
      if (block >= patch.units) ++row, block -= patch.units;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (at[i] != 0) store_values<kForm, kCopies, kStep>(found[i], patch, at[i]);
    }
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
