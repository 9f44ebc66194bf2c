#pragma once

// 64 rows times a weight on tensor cores, for eight warps.
//
// The rows are the B operand and the weight the A operand: the accumulator then holds neighbouring
// columns of a row in one thread. The weight is packed in the order of its fragments, so that a
// fragment is one 16-byte load, and the rows lie as they came. A product does not mind in which
// order it goes through k or the columns, as long as both sides agree; both are numbered so that
// what a thread needs lies side by side.

#include "relational/mma.cuh"
#include "relational/tile.cuh"

namespace jaxdirect::relational {

// kWide: 16-column tiles of the weight that each of the two halves of the warps takes, two (64
// columns in all), four (128) or none. kExtra: 16 columns behind them.
template <typename T, bool kExact, int kWide, bool kExtra>
class RowsProduct {
  static constexpr bool kFloat = std::is_same_v<T, float>;
  // Tiles whose columns take turns, two and two, so that a thread has a run of them.
  static constexpr int kMixed = kFloat || kWide == 0 ? 2 : kWide;
  static constexpr int kTiles = 2 * kWide + (kExtra ? 1 : 0);
  static constexpr int kSteps = kDepth / kMmaDepth<T>;
  // Elements of a fragment that a lane has.
  static constexpr int kLaneSize = kFloat ? 4 : 8;

 public:
  static constexpr int kColumns = 16 * kTiles;
  static constexpr int kWideColumns = 32 * kWide;  // those before the extra ones
  static constexpr int kWeightSize = kDepth * kColumns;
  // Rows of shared memory lie so far apart that a fragment meets no bank twice.
  static constexpr int kRowStride = kDepth + (kFloat ? 8 : 16);

  // Where element (k, column) of 64 rows of the weight lies.
  __device__ static int place(int k, int column) {
    int tile = 2 * kWide;
    int group = column % 16 / 2;
    if (!kExtra || column < 32 * kWide) {
      const int in_run = column % (16 * kMixed);
      tile = column / (16 * kMixed) * kMixed + in_run % (2 * kMixed) / 2;
      group = in_run / (2 * kMixed);
    }
    const int in_step = k % kMmaDepth<T>;
    const int in_lane = in_step % (kLaneSize / 2);
    const int lane = 4 * group + in_step / (kLaneSize / 2);
    const int element =
        kFloat ? 2 * in_lane + column % 2 : 4 * (in_lane / 2) + 2 * (column % 2) + in_lane % 2;
    return ((k / kMmaDepth<T> * kTiles + tile) * 32 + lane) * kLaneSize + element;
  }

  __device__ void clear() {
#pragma unroll
    for (auto& tile : wide_) {
#pragma unroll
      for (auto& rows : tile) {
#pragma unroll
        for (float& sum : rows) sum = 0;
      }
    }
#pragma unroll
    for (float& sum : extra_) sum = 0;
  }

  // Adds rows[64][kDepth] weight[kDepth][kColumns], both zero from `depth` on.
  __device__ void add(const T* rows, const T* weight, int depth) {
    if (depth > 16) {
      add_steps<kSteps>(rows, weight);
    } else {
      add_steps<16 / kMmaDepth<T>>(rows, weight);
    }
  }

  // Calls row(r, &pointer) and, where that is true, emit(pointer, first column, values) for what
  // this thread has.
  template <typename Row, typename Emit>
  __device__ void visit(const Row& row, const Emit& emit) const {
    const int group = threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int in_tile = i % 2;
      T* to = nullptr;
      if (!row(first_row() + 8 * (i / 2) + threadIdx.x % 4 * 2 + in_tile, &to)) continue;
#pragma unroll
      for (int first = 0; first < kWide; first += kMixed) {
        float values[2 * kMixed];
#pragma unroll
        for (int j = 0; j < kMixed; ++j) {
          values[2 * j] = wide_[first + j][i / 2][in_tile];
          values[2 * j + 1] = wide_[first + j][i / 2][in_tile + 2];
        }
        emit(to, (half() * kWide + first) * 16 + group * 2 * kMixed, values);
      }
      if constexpr (kExtra) {
        float values[2] = {extra_[in_tile], extra_[in_tile + 2]};
        if (i / 2 == half()) emit(to, 32 * kWide + 2 * group, values);
      }
    }
  }

 private:
  template <int kCount>
  __device__ void add_steps(const T* rows, const T* weight) {
    const int lane = threadIdx.x % 32;
    const T* row = rows + (first_row() + lane / 4) * kRowStride + lane % 4 * (kLaneSize / 2);
    const T* fragments = weight + lane * kLaneSize;
#pragma unroll
    for (int step = 0; step < kCount; ++step) {
      FragmentB right[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        right[i] = load_right(row + 8 * i * kRowStride + step * kMmaDepth<T>);
      }
      const T* of_step = fragments + step * kTiles * 32 * kLaneSize;
#pragma unroll
      for (int i = 0; i < kWide; ++i) {
        const FragmentA left = load_left(of_step + (half() * kWide + i) * 32 * kLaneSize);
        multiply<T, kExact>(wide_[i][0], left, right[0]);
        multiply<T, kExact>(wide_[i][1], left, right[1]);
      }
      if constexpr (kExtra) {
        const FragmentA left = load_left(of_step + 2 * kWide * 32 * kLaneSize);
        FragmentB mine;
#pragma unroll
        for (int i = 0; i < 2; ++i) mine.r[i] = half() == 0 ? right[0].r[i] : right[1].r[i];
        multiply<T, kExact>(extra_, left, mine);
      }
    }
  }

  // Four warps lie along the rows, two along the columns.
  __device__ static int first_row() { return threadIdx.x / 32 % 4 * 16; }
  __device__ static int half() { return threadIdx.x / 128; }

  __device__ static FragmentA load_left(const T* from) {
    const uint4 four = *reinterpret_cast<const uint4*>(from);
    return {{four.x, four.y, four.z, four.w}};
  }

  __device__ static FragmentB load_right(const T* from) {
    const uint2 two = *reinterpret_cast<const uint2*>(from);
    return {{two.x, two.y}};
  }

  float wide_[kWide > 0 ? kWide : 1][2][4] = {};
  float extra_[4] = {};
};

}  // namespace jaxdirect::relational
