#pragma once

// The paper's own form of Im2win (arXiv 2306.14316), in NHWC: the windows in order in memory,
//
//   ordered[n, p, m, u, c] = x[n, p * stride_h - pad_h + u, pixel(m) - pad_w, c],
//   y[n, p, q, k] = sum over v, u, c of ordered[n, p, q * step + v, u, c] * filter'[v, u, c, k],
//
// so that a window is one run of S * R * C values and neighbours share all but `step` columns;
// then a tiled product of these overlapping rows. It is forward only, for one group of float32
// without dilation, and here to be measured beside the kernels that order windows on the way.

#include <algorithm>

#include "common/integers.h"
#include "conv/conv.h"

namespace jaxdirect::conv {

// The array of ordered windows, [rows][columns][R][C].
struct WindowArray {
  explicit WindowArray(const Shape& s)
      : rows(s.batch * s.out_height),
        windows(s.out_width),
        taps(s.filter_width),
        stride(s.stride_w),
        step(std::min(s.stride_w, s.filter_width)),
        column(s.filter_height * s.channels) {}

  int64_t rows;     // N * P
  int64_t windows;  // of a row: Q
  int64_t taps;     // columns of a window: S
  int64_t stride;   // pixels from a window to the next
  int64_t step;     // columns from a window to the next: pixels between windows are left out
  int64_t column;   // values of a column: R * C

  int64_t depth() const { return taps * column; }
  int64_t window_values() const { return step * column; }  // from a window to the next
  // Whole steps, so that windows lie at multiples of window_values() in all rows.
  int64_t columns() const { return taps == 0 ? 0 : (windows - 1 + ceil_div(taps, step)) * step; }
  int64_t row_values() const { return columns() * column; }
  int64_t bytes() const { return rows * row_values() * 4; }
  int64_t filter_offset() const { return round_up(bytes(), 256); }  // of filter', behind them
};

// What is left out of the product, to see what it is worth; a CPU has all of it or none.
enum class Variant : int64_t {
  kFull,
  kNoPrefetch,
  kNoVectors,
  kNoMicroKernel,
  kNoDoubleBuffer,
  kBase,       // without all of these, and without tiles in shared memory
  kNoProduct,  // the windows alone: y is not written
};
inline constexpr int64_t kNumVariants = 7;

Plan plan_explicit(const Shape& shape, FloatType type);

// args.workspace holds the ordered windows and filter'.
Status explicit_fprop(Context context, const Args& args, Variant variant);

// The platform's part of it.
Status run_explicit(Context context, const Args& args, const WindowArray& ordered, Variant variant);

}  // namespace jaxdirect::conv
