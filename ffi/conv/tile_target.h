// The register tile of all products; see each_target.h. No include guard.

#include "common/simd_cpu.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {

using namespace jaxdirect::JAXDIRECT_TARGET;

namespace {

// kRows * kPanelVectors sums, a row's number and a panel's vectors fill the registers. Rows of
// pointers take general registers too, rows of neighbouring numbers (kLongRows) do not.
inline constexpr int kRows = JAXDIRECT_VECTOR_BYTES == 64 ? 8 : 6;
inline constexpr int kLongRows = JAXDIRECT_VECTOR_BYTES == 64 ? 14 : 6;
inline constexpr int kPanelVectors = 2;
inline constexpr int64_t kLane = kLanes<float>;
inline constexpr int64_t kPanel = kPanelVectors * kLane;

template <int kCount, int kVectors>
struct Tile {
  Vec<float> sums[kCount][kVectors];

  __attribute__((always_inline)) void clear() {
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Vec<float>{};
    }
  }
  __attribute__((always_inline)) void add_from(const float* from) {
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] += load(from + r * kPanel + v * kLane);
    }
  }
  __attribute__((always_inline)) void store_to(float* to) const {
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) store<float>(to + r * kPanel + v * kLane, sums[r][v]);
    }
  }
  // sums[r] += left(r) * right, a row of a panel.
  template <typename Left>
  __attribute__((always_inline)) void add(const Left& left, const float* right) {
    Vec<float> vectors[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) vectors[v] = load(right + v * kLane);
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
      const Vec<float> factor = splat(left(r));
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[r][v] += factor * vectors[v];
    }
  }
};

}  // namespace
}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
