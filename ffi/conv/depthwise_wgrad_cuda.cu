// Depthwise convolution backward to the filter.
//
//   filter_bar[u, v, c] = sum over n, p, q of x[n, row(p, u), column(q, v), c] * y_bar[n, p, q, c]
//
// [N, H, W, C], [N, P, Q, C] -> [R, S, C], by way of float32 partial sums [slices, R, S, C]
//
// A block owns a group of channels and a slice: a fixed part of the flat list of (image, phase,
// strip of kTile columns, row). Its workers go down neighbouring strips side by side, so that the
// columns they share come from L1, or, where strips are few, take equal parts of the list.
// `wgrad_sweep` is depthwise_sweep.cuh with filter and output in each other's place: a thread has
// the sums of all taps of kCount channels in registers, and the rows of y_bar that the present row
// of x meets, so that both are loaded once. `wgrad_wide` has up to eight taps of one filter row.
// The workers of a block are added in order, then `sum_slices` adds the slices in order. What lies
// outside of y_bar is skipped rather than multiplied by 0: x may hold infinities there.
//
// Bytes: x and y_bar once (7x7: 411 MB at N 128, 56x56, C 256, bf16: 96 us at 4.3 TB/s; 1x4 causal,
// T 8192, C 4096: 31 us a batch element), and the partial sums twice (at most 16 MiB, in L2).
// Multiply-adds: R * S an element of y_bar (that 7x7: 170 us at 29.6 T a second).

#include <utility>

#include "conv/depthwise_wgrad.cuh"
#include "conv/depthwise_wgrad_wide.cuh"
#include "conv/sum_slices.cuh"

