#pragma once

// fprop and dgrad as convolutions over halo tiles; see halo.h.

#include <algorithm>
#include <numeric>
#include <vector>

#include "conv/conv.h"
#include "conv/halo.h"

namespace jaxdirect::conv {

inline HaloProblem fprop_problem(const Shape& s) {
  HaloProblem p;
  p.batch = static_cast<int>(s.batch);
  p.in_height = static_cast<int>(s.height);
  p.in_width = static_cast<int>(s.width);
  p.in_channels = static_cast<int>(s.channels);
  p.out_height = p.store_height = static_cast<int>(s.out_height);
  p.out_width = p.store_width = static_cast<int>(s.out_width);
  p.out_channels = static_cast<int>(s.out_channels);
  p.stride_h = static_cast<int>(s.stride_h);
  p.stride_w = static_cast<int>(s.stride_w);
  p.origin_h = static_cast<int>(-s.pad_h);
  p.origin_w = static_cast<int>(-s.pad_w);
  p.taps_h = static_cast<int>(s.filter_height);
  p.taps_w = static_cast<int>(s.filter_width);
  p.tap_step_h = static_cast<int>(s.dilation_h);
  p.tap_step_w = static_cast<int>(s.dilation_w);
  p.filter_taps = p.taps_h * p.taps_w;
  p.filter_step_h = p.taps_w;
  p.filter_step_w = 1;
  return p;
}

// One axis of a phase of dgrad: the rows a, a + stride, ... of x_bar. Tap u reaches them from the
// rows of y_bar at i + (a + pad - u * dilation) / stride, where that division leaves no rest.
struct PhaseAxis {
  int rows = 0;
  int origin = 0;  // row of y_bar of the first tap, for i = 0
  int taps = 0;
  int tap_step = 1;   // rows of y_bar between taps
  int first_tap = 0;  // the filter's, of tap 0; then every `filter_step`
  int filter_step = 0;
};

inline PhaseAxis phase_axis(int64_t a, int64_t extent, int64_t stride, int64_t pad,
                            int64_t dilation, int64_t filter) {
  PhaseAxis axis;
  axis.rows = static_cast<int>((extent - a + stride - 1) / stride);
  const int64_t period = stride / std::gcd(stride, dilation);
  axis.tap_step = static_cast<int>(dilation / std::gcd(stride, dilation));
  int64_t last = -1;
  for (int64_t u = 0; u < filter; ++u) {
    if ((a + pad - u * dilation) % stride != 0) continue;
    last = u;
    ++axis.taps;
  }
  if (axis.taps == 0) return axis;
  axis.first_tap = static_cast<int>(last);
  axis.filter_step = static_cast<int>(-period);
  axis.origin = static_cast<int>((a + pad - last * dilation) / stride);
  return axis;
}

// dgrad of a stride is one problem for each phase of x_bar's rows and columns.
inline std::vector<HaloProblem> dgrad_problems(const Shape& s) {
  // A phase that no tap reaches has one tap of zeros over zeros: both lie outside.
  constexpr int kOutside = -(1 << 28);
  std::vector<HaloProblem> problems;
  for (int64_t a = 0; a < std::min(s.stride_h, s.height); ++a) {
    for (int64_t b = 0; b < std::min(s.stride_w, s.width); ++b) {
      PhaseAxis h = phase_axis(a, s.height, s.stride_h, s.pad_h, s.dilation_h, s.filter_height);
      PhaseAxis w = phase_axis(b, s.width, s.stride_w, s.pad_w, s.dilation_w, s.filter_width);
      const bool reached = h.taps > 0 && w.taps > 0;
      HaloProblem p;
      p.batch = static_cast<int>(s.batch);
      p.in_height = static_cast<int>(s.out_height);
      p.in_width = static_cast<int>(s.out_width);
      p.in_channels = static_cast<int>(s.out_channels);
      p.out_height = h.rows;
      p.out_width = w.rows;
      p.out_channels = static_cast<int>(s.channels);
      p.origin_h = reached ? h.origin : kOutside;
      p.origin_w = reached ? w.origin : kOutside;
      p.taps_h = reached ? h.taps : 1;
      p.taps_w = reached ? w.taps : 1;
      p.tap_step_h = h.tap_step;
      p.tap_step_w = w.tap_step;
      p.filter_taps = static_cast<int>(s.filter_height * s.filter_width);
      p.filter_step_h = h.filter_step * static_cast<int>(s.filter_width);
      p.filter_step_w = w.filter_step;
      p.first_filter_tap =
          reached ? h.first_tap * static_cast<int>(s.filter_width) + w.first_tap : p.filter_taps;
      p.store_height = static_cast<int>(s.height);
      p.store_width = static_cast<int>(s.width);
      p.store_step_h = static_cast<int>(s.stride_h);
      p.store_step_w = static_cast<int>(s.stride_w);
      p.store_first_h = static_cast<int>(a);
      p.store_first_w = static_cast<int>(b);
      problems.push_back(p);
    }
  }
  return problems;
}

}  // namespace jaxdirect::conv
