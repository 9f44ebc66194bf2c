#pragma once

// fprop and dgrad on a CPU, as products of windows and filters: what a window reads, what it
// writes, and which filter tap belongs to it. One form serves all geometries.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/integers.h"
#include "conv/conv.h"

namespace jaxdirect::conv {

// Some taps of an axis: [begin, end).
struct Taps {
  int64_t begin = 0, end = 0;
  bool operator==(const Taps&) const = default;
};

// One spatial axis. Window i's tap j reads position i * stride - pad + j * dilation; `phases`
// neighbouring results belong to a window, from position i * out_stride + out_offset on.
struct Axis {
  int64_t in_size = 0;
  int64_t out_size = 0;
  int64_t windows = 0;
  int64_t taps = 0;
  int64_t stride = 1;
  int64_t pad = 0;
  int64_t dilation = 1;
  int64_t out_stride = 1;
  int64_t out_offset = 0;
  int64_t phases = 1;

  // Of phase f and tap j: filter_first + f * filter_phase + j * filter_step, or none.
  int64_t filter_size = 0;
  int64_t filter_first = 0;
  int64_t filter_phase = 0;
  int64_t filter_step = 1;

  // -1 for none.
  int64_t filter_tap(int64_t phase, int64_t tap) const {
    const int64_t at = filter_first + phase * filter_phase + tap * filter_step;
    return at >= 0 && at < filter_size ? at : -1;
  }

  // Window i's taps whose positions are inside of the image.
  Taps taps_inside(int64_t i) const {
    const int64_t first = i * stride - pad;
    const int64_t begin = first < 0 ? ceil_div(-first, dilation) : 0;
    const int64_t end = first < in_size ? ceil_div(in_size - first, dilation) : 0;
    return {std::min(begin, taps), std::clamp(end, std::min(begin, taps), taps)};
  }
};

// result[window, phases and out_channels] = sum over taps and channels of image * filter.
// Strides count elements.
struct Product {
  FloatType type = FloatType::kF32;
  int64_t batch = 0;
  Axis h, w;
  const void* image = nullptr;  // [batch, h.in_size, w.in_size], a pixel every image_pixel
  int64_t channels = 0;
  int64_t image_pixel = 0;
  void* result = nullptr;  // [batch, h.out_size, w.out_size], a pixel every result_pixel
  int64_t out_channels = 0;
  int64_t result_pixel = 0;
  const void* filter = nullptr;
  int64_t filter_h = 0, filter_w = 0, filter_in = 0, filter_out = 0;

  int64_t phases() const { return h.phases * w.phases; }
  int64_t columns() const { return phases() * out_channels; }
  int64_t taps() const { return h.taps * w.taps; }
  int64_t depth() const { return taps() * channels; }
  int64_t rows() const { return batch * h.windows; }
};

Product fprop_product(const Args& args, int64_t group);

struct DgradProducts {
  std::vector<Product> products;
  bool cover_all = false;  // else what they do not write is zero
};

// Each phase of a strided gradient is a product; with `join`, all of few channels are one.
DgradProducts dgrad_products(const Args& args, int64_t group, bool join);

// Gives windows more phases where a result has too few channels to fill vectors.
void fill_vectors(Product* product);

}  // namespace jaxdirect::conv
