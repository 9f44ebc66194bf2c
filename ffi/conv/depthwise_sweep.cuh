#pragma once

// out[n, p, q, c] = sum over u, v of in[n, row(p, u), column(q, v), c] * filter[u, v, c]
//
// [N, H, W, C] (x) [R, S, C] -> [N, P, Q, C], for filters of fixed size and strides of 1 or 2.
//
// A thread has kCount channels of a strip of kTile output columns and runs down the rows. Its taps
// stay in registers as float32, and so do the sums of all output rows that the present input row
// feeds: every input element is loaded and widened once for all kRows * kTile taps that use it.
// Lanes lie along the channels (4 to 16 bytes each), the warps of a block along the strips, whose
// overlapping columns then come from L1. The next rows are in flight while one is used.
//
// Bytes: x once (strips overlap in L1 and L2), y once. Multiply-adds: R * S an element of y.
// Floors on an H200 (4.3 TB/s; 132 * 128 lanes at 1.75 GHz, 29.6 T multiply-adds a second), bf16:
//   7x7, N 128, 56x56, C 256: memory 96 us, multiply-adds 170 us.    3x3 there: 96 us and 31 us.
//   1x4 causal, T 8192, C 4096: memory 31 us, multiply-adds 4.5 us a batch element.

#include "conv/depthwise.cuh"