namespace jaxdirect::conv {
namespace depthwise {
namespace {

template <typename T, int kRows, int kColumns, int kStride, int kCount, int kTile, int kUnroll,
          int kDepth, int kMinBlocks>
__global__ void __launch_bounds__(kThreads, kMinBlocks) wgrad_sweep(const WgradArgs args) {
  constexpr int kLive = (kRows + kStride - 1) / kStride;  // rows of y_bar that one row of x meets
  constexpr int kWidth = (kTile - 1) * kStride + kColumns;
  static_assert(kUnroll % kDepth == 0);
  const Axis& rows = args.problem.rows;
  const Axis& columns = args.problem.columns;
  const Place place = find_place<kCount>(args.lanes, args.problem.channels);
  float sums[kRows][kColumns][kCount] = {};

  const int run_of_slice = place.worker / args.side;
  int64_t step = args.start(place.block, run_of_slice);
  const int64_t stop = place.active ? args.start(place.block, run_of_slice + 1) : step;
  while (step < stop) {
    int64_t unit = step;
    const int begin = take(&unit, rows.outs(0));
    const int64_t run = std::min<int64_t>(stop - step, rows.outs(0) - begin);
    step += run;
    unit = unit * args.side + place.worker % args.side;
    if (unit >= args.units) continue;
    const int first = take(&unit, args.strips) * kTile;
    const int column_phase = take(&unit, columns.phases);
    const int row_phase = take(&unit, rows.phases);
    const int count = min(kTile, columns.outs(column_phase) - first);
    const int end = min(begin + static_cast<int>(run), rows.outs(row_phase));
    if (count <= 0 || begin >= end) continue;

    const int column0 = columns.origin(column_phase, first);
    const int row0 = rows.origin(row_phase, 0);
    const int last = end + kLive - 1;  // of the steps of kStride rows of x and one of y_bar
    const int64_t x_column = columns.step * columns.in_pitch;
    const int64_t x_row = rows.step * rows.in_pitch;
    const int64_t y_column = columns.phases * columns.out_pitch;
    const int64_t y_row = rows.phases * rows.out_pitch;
    const T* x = static_cast<const T*>(args.problem.in) + unit * args.problem.in_image +
                 (row0 + int64_t{rows.step} * kStride * begin) * rows.in_pitch +
                 column0 * columns.in_pitch + place.channel;
    const T* y = static_cast<const T*>(args.problem.out) + unit * args.problem.out_image +
                 row_phase * rows.out_pitch + begin * y_row + column_phase * columns.out_pitch +
                 first * y_column + place.channel;
    uint32_t inside = 0;
#pragma unroll
    for (int m = 0; m < kWidth; ++m) {
      inside |= uint32_t{columns.holds(column0 + m * columns.step)} << m;
    }

    Packed<T, kCount> next_x[kStride * kDepth][kWidth];  // columns outside of the image stay 0
    Packed<T, kCount> next_y[kDepth][kTile];
    // Calls of both go from row to row.
    const auto fetch_x = [&](Packed<T, kCount>(&to)[kWidth], int t) {
      if (t < kStride * last && rows.holds(row0 + rows.step * t)) {
        const T* here = x;
        if (inside == (uint32_t{1} << kWidth) - 1) {
#pragma unroll
          for (int m = 0; m < kWidth; ++m, here += x_column) to[m].load(here);
        } else {
          const uint32_t bits = pin(inside);
#pragma unroll
          for (int m = 0; m < kWidth; ++m, here += x_column) {
            if (bits >> m & 1) to[m].load(here);
          }
        }
      }
      x += x_row;
    };
    const auto fetch_y = [&](Packed<T, kCount>(&to)[kTile], int i) {
      if (i >= end) return;
      const T* here = y;
#pragma unroll
      for (int j = 0; j < kTile; ++j, here += y_column) {
        if (j < count) to[j].load(here);
      }
      y += y_row;
    };
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
#pragma unroll
      for (int j = 0; j < kTile; ++j) next_y[d][j].clear();
      fetch_y(next_y[d], begin + d);
#pragma unroll
      for (int r = 0; r < kStride; ++r) {
        const int a = d * kStride + r;
#pragma unroll
        for (int m = 0; m < kWidth; ++m) next_x[a][m].clear();
        fetch_x(next_x[a], kStride * begin + a);
      }
    }

    // Before step i, near[k] is row i - (kLive - 1) + k of y_bar; the b-th step of a run of
    // unrolled steps finds that in near[b + k].
    float near[kLive + kUnroll - 1][kTile][kCount] = {};
    const auto take_step = [&](auto step_of, auto guarded_of, int i) {
      constexpr int kStep = decltype(step_of)::value;
      constexpr bool kGuarded = decltype(guarded_of)::value;
      constexpr int kSlot = kStep % kDepth;
      constexpr int kRefill = kGuarded ? kDepth - 1 : kSlot;  // a guarded step moves all up
#pragma unroll
      for (int j = 0; j < kTile; ++j) widen(next_y[kSlot][j], near[kLive - 1 + kStep][j]);
      if constexpr (kGuarded) {
#pragma unroll
        for (int d = 0; d + 1 < kDepth; ++d) {
#pragma unroll
          for (int j = 0; j < kTile; ++j) next_y[d][j] = next_y[d + 1][j];
        }
      }
      fetch_y(next_y[kRefill], i + kDepth);
#pragma unroll
      for (int r = 0; r < kStride; ++r) {
        const int t = kStride * i + r;
        float values[kWidth][kCount];
#pragma unroll
        for (int m = 0; m < kWidth; ++m) widen(next_x[kSlot * kStride + r][m], values[m]);
        if constexpr (kGuarded) {
#pragma unroll
          for (int d = 0; d + 1 < kDepth; ++d) {
#pragma unroll
            for (int m = 0; m < kWidth; ++m) {
              next_x[d * kStride + r][m] = next_x[(d + 1) * kStride + r][m];
            }
          }
        }
        fetch_x(next_x[kRefill * kStride + r], t + kStride * kDepth);
        if (!rows.holds(row0 + rows.step * t)) continue;
#pragma unroll
        for (int k = 0; k < kLive; ++k) {
          const int u = kStride * (kLive - 1 - k) + r;
          if (u >= kRows) continue;
          const int row = i - (kLive - 1) + k;
          if (kGuarded && (row < begin || row >= end)) continue;
#pragma unroll
          for (int j = 0; j < kTile; ++j) {
            if (kGuarded && j >= count) continue;
#pragma unroll
            for (int v = 0; v < kColumns; ++v) {
#pragma unroll
              for (int c = 0; c < kCount; ++c) {
                sums[u][v][c] =
                    fmaf(values[j * kStride + v][c], near[kStep + k][j][c], sums[u][v][c]);
              }
            }
          }
        }
      }
    };
    const auto move_up = [&](int by) {
#pragma unroll
      for (int k = 0; k + 1 < kLive; ++k) {
#pragma unroll
        for (int j = 0; j < kTile; ++j) {
#pragma unroll
          for (int c = 0; c < kCount; ++c) near[k][j][c] = near[k + by][j][c];
        }
      }
    };
    // Whole strips between the first and the last rows need no guard.
    const int free_from = count == kTile ? begin + kLive - 1 : last;
    for (int i = begin; i < last; ++i) {
      if (i >= free_from) {
#pragma unroll 1
        for (; i + kUnroll <= end; i += kUnroll) {
          each_step<kUnroll>([&](auto b) { take_step(b, std::false_type{}, i + b); });
          move_up(kUnroll);
        }
        if (i >= last) break;
      }
      take_step(std::integral_constant<int, 0>{}, std::true_type{}, i);
      move_up(1);
    }
  }

