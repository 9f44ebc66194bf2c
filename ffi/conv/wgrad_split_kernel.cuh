#pragma once

// wgrad_kernel.cuh for float32 values, as bf16 products of their parts:
//
//   two parts:   x y = x0 y0 + [x0 y1 + x1 y0], 16 bits of each value, where TF32 has 11
//   three parts: x y = x0 y0 + [x0 y1 + x1 y0 + x0 y2 + x2 y0 + x1 y1], float32 accuracy
//
// TF32 products themselves want operands that are contiguous in depth, and depth is pixels.
//
// A halo of x comes as float32 and is split once for all taps, by three warps, into tiles of bf16
// parts, the right operands. y_bar stays float32 in shared memory: its fragments are split in
// registers, once a step for all taps. Bytes of shared memory a step of 16 pixels and 64 x 64
// channels, with the nine taps of 3 x 3 and 1.5 halo pixels a pixel: 4 K of y_bar and 6 K of x
// come; x is read (6 K) and written in parts (6 or 9 K); y_bar is read by two warpgroups (8 K);
// products read 2 K each, 54 or 108 K. In all 84 or 141 K, and products take 27 or 54 times 32
// ticks of 128 bytes: 76 or 64 % of what shared memory gives. L2 gives 10 K in that time.
//
// Tensor cores truncate when they add. With three parts a tap's products of two steps are summed
// by themselves, corrections first because they are 2^-8 of the rest, and the sum is added to
// float32 registers; meanwhile the other warpgroup multiplies. With two parts everything is added
// up by tensor cores, over a slice of at most 2^15 pixels or so.
//
// Infinities, and values that bf16 rounds to them, give NaN.

#include "conv/wgrad_split_pipeline.cuh"

namespace jaxdirect::conv {

inline constexpr int kConsumerRegisters = 232, kFetcherRegisters = 40;

#if JAXDIRECT_HOPPER

// The thread's number, read anew each time: what is computed from it needs no register meanwhile.
__device__ __forceinline__ uint32_t read_thread() {
  uint32_t thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// A step's left operand: rows lane / 4 and lane / 4 + 8 of the warp's 16 channels, two neighbouring
// pixels of each run. y_bar lies behind the halo's parts; `table`: WgradRuns::y_rows.
template <int kParts>
__device__ __forceinline__ void load_y_parts(uint32_t (&parts)[kParts][4], const WgradTiling& t,
                                             uint32_t halo, uint32_t table, int step) {
  const uint32_t thread = read_thread(), lane = thread % 32;
  const uint32_t block = t.row_blocks == 2 ? thread / 64 : thread / 64 % 2;  // of 32 channels
  const uint32_t y = halo + t.halo_bytes + block * t.y_rows * kSwizzleRow;
  const uint32_t place = (thread / 32 % 2 * 4 + lane / 16) * 16 + lane / 4 % 4 * 4;
  uint32_t rows[2];
  float values[2][2][2];  // run, eight channels on, pixel
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    rows[run] = load_4(table + lane % 4 * 4 + (2 * step + run) * kRun * 2);
  }
#pragma unroll
  for (int run = 0; run < 2; ++run) {
    const uint32_t low = y + ((rows[run] & 0xffff) ^ place);
    const uint32_t high = y + ((rows[run] >> 16) ^ place);
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // eight channels are two pieces of 16 bytes
      values[run][half][0] = __uint_as_float(load_4(low ^ half * 32));
      values[run][half][1] = __uint_as_float(load_4(high ^ half * 32));
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    split_pair<kParts, 4>(values[i / 2][i % 2][0], values[i / 2][i % 2][1], &parts[0][i]);
  }
}

// The right operands of a pair of steps before taps and parts, which move them by multiples of 16
// bytes.
struct PairOperand {
  uint32_t low[2], strides;

  __device__ PairOperand(uint32_t halo, const uint32_t* runs) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      low[s] = static_cast<uint32_t>(
          operand_at(operand_layout(0, 16), halo + (runs[s] & 0xffff) * kSwizzleRow));
      const uint32_t stride = (runs[s] >> 16) * (kSwizzleRow / 16);
      strides = s == 0 ? stride : strides | stride << 16;
    }
  }

  __device__ uint64_t operator()(int step, uint32_t moved) const {
    const uint32_t stride = step == 0 ? strides & 0xffff : strides >> 16;
    return (operand_layout(0, 0) | uint64_t{stride} << 32) + (low[step] + moved);
  }
};

// What a warpgroup has of a block's work. Of an odd number of taps the two warpgroups share the one
// in the middle: each has half of its columns.
struct SplitShare {
  int first, count, middle;  // places of taps; no middle: -1
  int row_block, column;     // of the middle tap's half

