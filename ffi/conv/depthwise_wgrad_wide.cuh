#pragma once

// filter_bar for filters, strides and dilations of any size; see depthwise_wgrad_cuda.cu.
//
// A block owns a group of channels, a slice and kTaps taps of one filter row. A thread runs along
// rows of y_bar, kTile columns at a time, with the kTile + kTaps - 1 columns of x that they meet in
// registers. kTile = 1 takes every stride. Floor: R * S multiply-adds an element of y_bar.

#include "conv/depthwise_wgrad.cuh"

namespace jaxdirect::conv::depthwise {

template <typename T, int kCount, int kTile>
__global__ void __launch_bounds__(kThreads) wgrad_wide(const WgradArgs args) {
  constexpr int kTaps = 8;
  constexpr int kWindow = kTile + kTaps - 1;
  constexpr int kKept = kTile == 1 ? 0 : kTaps - 1;  // columns that the next step uses again
  static_assert(kKept <= kTile);
  const Axis& rows = args.problem.rows;
  const Axis& columns = args.problem.columns;
  const Place place = find_place<kCount>(args.lanes, args.problem.channels);
  const int64_t slice = place.block / args.tap_blocks;
  const int tap_block = static_cast<int>(place.block % args.tap_blocks);
  const int tap_columns = (columns.taps + kTaps - 1) / kTaps;
  const int u = tap_block / tap_columns;
  const int v0 = tap_block % tap_columns * kTaps;
  float sums[kTaps][kCount] = {};

  int64_t step = args.start(slice, place.worker);
  const int64_t stop = place.active ? args.start(slice, place.worker + 1) : step;
  for (; step < stop; ++step) {
    int64_t unit = step;
    const int column_phase = take(&unit, columns.phases);
    const int p = take(&unit, rows.out);
    const int row = rows.origin(0, p) + rows.step * u;
    if (!rows.holds(row)) continue;
    const int outs = columns.outs(column_phase);
    const T* x = static_cast<const T*>(args.problem.in) + unit * args.problem.in_image +
                 row * rows.in_pitch + place.channel;
    const T* y = static_cast<const T*>(args.problem.out) + unit * args.problem.out_image +
                 p * rows.out_pitch + column_phase * columns.out_pitch + place.channel;
    const int64_t y_step = columns.phases * columns.out_pitch;
    float window[kWindow][kCount];
    for (int q = 0; q < outs; q += kTile) {
      const int column0 = columns.origin(column_phase, q) + columns.step * v0;
      const auto load = [&](int m) {
        Packed<T, kCount> packed;
        packed.clear();
        const int column = column0 + columns.step * m;
        if (columns.holds(column)) packed.load(x + column * columns.in_pitch);
        widen(packed, window[m]);
      };
      if (q == 0) {
#pragma unroll
        for (int m = 0; m < kKept; ++m) load(m);
      }
#pragma unroll
      for (int m = kKept; m < kWindow; ++m) load(m);
      Packed<T, kCount> gradient[kTile];
#pragma unroll
      for (int j = 0; j < kTile; ++j) {
        if (q + j < outs) gradient[j].load(y + (q + j) * y_step);
      }
#pragma unroll
      for (int j = 0; j < kTile; ++j) {
        if (q + j >= outs) break;
#pragma unroll
        for (int v = 0; v < kTaps; ++v) {
#pragma unroll
          for (int c = 0; c < kCount; ++c) {
            sums[v][c] = fmaf(window[j + v][c], gradient[j][c], sums[v][c]);
          }
        }
      }
#pragma unroll
      for (int m = 0; m < kKept; ++m) {
#pragma unroll
        for (int c = 0; c < kCount; ++c) window[m][c] = window[m + kTile][c];
      }
    }
  }

  float* to =
      args.partials + slice * args.partial_size + u * rows.tap_pitch + v0 * columns.tap_pitch;
  add_workers<kTaps, kCount>(args, sums, min(kTaps, columns.taps - v0), to);
}

template <typename T, int kCount, int kTile>
Status launch_wgrad_wide(cudaStream_t stream, WgradArgs args) {
  args.problem.rows = without_phases(args.problem.rows);
  if (kTile == 1) args.problem.columns = without_phases(args.problem.columns);
  args.lanes = make_lanes(args.problem.channels, kCount);
  args.side = 1;
  args.steps = args.problem.batch * args.problem.rows.out * args.problem.columns.phases;
  args.tap_blocks =
      static_cast<int>(args.problem.rows.taps * ceil_div(args.problem.columns.taps, 8));
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(make_grid(args.slices * args.tap_blocks * args.lanes.groups, &grid));
  wgrad_wide<T, kCount, kTile><<<grid, kThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

}  // namespace jaxdirect::conv::depthwise
