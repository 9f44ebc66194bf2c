#pragma once

// Convolution with one filter a channel (Shape::is_depthwise), on a GPU; see conv.h.

#include <algorithm>

#include "conv/conv.h"

namespace jaxdirect::conv {

// How many partial filter gradients depthwise_wgrad adds up. From the shape alone, so that the
// sums are the same on every device: blocks for four on each of 132 processors (a block owns
// about 64 to 256 channels), at least 256 pixels a slice, at most 16 MiB in all.
inline int64_t depthwise_wgrad_slices(const Shape& shape) {
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t taps = shape.filter_height * shape.filter_width;
  const int64_t channels = std::max<int64_t>(shape.channels, 1);
  const int64_t block_channels = taps <= 4 ? 256 : taps <= 9 ? 128 : 64;
  const int64_t pixels = shape.batch * shape.out_height * shape.out_width;
  int64_t slices = std::min<int64_t>(ceil_div(528 * block_channels, channels), 2048);
  slices = std::min(slices, ceil_div(pixels, 256));
  slices = std::min(slices, (int64_t{16} << 20) / (4 * std::max<int64_t>(taps * channels, 1)));
  return std::max<int64_t>(slices, 1);
}

// Bytes of Args::workspace: float32 [slices, R, S, C].
inline int64_t depthwise_wgrad_workspace_bytes(const Shape& shape) {
  return 4 * depthwise_wgrad_slices(shape) * shape.filter_height * shape.filter_width *
         shape.channels;
}

Status depthwise_fprop(cudaStream_t stream, const Args& args);
Status depthwise_dgrad(cudaStream_t stream, const Args& args);
Status depthwise_wgrad(cudaStream_t stream, const Args& args);

}  // namespace jaxdirect::conv