  __device__ SplitShare(const WgradTiling& t, const WgradWork& work, int group) {
    const WgradGroup& taps = t.group[work.group];
    const bool together = t.row_blocks == 1, odd = together && taps.count % 2 == 1;
    count = together ? taps.count / 2 : taps.count;
    middle = odd ? taps.first + count : -1;
    first = taps.first + (together && group == 1 ? taps.count - count : 0);
    row_block = together ? 0 : group;
    column = group * kWgradBlock / 2;
  }
};

template <int kTapCount, bool kWithHalf>
struct SplitSums {
  static constexpr int kTaps = kTapCount;
  static constexpr bool kHalf = kWithHalf;
  static constexpr int kProducts = kTaps + kHalf;

  float taps[kTaps > 0 ? kTaps : 1][kWgradBlock / 2] = {};
  float half[kWgradBlock / 4] = {};
};

// Of every tap how far it moves the right operand, in units of 16 bytes: two in a register.
template <typename Sums>
class TapShifts {
 public:
  __device__ TapShifts(const WgradTiling& t, const SplitShare& share) {
#pragma unroll
    for (int i = 0; i < Sums::kProducts; ++i) {
      const int place = i < Sums::kTaps ? share.first + i : share.middle;
      uint32_t shift = t.tap[place].shift * (kSwizzleRow / 16);
      if (i == Sums::kTaps) shift += share.column * 2 / 16;
      packed_[i / 2] = i % 2 == 0 ? shift : packed_[i / 2] | shift << 16;
    }
  }

  // The compiler does not see that it is always the same: it would compute the operands of all
  // taps and parts ahead and run out of registers.
  __device__ uint32_t operator()(int i) const {
    uint32_t pair = packed_[i / 2];
    asm volatile("" : "+r"(pair));
    return i % 2 == 0 ? pair & 0xffff : pair >> 16;
  }

 private:
  uint32_t packed_[(Sums::kProducts + 1) / 2];
};

// One warpgroup, like multiply_taps.
template <typename Sums>
__device__ __forceinline__ void multiply_two_parts(Sums& sums, const TapShifts<Sums>& shift,
                                                   const WgradTiling& t, const WgradWork& work,
                                                   const WgradSplitStages& stages,
                                                   const WgradRuns& runs) {
  using B = __nv_bfloat16;
  const uint32_t part = t.part_bytes / 16, table = shared_address(runs.y_rows);
  uint32_t a[3][2][4];
  const auto load = [&](auto turn, int stage, int step) {
    load_y_parts(a[turn], t, stages.halo(stage), table, step);
  };
  const auto multiply_step = [&](auto turn, int stage, int step) {
    const PairOperand operand(stages.halo(stage), &runs.pixels[step]);
    product_fence();
    const auto add = [&](int y_part, uint32_t moved) {  // neighbouring products are of other sums
#pragma unroll
      for (int i = 0; i < Sums::kTaps; ++i) {
        multiply<B, kWgradBlock, true>(sums.taps[i], a[turn][y_part], operand(0, shift(i) + moved),
                                       true);
      }
      if constexpr (Sums::kHalf) {
        multiply<B, kWgradBlock / 2, true>(sums.half, a[turn][y_part],
                                           operand(0, shift(Sums::kTaps) + moved), true);
      }
    };
    add(1, 0);
    add(0, part);
    add(0, 0);
    product_commit();
  };
  take_steps(t, work, stages, load, multiply_step);
#pragma unroll
  for (int i = 0; i < Sums::kTaps; ++i) settle(sums.taps[i]);
  settle(sums.half);
}

// Adds kSteps steps' products of a tap to `sums`, by way of a sum of their own.
template <int kColumns, int kSteps>
__device__ __forceinline__ void add_three_parts(float (&sums)[kColumns / 2],
                                                const uint32_t (&a)[kSteps][3][4],
                                                const PairOperand& operand, uint32_t moved,
                                                uint32_t part) {
  using B = __nv_bfloat16;
  float sum[kColumns / 2];
  product_fence();
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const uint64_t b0 = operand(s, moved);
    const uint64_t b1 = operand(s, moved + part);
    const uint64_t b2 = operand(s, moved + 2 * part);
    multiply<B, kColumns, true>(sum, a[s][2], b0, s > 0);
    multiply<B, kColumns, true>(sum, a[s][0], b2, true);
    multiply<B, kColumns, true>(sum, a[s][1], b1, true);
    multiply<B, kColumns, true>(sum, a[s][1], b0, true);
    multiply<B, kColumns, true>(sum, a[s][0], b1, true);
  }
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    multiply<B, kColumns, true>(sum, a[s][0], operand(s, moved), true);
  }
  product_commit();
  product_wait<0>();
  settle(sum);
