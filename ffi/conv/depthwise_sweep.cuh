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
#pragma unroll
      for (int c = 0; c < kCount; ++c) taps[u][v][c] = packed[c];
    }
  }

  const int column0 = columns.origin(column_phase, first);
  const int64_t column_step = columns.step * columns.in_pitch;
  const T* in = static_cast<const T*>(args.problem.in) + unit * args.problem.in_image +
                column0 * columns.in_pitch + place.channel;
  uint32_t inside = 0;
#pragma unroll
  for (int m = 0; m < kWidth; ++m) {
    inside |= uint32_t{columns.holds(column0 + m * columns.step)} << m;
  }
  const int row0 = rows.origin(row_phase, 0);
  const int last = kStride * (end + kLive - 1);
  Packed<T, kCount> ahead[kAhead][kWidth];  // columns outside of the image stay 0
  const auto fetch = [&](Packed<T, kCount>(&to)[kWidth], int t) {
    const int row = row0 + rows.step * t;
    if (t >= last || !rows.holds(row)) return;
    const T* from = in + row * rows.in_pitch;
    if (inside == (uint32_t{1} << kWidth) - 1) {
#pragma unroll
      for (int m = 0; m < kWidth; ++m) to[m].load(from + m * column_step);
    } else {
#pragma unroll
      for (int m = 0; m < kWidth; ++m) {
        if (inside >> m & 1) to[m].load(from + m * column_step);
      }
    }
  };
#pragma unroll
  for (int a = 0; a < kAhead; ++a) {
#pragma unroll
    for (int m = 0; m < kWidth; ++m) ahead[a][m].clear();
    fetch(ahead[a], kStride * begin + a);
  }

  T* out = static_cast<T*>(args.problem.out) + unit * args.problem.out_image +
           row_phase * rows.out_pitch +
           (column_phase + int64_t{columns.phases} * first) * columns.out_pitch + place.channel;
  // At the end of step i, sums[k] belongs to output row i - (kLive - 1) + k of the phase.
  float sums[kLive][kTile][kCount] = {};
  for (int i0 = begin; i0 < end + kLive - 1; i0 += kUnroll) {
#pragma unroll
    for (int b = 0; b < kUnroll; ++b) {
      const int i = i0 + b;
      if (b > 0 && i >= end + kLive - 1) break;
#pragma unroll
      for (int r = 0; r < kStride; ++r) {
        const int t = kStride * i + r;
        float values[kWidth][kCount];
#pragma unroll
        for (int m = 0; m < kWidth; ++m) {
#pragma unroll
          for (int c = 0; c < kCount; ++c) values[m][c] = ahead[b * kStride + r][m][c];
        }
        fetch(ahead[b * kStride + r], t + kAhead);
        if (rows.holds(row0 + rows.step * t)) {
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
        } else if (r == 0) {
#pragma unroll
          for (int k = 0; k < kLive; ++k) {
#pragma unroll
            for (int j = 0; j < kTile; ++j) {
#pragma unroll
              for (int c = 0; c < kCount; ++c) {
                sums[k][j][c] = k + 1 < kLive ? sums[k + 1][j][c] : 0.0f;
              }
            }
          }
        }
      }
      const int done = i - (kLive - 1);
      if (done >= begin) {
        T* to = out + int64_t{rows.phases} * done * rows.out_pitch;
#pragma unroll
        for (int j = 0; j < kTile; ++j) {
          if (j < count) store<T, kCount>(to + j * columns.phases * columns.out_pitch, sums[0][j]);
        }
      }
    }
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