namespace jaxdirect::conv::depthwise {

struct SweepArgs {
  Problem problem;
  Lanes lanes;
  int strips;              // of kTile columns
  int chunks, chunk_rows;  // parts of the rows, when whole images are too few
  int64_t units;           // images * phases * chunks * strips
};

// The steps of kStride rows, the first of them at row0, that have a row of the image: from
// first_step to before last_step.
template <int kStride>
__device__ inline int first_step(const Axis& rows, int row0) {
  const int t = row0 >= 0 ? 0 : (-row0 + rows.step - 1) / rows.step;
  return t / kStride;
}
template <int kStride>
__device__ inline int last_step(const Axis& rows, int row0) {
  const int t = rows.in <= row0 ? 0 : (rows.in - row0 + rows.step - 1) / rows.step;
  return (t + kStride - 1) / kStride;
}

template <typename T, int kRows, int kColumns, int kStride, int kCount, int kTile, int kUnroll,
          int kMinBlocks>
__global__ void __launch_bounds__(kThreads, kMinBlocks) sweep(const SweepArgs args) {
  constexpr int kLive = (kRows + kStride - 1) / kStride;  // output rows that one input row feeds
  constexpr int kWidth = (kTile - 1) * kStride + kColumns;
  constexpr int kAhead = kStride * kUnroll;
  const Axis& rows = args.problem.rows;
  const Axis& columns = args.problem.columns;

  const Place place = find_place<kCount>(args.lanes, args.problem.channels);
  int64_t unit = place.block * args.lanes.workers() + place.worker;
  if (!place.active || unit >= args.units) return;
  const int first = take(&unit, args.strips) * kTile;
  const int begin = take(&unit, args.chunks) * args.chunk_rows;
  const int column_phase = take(&unit, columns.phases);
  const int row_phase = take(&unit, rows.phases);
  const int count = min(kTile, columns.outs(column_phase) - first);
  const int end = min(begin + args.chunk_rows, rows.outs(row_phase));
  if (count <= 0 || begin >= end) return;

  float taps[kRows][kColumns][kCount];
  const T* filter = static_cast<const T*>(args.problem.filter) + place.channel;
#pragma unroll
  for (int u = 0; u < kRows; ++u) {
#pragma unroll
    for (int v = 0; v < kColumns; ++v) {
      Packed<T, kCount> packed;
      packed.load(filter + u * rows.tap_pitch + v * columns.tap_pitch);
      widen(packed, taps[u][v]);
    }
  }

  const int column0 = columns.origin(column_phase, first);
  const int row0 = rows.origin(row_phase, 0);
  const int64_t column_step = columns.step * columns.in_pitch;
  const int64_t row_step = rows.step * rows.in_pitch;
  const T* from = static_cast<const T*>(args.problem.in) + unit * args.problem.in_image +
                  (row0 + int64_t{rows.step} * kStride * begin) * rows.in_pitch +
                  column0 * columns.in_pitch + place.channel;
  uint32_t inside = 0;
#pragma unroll
  for (int m = 0; m < kWidth; ++m) {
    inside |= uint32_t{columns.holds(column0 + m * columns.step)} << m;
  }
  // Step i reads rows kStride * i + r; sums[k] then belongs to output row i - (kLive - 1) + k of
  // the phase. Steps before `low` have no row of the image, nor have those from `high` on.
  const int stop = end + kLive - 1;
  const int low = std::clamp(first_step<kStride>(rows, row0), begin, stop);
  const int high = std::clamp(last_step<kStride>(rows, row0), low, stop);
  from += int64_t{low - begin} * kStride * row_step;
  Packed<T, kCount> ahead[kAhead][kWidth];  // columns outside of the image stay 0
  // Calls go from row to row.
  const auto fetch = [&](Packed<T, kCount>(&to)[kWidth], int t) {
    if (t >= kStride * high) return;
    if (kStride > 1 && !rows.holds(row0 + rows.step * t)) {
#pragma unroll
      for (int m = 0; m < kWidth; ++m) to[m].clear();
    } else if (inside == (uint32_t{1} << kWidth) - 1) {
      const T* here = from;
#pragma unroll
      for (int m = 0; m < kWidth; ++m, here += column_step) to[m].load(here);
    } else {
      const uint32_t bits = pin(inside);
      const T* here = from;
#pragma unroll
      for (int m = 0; m < kWidth; ++m, here += column_step) {
        if (bits >> m & 1) to[m].load(here);
      }
    }
    from += row_step;
  };
#pragma unroll
  for (int a = 0; a < kAhead; ++a) {
#pragma unroll
    for (int m = 0; m < kWidth; ++m) ahead[a][m].clear();
    fetch(ahead[a], kStride * low + a);
  }

  const int64_t out_row = rows.phases * rows.out_pitch;
  const int64_t out_column = columns.phases * columns.out_pitch;
  T* to = static_cast<T*>(args.problem.out) + unit * args.problem.out_image +
          row_phase * rows.out_pitch + begin * out_row + column_phase * columns.out_pitch +
          first * out_column + place.channel;
  float sums[kLive][kTile][kCount] = {};
  const auto finish_row = [&](int i) {
    if (i < begin + kLive - 1) return;
    T* here = to;
#pragma unroll
    for (int j = 0; j < kTile; ++j, here += out_column) {
      if (j < count) store<T, kCount>(here, sums[0][j]);
    }
    to += out_row;
  };

  for (int i = begin; i < low; ++i) finish_row(i);
  for (int i0 = low; i0 < high; i0 += kUnroll) {
#pragma unroll
    for (int b = 0; b < kUnroll; ++b) {
      const int i = i0 + b;
      if (b > 0 && i >= high) break;
#pragma unroll
      for (int r = 0; r < kStride; ++r) {
        float values[kWidth][kCount];
#pragma unroll
        for (int m = 0; m < kWidth; ++m) widen(ahead[b * kStride + r][m], values[m]);
        fetch(ahead[b * kStride + r], kStride * i + r + kAhead);
        // The first product of a sum also moves it on to its next place.
#pragma unroll
        for (int m = 0; m < kWidth; ++m) {
#pragma unroll
          for (int k = 0; k < kLive; ++k) {
            const int u = kStride * (kLive - 1 - k) + r;
#pragma unroll
            for (int j = 0; j < kTile; ++j) {
              const int v = m - j * kStride;
              if (u >= kRows || v < 0 || v >= kColumns) continue;
#pragma unroll
              for (int c = 0; c < kCount; ++c) {
                const float before = r > 0 || v > 0  ? sums[k][j][c]
                                     : k + 1 < kLive ? sums[k + 1][j][c]
                                                     : 0.0f;
                sums[k][j][c] = fmaf(values[m][c], taps[u][v][c], before);
              }
            }
          }
        }
      }
      finish_row(i);
    }
  }
#pragma unroll 1
  for (int i = high; i < stop; ++i) {
#pragma unroll
    for (int k = 0; k < kLive; ++k) {
#pragma unroll
      for (int j = 0; j < kTile; ++j) {
#pragma unroll
        for (int c = 0; c < kCount; ++c) sums[k][j][c] = k + 1 < kLive ? sums[k + 1][j][c] : 0.0f;
      }
    }
    finish_row(i);
  }
}

// Cuts the rows into chunks where that makes the launch shorter: its rounds of blocks, by the rows
// of a chunk and those that it shares with its neighbours.
inline void choose_chunks(SweepArgs* args, int outs, int shared_rows, int resident_threads) {
  const int64_t threads = args->units * args->lanes.lanes * args->lanes.groups;
  double best = 0;
  for (int chunks = 1; chunks <= outs; chunks += 1 + chunks / 32) {
    const int rows = (outs + chunks - 1) / chunks;
    const int64_t rounds = ceil_div(threads * chunks, resident_threads);
    const double cost = static_cast<double>(rounds) * (rows + shared_rows + 2);
    if (chunks == 1 || cost < best * 0.97) {
      best = cost;
      args->chunk_rows = rows;
    }
  }
  args->chunks = static_cast<int>(ceil_div(outs, args->chunk_rows));
  args->units *= args->chunks;
}

template <typename T, int kRows, int kColumns, int kStride, int kCount, int kTile, int kUnroll,
          int kMinBlocks>
Status launch_sweep(cudaStream_t stream, const Problem& problem) {
  SweepArgs args{};
  args.problem = problem;
  args.lanes = make_lanes(problem.channels, kCount);
  args.strips = static_cast<int>(ceil_div(problem.columns.outs(0), kTile));
  args.units = problem.batch * problem.rows.phases * problem.columns.phases * args.strips;
  choose_chunks(&args, problem.rows.outs(0), (kRows - 1) / kStride, 132 * kThreads * kMinBlocks);
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(
      make_grid(ceil_div(args.units, args.lanes.workers()) * args.lanes.groups, &grid));
  sweep<T, kRows, kColumns, kStride, kCount, kTile, kUnroll, kMinBlocks>
      <<<grid, kThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

}  // namespace jaxdirect::conv::depthwise