#pragma unroll
  for (int j = 0; j < kColumns / 2; ++j) sums[j] += sum[j];
}

template <typename Sums>
__device__ __forceinline__ void multiply_three_parts(Sums& sums, const TapShifts<Sums>& shift,
                                                     const WgradTiling& t, const WgradWork& work,
                                                     const WgradSplitStages& stages,
                                                     const WgradRuns& runs) {
  const int steps = t.steps();
  const uint32_t part = t.part_bytes / 16, table = shared_address(runs.y_rows);
  RingPlace place;
  for (int tile = work.first_tile; tile < work.end_tile; ++tile) {
    barrier_wait(stages.full(place.stage), place.parity);
    const uint32_t halo = stages.halo(place.stage);
    const auto take_steps = [&](auto count, int step) {
      constexpr int kSteps = decltype(count)::value;
      uint32_t a[kSteps][3][4];
#pragma unroll
      for (int s = 0; s < kSteps; ++s) load_y_parts(a[s], t, halo, table, step + s);
      const PairOperand operand(halo, &runs.pixels[step]);
#pragma unroll
      for (int i = 0; i < Sums::kTaps; ++i) {
        add_three_parts<kWgradBlock>(sums.taps[i], a, operand, shift(i), part);
      }
      if constexpr (Sums::kHalf) {
        add_three_parts<kWgradBlock / 2>(sums.half, a, operand, shift(Sums::kTaps), part);
      }
    };
    int step = 0;
    for (; step + 1 < steps; step += 2) take_steps(std::integral_constant<int, 2>(), step);
    if (step < steps) take_steps(std::integral_constant<int, 1>(), step);
    if (threadIdx.x % 32 == 0) barrier_arrive(stages.empty(place.stage));
    place.advance(t.stages);
  }
}

template <int kParts, typename Sums>
__device__ __forceinline__ void multiply_split_taps(const CUtensorMap& sums_map,
                                                    const WgradTiling& t, const WgradWork& work,
                                                    const WgradSplitStages& stages,
                                                    const WgradRuns& runs,
                                                    const SplitShare& share) {
  const TapShifts<Sums> shift(t, share);
  Sums sums;
  if constexpr (kParts == 2) {
    multiply_two_parts(sums, shift, t, work, stages, runs);
  } else {
    multiply_three_parts(sums, shift, t, work, stages, runs);
  }
  finish_products();
#pragma unroll
  for (int i = 0; i < Sums::kTaps; ++i) {
    store_tap<kWgradBlock>(sums.taps[i], sums_map, t, work, share.first + i, share.row_block, 0,
                           stages.data, i % 2);
  }
  if constexpr (Sums::kHalf) {
    store_tap<kWgradBlock / 2>(sums.half, sums_map, t, work, share.middle, share.row_block,
                               share.column, stages.data, Sums::kTaps % 2);
  }
  finish_stores();
}

// The same for a share that is not known ahead.
template <int kParts, int kTaps = kWgradTapsAtOnce, typename... Args>
__device__ __forceinline__ void multiply_share(const SplitShare& share, const Args&... args) {
  if (share.count == kTaps) {
    if constexpr (kTaps > 0) {
      if (share.middle < 0) return multiply_split_taps<kParts, SplitSums<kTaps, false>>(args...);
    }
    if constexpr (kTaps < kWgradTapsAtOnce) {
      return multiply_split_taps<kParts, SplitSums<kTaps, true>>(args...);
    }
  } else if constexpr (kTaps > 0) {
    multiply_share<kParts, kTaps - 1>(share, args...);
  }
}

#endif  // JAXDIRECT_HOPPER

template <int kParts>
__global__ void __launch_bounds__(kThreads, 1)
    wgrad_split_slices(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap y,
                       const __grid_constant__ CUtensorMap sums,
                       const __grid_constant__ WgradProblem p,
                       const __grid_constant__ WgradTiling t) {
#if JAXDIRECT_HOPPER
  extern __shared__ char shared[];
  __shared__ WgradRuns runs;
  const WgradSplitStages stages(t, shared);
  const WgradWork work(t);
  prepare_split(t, stages, runs);
  __syncthreads();
  const int group = threadIdx.x / 128, warp = threadIdx.x / 32 % 4;
  if (group == kConsumers) {
    give_registers<kFetcherRegisters>();
    if (warp < kSplitters) {
      split_halos<kParts>(t, work, stages, threadIdx.x % 128);
    } else if (threadIdx.x % 32 == 0) {
      fetch_split_tiles(x, y, p, t, work, stages);
    }
    return;
  }
  take_registers<kConsumerRegisters>();
  const SplitShare share(t, work, group);
  multiply_share<kParts>(share, sums, t, work, stages, runs, share);
#endif
}

}  // namespace jaxdirect::conv
