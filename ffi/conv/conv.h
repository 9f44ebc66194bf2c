#pragma once

// Convolution and its two gradients over images in NHWC and filters in HWIO.
//
//   y[n, p, q, k] = sum over u, v, c of x[n, h, w, g * C/G + c] * filter[u, v, c, k],
//     h = p * stride_h - pad_h + u * dilation_h,   g = k / (K/G),
//     w = q * stride_w - pad_w + v * dilation_w,   x outside of the image is 0.
//
// dgrad and wgrad are its transposes: x_bar from (y_bar, filter), filter_bar from (x, y_bar).

#include <cstdint>

#include "common/float_type.h"
#include "common/status.h"

#ifdef JAXDIRECT_CUDA_MODULE
#include <cuda_runtime_api.h>
#else
#include "common/parallel.h"
#endif

namespace jaxdirect::conv {

struct Shape {
  int64_t batch = 0;                                        // N
  int64_t height = 0, width = 0, channels = 0;              // H, W, C of x
  int64_t out_height = 0, out_width = 0, out_channels = 0;  // P, Q, K of y
  int64_t filter_height = 0, filter_width = 0;              // R, S
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_h = 0, pad_w = 0;  // low side; may be negative
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;  // G

  int64_t group_channels() const { return channels / groups; }
  int64_t group_out_channels() const { return out_channels / groups; }
  int64_t x_size() const { return batch * height * width * channels; }
  int64_t y_size() const { return batch * out_height * out_width * out_channels; }
  int64_t filter_size() const {
    return filter_height * filter_width * group_channels() * out_channels;
  }
};

enum class Precision : int64_t {
  kDefault = 0,  // float32 operands may be rounded to TF32
  kHighest = 1,  // float32 accuracy
};

// The operand that a launch writes is its result, the other two are read.
struct Args {
  Shape shape;
  FloatType type = FloatType::kF32;  // kF32, kBF16 or kF16, of all three
  Precision precision = Precision::kDefault;
  void* x = nullptr;          // [N, H, W, C]
  void* filter = nullptr;     // [R, S, C/G, K]
  void* y = nullptr;          // [N, P, Q, K]
  void* workspace = nullptr;  // wgrad's partial sums
  int64_t workspace_bytes = 0;
};

#ifdef JAXDIRECT_CUDA_MODULE
using Context = cudaStream_t;
#else
using Context = const Executor&;
#endif

Status fprop(Context context, const Args& args);
Status dgrad(Context context, const Args& args);
Status wgrad(Context context, const Args& args);

#ifndef JAXDIRECT_CUDA_MODULE
// What `Args::workspace` of wgrad must hold: on a CPU sums live in memory of the call.
inline int64_t wgrad_workspace_bytes(const Shape&, FloatType) { return 0; }
#endif

}  // namespace jaxdirect::conv
