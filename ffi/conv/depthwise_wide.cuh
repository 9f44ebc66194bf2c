#pragma once

// The same sum as depthwise_sweep.cuh for filters, strides and dilations of any size.
//
// A thread has kCount channels of kTile columns of one output row. It runs along the taps of a
// filter row with a window of kTile + kStep - 1 input columns in registers, so that a step of kStep
// taps loads kStep columns and kStep taps for kStep * kTile products. kTile = 1 takes every stride.
// Floor: R * S multiply-adds an element of y at 29.6 T a second (H200); this reaches about half.

#include "conv/depthwise_sweep.cuh"

namespace jaxdirect::conv::depthwise {

template <typename T, int kCount, int kTile, int kStep>
__global__ void __launch_bounds__(kThreads) wide(const SweepArgs args) {
  constexpr int kWindow = kTile + kStep - 1;
  const Axis& rows = args.problem.rows;
  const Axis& columns = args.problem.columns;

  const Place place = find_place<kCount>(args.lanes, args.problem.channels);
  int64_t unit = place.block * args.lanes.workers() + place.worker;
  if (!place.active || unit >= args.units) return;
  const int first = take(&unit, args.strips) * kTile;
  const int p = take(&unit, rows.out);
  const int column_phase = take(&unit, columns.phases);
  const int count = min(kTile, columns.outs(column_phase) - first);
  if (count <= 0) return;

  const int column0 = columns.origin(column_phase, first);
  const int row0 = rows.origin(0, p);
  const T* filter = static_cast<const T*>(args.problem.filter) + place.channel;
  const T* in = static_cast<const T*>(args.problem.in) + unit * args.problem.in_image +
                column0 * columns.in_pitch + place.channel;
  const int64_t column_step = columns.step * columns.in_pitch;

  float sums[kTile][kCount] = {};
  for (int u = 0; u < rows.taps; ++u) {
    const int row = row0 + rows.step * u;
    if (!rows.holds(row)) continue;
    const T* from = in + row * rows.in_pitch;
    const T* tap = filter + u * rows.tap_pitch;
    float window[kWindow][kCount];
    const auto load = [&](int m, int v) {
      Packed<T, kCount> packed;
      packed.clear();
      if (columns.holds(column0 + columns.step * v)) packed.load(from + v * column_step);
      widen(packed, window[m]);
    };
#pragma unroll
    for (int m = 0; m < kTile - 1; ++m) load(m, m);
    for (int v0 = 0; v0 < columns.taps; v0 += kStep) {
#pragma unroll
      for (int m = kTile - 1; m < kWindow; ++m) load(m, v0 + m);
#pragma unroll
      for (int v = 0; v < kStep; ++v) {
        if (v0 + v >= columns.taps) break;
        Packed<T, kCount> packed;
        packed.load(tap + (v0 + v) * columns.tap_pitch);
#pragma unroll
        for (int j = 0; j < kTile; ++j) {
#pragma unroll
          for (int c = 0; c < kCount; ++c) {
            sums[j][c] = fmaf(window[j + v][c], packed[c], sums[j][c]);
          }
        }
      }
#pragma unroll
      for (int m = 0; m < kTile - 1; ++m) {
#pragma unroll
        for (int c = 0; c < kCount; ++c) window[m][c] = window[m + kStep][c];
      }
    }
  }

  T* out = static_cast<T*>(args.problem.out) + unit * args.problem.out_image + p * rows.out_pitch +
           (column_phase + int64_t{columns.phases} * first) * columns.out_pitch + place.channel;
#pragma unroll
  for (int j = 0; j < kTile; ++j) {
    if (j < count) store<T, kCount>(out + j * columns.phases * columns.out_pitch, sums[j]);
  }
}

template <typename T, int kCount, int kTile, int kStep>
Status launch_wide(cudaStream_t stream, const Problem& problem) {
  SweepArgs args{};
  args.problem = problem;
  args.problem.rows = without_phases(problem.rows);
  if (kTile == 1) args.problem.columns = without_phases(problem.columns);
  const Axis& columns = args.problem.columns;
  args.lanes = make_lanes(problem.channels, kCount);
  args.strips = static_cast<int>(ceil_div(columns.outs(0), kTile));
  args.units = problem.batch * columns.phases * problem.rows.out * args.strips;
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(
      make_grid(ceil_div(args.units, args.lanes.workers()) * args.lanes.groups, &grid));
  wide<T, kCount, kTile, kStep><<<grid, kThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

}  // namespace jaxdirect::conv::depthwise
