// Depthwise convolution backward to x.
//
//   x_bar[n, h, w, c] = sum over u, v of y_bar[n, (h + pad_h - u * dilation_h) / stride_h, .., c] *
//                       filter[u, v, c], over the taps where the division leaves nothing
//
// [N, P, Q, C] (x) [R, S, C] -> [N, H, W, C]
//
// Stride 1: the forward kernels with the filter flipped. Stride 2 of 3x3, 5x5 and 7x7 filters:
// `sweep_stride_2` below. The rest: `gather`, which looks for the taps of each pixel.
// Bytes: y_bar once, x_bar once. Multiply-adds: R * S an element of y_bar.

#include "conv/depthwise.cuh"
#include "conv/depthwise_sweep.cuh"

namespace jaxdirect::conv {
namespace depthwise {
namespace {

constexpr int floor_half(int value) { return value >= 0 ? value / 2 : -((1 - value) / 2); }

// Here an axis has y_bar as its input and x_bar as its result, but stride and pad of the forward.
// Input i feeds the results `out` with out + pad = 2 * i + tap. A thread has kTile columns, from an
// even out + pad on, and runs down the rows of y_bar; the sums of the kTaps rows of x_bar that one
// of them feeds stay in registers. A step finishes two: those with out + pad = 2 * i and 2 * i + 1.
template <typename T, int kTaps, int kCount, int kTile, int kMinBlocks>
__global__ void __launch_bounds__(kThreads, kMinBlocks) sweep_stride_2(const SweepArgs args) {
  constexpr int kReach = (kTaps + 1) / 2;  // inputs that feed one result
  constexpr int kWidth = kTile / 2 + kReach - 1;
  const Axis& rows = args.problem.rows;
  const Axis& columns = args.problem.columns;

  const Place place = find_place<kCount>(args.lanes, args.problem.channels);
  int64_t unit = place.block * args.lanes.workers() + place.worker;
  if (!place.active || unit >= args.units) return;
  const int half = floor_half(columns.pad) + take(&unit, args.strips) * (kTile / 2);
  const int first = 2 * half - columns.pad;  // result column; may be -1
  const int begin = floor_half(rows.pad) + take(&unit, args.chunks) * args.chunk_rows;
  const int end = min(begin + args.chunk_rows, floor_half(rows.out - 1 + rows.pad) + 1);
  if (begin >= end) return;

  float taps[kTaps][kTaps][kCount];
  const T* filter = static_cast<const T*>(args.problem.filter) + place.channel;
#pragma unroll
  for (int u = 0; u < kTaps; ++u) {
#pragma unroll
    for (int v = 0; v < kTaps; ++v) {
      Packed<T, kCount> packed;
      packed.load(filter + u * rows.tap_pitch + v * columns.tap_pitch);
      widen(packed, taps[u][v]);
    }
  }

  // Step i reads row i of y_bar; there is none before step `low` and from step `high` on.
  const int start = begin - (kReach - 1);
  const int low = std::clamp(0, start, end);
  const int high = std::clamp(rows.in, low, end);
  const int column0 = half - (kReach - 1);
  const T* from = static_cast<const T*>(args.problem.in) + unit * args.problem.in_image +
                  low * rows.in_pitch + column0 * columns.in_pitch + place.channel;
  uint32_t inside = 0;
#pragma unroll
  for (int m = 0; m < kWidth; ++m) inside |= uint32_t{columns.holds(column0 + m)} << m;
  Packed<T, kCount> ahead[kWidth];  // columns outside of y_bar stay 0
#pragma unroll
  for (int m = 0; m < kWidth; ++m) ahead[m].clear();
  const auto fetch = [&](int i) {
    if (i >= high) return;
    const uint32_t bits = pin(inside);
    const T* here = from;
#pragma unroll
    for (int m = 0; m < kWidth; ++m, here += columns.in_pitch) {
      if (bits >> m & 1) ahead[m].load(here);
    }
    from += rows.in_pitch;
  };
  fetch(low);

  T* to = static_cast<T*>(args.problem.out) + unit * args.problem.out_image +
          (2 * begin - rows.pad) * rows.out_pitch + first * columns.out_pitch + place.channel;
  float sums[kTaps][kTile][kCount] = {};  // of the results with out + pad = 2 * i + k
  const auto finish_rows = [&](int i) {
    if (i < begin) return;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int row = 2 * i + k - rows.pad;
      T* here = to;
#pragma unroll
      for (int j = 0; j < kTile; ++j, here += columns.out_pitch) {
        if (row >= 0 && row < rows.out && first + j >= 0 && first + j < columns.out) {
          store<T, kCount>(here, sums[k][j]);
        }
      }
      to += rows.out_pitch;
    }
  };

