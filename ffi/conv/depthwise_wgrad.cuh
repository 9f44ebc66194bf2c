#pragma once

// What the kernels of depthwise wgrad share: a worker's part, a block's partial sums.

#include "conv/depthwise.cuh"

namespace jaxdirect::conv::depthwise {

struct WgradArgs {
  Problem problem;  // of the forward; `filter` is unused
  Lanes lanes;
  int strips;
  int side;       // workers that go side by side: 1, or all of a block
  int64_t units;  // images * phases * strips
  int64_t steps;  // to divide among the runs of all slices
  int64_t slices;
  int tap_blocks;   // of `wgrad_wide`
  float* partials;  // [slices, R, S, C]
  int64_t partial_size;

  // What a run of a slice starts with; it ends where the next one starts.
  __device__ int64_t start(int64_t slice, int run) const {
    const int runs = lanes.workers() / side;
    return steps * (slice * runs + run) / (slices * runs);
  }
};

// Calls step(0), step(1), .. with constants.
template <int kSteps, int kFirst = 0, typename Step>
__device__ inline void each_step(const Step& step) {
  if constexpr (kFirst < kSteps) {
    step(std::integral_constant<int, kFirst>{});
    each_step<kSteps, kFirst + 1>(step);
  }
}

// Adds, in order, what the workers of a block hold for kColumns taps of a filter row, into `to`
// (tap 0, channel 0 of the slice) for `columns` of them. All threads of the block come here.
template <int kColumns, int kCount>
__device__ inline void add_workers(const WgradArgs& args, const float (&sums)[kColumns][kCount],
                                   int columns, float* to) {
  __shared__ float shared[kColumns * kCount * kThreads];
#pragma unroll
  for (int v = 0; v < kColumns; ++v) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) shared[(v * kCount + c) * kThreads + threadIdx.x] = sums[v][c];
  }
  __syncthreads();
  const int lanes = args.lanes.lanes;
  const int first_run = static_cast<int>(blockIdx.x % args.lanes.groups) * lanes;
  const int workers = args.lanes.workers();
  for (int i = threadIdx.x; i < columns * kCount * lanes; i += kThreads) {
    const int value = i / lanes;
    const int lane = i % lanes;
    const int channel = (first_run + lane) * kCount + value % kCount;
    if (channel >= args.problem.channels) continue;
    float total = 0;
    for (int w = 0; w < workers; ++w) total += shared[value * kThreads + w * lanes + lane];
    to[value / kCount * args.problem.columns.tap_pitch + channel] = total;
  }
  __syncthreads();
}

}  // namespace jaxdirect::conv::depthwise