  float* to = args.partials + place.block * args.partial_size;
#pragma unroll
  for (int u = 0; u < kRows; ++u) {
    add_workers<kColumns, kCount>(args, sums[u], kColumns, to + u * rows.tap_pitch);
  }
}

template <typename T, int kRows, int kColumns, int kStride, int kCount, int kTile, int kUnroll,
          int kDepth, int kMinBlocks>
Status launch_wgrad_sweep(cudaStream_t stream, WgradArgs args) {
  args.lanes = make_lanes(args.problem.channels, kCount);
  args.strips = static_cast<int>(ceil_div(args.problem.columns.outs(0), kTile));
  args.units =
      args.problem.batch * args.problem.rows.phases * args.problem.columns.phases * args.strips;
  const int workers = args.lanes.workers();
  args.side = kTile > 1 && args.units >= 8 * workers ? workers : 1;
  args.steps = ceil_div(args.units, args.side) * args.problem.rows.outs(0);
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(make_grid(args.slices * args.lanes.groups, &grid));
  wgrad_sweep<T, kRows, kColumns, kStride, kCount, kTile, kUnroll, kDepth, kMinBlocks>
      <<<grid, kThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

using Launch = Status (*)(cudaStream_t, WgradArgs);

struct Kernel {
  int rows, columns, ratio, count;  // taps, reduced stride, channels of a thread
  Launch launch;
};

template <typename T>
Status choose(cudaStream_t stream, WgradArgs args) {
  constexpr int kHalf = 8 / sizeof(T);
  constexpr int kFull = 16 / sizeof(T);
  // Taps, reduced stride, channels and columns of a thread, steps unrolled, steps ahead, blocks a
  // processor.
  static constexpr Kernel kKernels[] = {
      {3, 1, 1, kFull, launch_wgrad_sweep<T, 3, 1, 1, kFull, 1, 3, 3, 4>},
      {3, 1, 2, kFull, launch_wgrad_sweep<T, 3, 1, 2, kFull, 1, 2, 2, 4>},
      {4, 1, 1, kFull, launch_wgrad_sweep<T, 4, 1, 1, kFull, 1, 4, 4, 3>},
      {4, 1, 2, kFull, launch_wgrad_sweep<T, 4, 1, 2, kFull, 1, 2, 2, 4>},
      {3, 3, 1, kHalf, launch_wgrad_sweep<T, 3, 3, 1, kHalf, 4, 3, 1, 3>},
      {3, 3, 2, kHalf, launch_wgrad_sweep<T, 3, 3, 2, kHalf, 4, 2, 1, 2>},
      {5, 5, 1, 2, launch_wgrad_sweep<T, 5, 5, 1, 2, 4, 5, 1, 3>},
      {5, 5, 2, 2, launch_wgrad_sweep<T, 5, 5, 2, 2, 4, 1, 1, 2>},
      {7, 7, 1, 2, launch_wgrad_sweep<T, 7, 7, 1, 2, 4, 1, 1, 2>},
      {7, 7, 2, 2, launch_wgrad_sweep<T, 7, 7, 2, 2, 4, 1, 1, 2>},
  };
  // A filter of one row runs down the columns.
  if (args.problem.rows.taps == 1) std::swap(args.problem.rows, args.problem.columns);
  const Axis& rows = args.problem.rows;
  const Axis& columns = args.problem.columns;
  const auto fits = [&](int count) {
    return takes_vectors(args.problem.channels, count, sizeof(T),
                         {args.problem.in, args.problem.out});
  };
  for (const Kernel& kernel : kKernels) {
    if (rows.taps == kernel.rows && columns.taps == kernel.columns && rows.ratio == kernel.ratio &&
        (columns.ratio == kernel.ratio || kernel.columns == 1) && fits(kernel.count)) {
      return kernel.launch(stream, args);
    }
  }
  if (columns.taps == 1) std::swap(args.problem.rows, args.problem.columns);
  if (columns.ratio == 1) {
    return fits(2) ? launch_wgrad_wide<T, 2, 8>(stream, args)
                   : launch_wgrad_wide<T, 1, 8>(stream, args);
  }
  return fits(2) ? launch_wgrad_wide<T, 2, 1>(stream, args)
                 : launch_wgrad_wide<T, 1, 1>(stream, args);
}

template <typename T>
Status run(cudaStream_t stream, const WgradArgs& args, void* filter) {
  JAXDIRECT_RETURN_IF_ERROR(choose<T>(stream, args));
  return sum_slices<T>(stream, args.partials, args.slices, args.partial_size, filter);
}

}  // namespace
}  // namespace depthwise

Status depthwise_wgrad(cudaStream_t stream, const Args& args) {
  using namespace depthwise;  // NOLINT
  const Shape& shape = args.shape;
  WgradArgs wgrad{};
  JAXDIRECT_RETURN_IF_ERROR(make_problem(shape, &wgrad.problem));
  const int64_t bytes = depthwise_wgrad_workspace_bytes(shape);
  if (args.workspace_bytes < bytes) {
    return Status::error(kOp, ": the workspace of a depthwise wgrad must have ", bytes,
                         " bytes, got ", args.workspace_bytes);
  }
  wgrad.problem.in = args.x;
  wgrad.problem.out = args.y;
  wgrad.slices = depthwise_wgrad_slices(shape);
  wgrad.partials = static_cast<float*>(args.workspace);
  wgrad.partial_size = shape.filter_size();
  return with_type(args.type,
                   [&](auto zero) { return run<decltype(zero)>(stream, wgrad, args.filter); });
}

}  // namespace jaxdirect::conv