  for (int i = start; i < low; ++i) finish_rows(i);
  for (int i = low; i < high; ++i) {
    float values[kWidth][kCount];
#pragma unroll
    for (int m = 0; m < kWidth; ++m) widen(ahead[m], values[m]);
    fetch(i + 1);
    // The first product of a sum also moves it on to its next place.
#pragma unroll
    for (int m = 0; m < kWidth; ++m) {
#pragma unroll
      for (int k = 0; k < kTaps; ++k) {
#pragma unroll
        for (int j = 0; j < kTile; ++j) {
          const int v = j - 2 * (m - (kReach - 1));
          if (v < 0 || v >= kTaps) continue;
#pragma unroll
          for (int c = 0; c < kCount; ++c) {
            const float before = v + 2 < kTaps   ? sums[k][j][c]
                                 : k + 2 < kTaps ? sums[k + 2][j][c]
                                                 : 0.0f;
            sums[k][j][c] = fmaf(values[m][c], taps[k][v][c], before);
          }
        }
      }
    }
    finish_rows(i);
  }
#pragma unroll 1
  for (int i = high; i < end; ++i) {
#pragma unroll
    for (int k = 0; k < kTaps; ++k) {
#pragma unroll
      for (int j = 0; j < kTile; ++j) {
#pragma unroll
        for (int c = 0; c < kCount; ++c) sums[k][j][c] = k + 2 < kTaps ? sums[k + 2][j][c] : 0.0f;
      }
    }
    finish_rows(i);
  }
}

template <typename T, int kTaps, int kCount, int kTile, int kMinBlocks>
Status launch_stride_2(cudaStream_t stream, const Problem& problem) {
  SweepArgs args{};
  args.problem = problem;
  args.lanes = make_lanes(problem.channels, kCount);
  const auto halves = [](const Axis& axis) {
    return floor_half(axis.out - 1 + axis.pad) - floor_half(axis.pad) + 1;
  };
  args.strips = static_cast<int>(ceil_div(halves(problem.columns), kTile / 2));
  args.units = problem.batch * args.strips;
  choose_chunks(&args, halves(problem.rows), (kTaps - 1) / 2, 132 * kThreads * kMinBlocks);
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(
      make_grid(ceil_div(args.units, args.lanes.workers()) * args.lanes.groups, &grid));
  sweep_stride_2<T, kTaps, kCount, kTile, kMinBlocks><<<grid, kThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

struct GatherArgs {
  Problem problem;
  Lanes lanes;
  int row_dilation, column_dilation;
  int64_t units;  // results
};

template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads) gather(const GatherArgs args) {
  const Axis& rows = args.problem.rows;
  const Axis& columns = args.problem.columns;
  const Place place = find_place<kCount>(args.lanes, args.problem.channels);
  int64_t unit = place.block * args.lanes.workers() + place.worker;
  if (!place.active || unit >= args.units) return;
  const int w = take(&unit, columns.out);
  const int h = take(&unit, rows.out);
  const T* in = static_cast<const T*>(args.problem.in) + unit * args.problem.in_image;
  const T* filter = static_cast<const T*>(args.problem.filter) + place.channel;
  float sums[kCount] = {};
  for (int u = 0; u < rows.taps; ++u) {
    const int row = h + rows.pad - u * args.row_dilation;
    if (row < 0) break;
    if (row % rows.stride != 0 || row / rows.stride >= rows.in) continue;
    const T* from = in + row / rows.stride * rows.in_pitch + place.channel;
    for (int v = 0; v < columns.taps; ++v) {
      const int column = w + columns.pad - v * args.column_dilation;
      if (column < 0) break;
      if (column % columns.stride != 0 || column / columns.stride >= columns.in) continue;
      Packed<T, kCount> value, tap;
      value.load(from + column / columns.stride * columns.in_pitch);
      tap.load(filter + u * rows.tap_pitch + v * columns.tap_pitch);
#pragma unroll
      for (int c = 0; c < kCount; ++c) sums[c] = fmaf(value[c], tap[c], sums[c]);
    }
  }
  T* out = static_cast<T*>(args.problem.out) + unit * args.problem.out_image + h * rows.out_pitch +
           w * columns.out_pitch + place.channel;
  store<T, kCount>(out, sums);
}

template <typename T, int kCount>
Status launch_gather(cudaStream_t stream, const Problem& problem, const Shape& shape) {
  GatherArgs args{};
  args.problem = problem;
  args.lanes = make_lanes(problem.channels, kCount);
  args.row_dilation = static_cast<int>(shape.dilation_h);
  args.column_dilation = static_cast<int>(shape.dilation_w);
  args.units = problem.batch * problem.rows.out * problem.columns.out;
  dim3 grid;
  JAXDIRECT_RETURN_IF_ERROR(
      make_grid(ceil_div(args.units, args.lanes.workers()) * args.lanes.groups, &grid));
  gather<T, kCount><<<grid, kThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

// The forward's axis the other way round.
void turn(Axis* axis) {
  std::swap(axis->in, axis->out);
  std::swap(axis->in_pitch, axis->out_pitch);
}

// The same as a forward axis of stride 1, whose filter is flipped.
void flip(Axis* axis, int64_t dilation, int64_t* first_tap) {
  const Axis turned = *axis;
  *axis = make_axis(turned.in, turned.out, turned.taps, 1,
                    (turned.taps - 1) * dilation - turned.pad, dilation);
  axis->in_pitch = turned.in_pitch;
  axis->out_pitch = turned.out_pitch;
  axis->tap_pitch = -turned.tap_pitch;
  *first_tap += (turned.taps - 1) * turned.tap_pitch;
}

template <typename T>
Status choose_strided(cudaStream_t stream, const Problem& problem, const Shape& shape) {
  const auto fits = [&](int count) {
    return takes_vectors(problem.channels, count, sizeof(T),
                         {problem.in, problem.filter, problem.out});
  };
  constexpr int kHalf = 8 / sizeof(T);
  if (shape.stride_h == 2 && shape.stride_w == 2 && shape.dilation_h == 1 &&
      shape.dilation_w == 1 && shape.filter_height == shape.filter_width) {
    if (shape.filter_height == 3 && fits(kHalf)) {
      return launch_stride_2<T, 3, kHalf, 4, 3>(stream, problem);
    }
    if (shape.filter_height == 5 && fits(2)) {
      return launch_stride_2<T, 5, 2, 4, 3>(stream, problem);
    }
    if (shape.filter_height == 7 && fits(2)) {
      return launch_stride_2<T, 7, 2, 4, 2>(stream, problem);
    }
  }
  return fits(2) ? launch_gather<T, 2>(stream, problem, shape)
                 : launch_gather<T, 1>(stream, problem, shape);
}

}  // namespace
}  // namespace depthwise

Status depthwise_dgrad(cudaStream_t stream, const Args& args) {
  using namespace depthwise;  // NOLINT
  const Shape& shape = args.shape;
  Problem problem{};
  JAXDIRECT_RETURN_IF_ERROR(make_problem(shape, &problem));
  if (shape.x_size() == 0) return Status::ok();
  turn(&problem.rows);
  turn(&problem.columns);
  std::swap(problem.in_image, problem.out_image);
  problem.in = args.y;
  problem.filter = args.filter;
  problem.out = args.x;
  if (shape.stride_h == 1 && shape.stride_w == 1) {
    int64_t first_tap = 0;
    flip(&problem.rows, shape.dilation_h, &first_tap);
    flip(&problem.columns, shape.dilation_w, &first_tap);
    problem.filter = static_cast<const char*>(args.filter) + first_tap * size_of(args.type);
    return correlate(stream, args.type, problem);
  }
  return with_type(
      args.type, [&](auto zero) { return choose_strided<decltype(zero)>(stream, problem, shape); });
}

}  // namespace jaxdirect::conv
