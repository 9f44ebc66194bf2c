#pragma once

// The checks of the conv kernels: fprop, dgrad and wgrad against one naive sum in float64.

#include <string>

#include "checks.h"
#include "conv/conv.h"
#include "conv/explicit.h"

namespace jaxdirect::conv::checks {

using namespace testing;

// Few bits, so that parts of a value are zeros; or all of them.
enum class Values { kShort, kNormal, kPositive };

struct ConvCase {
  Shape shape;
  Precision precision = Precision::kHighest;
  Values values = Values::kShort;
};

// Calls body(x index, filter index, y index) for every product of the convolution.
template <typename Body>
void for_each_term(const Shape& s, const Body& body) {
  const int64_t group_channels = s.group_channels();
  for (int64_t n = 0; n < s.batch; ++n) {
    for (int64_t p = 0; p < s.out_height; ++p) {
      for (int64_t q = 0; q < s.out_width; ++q) {
        for (int64_t u = 0; u < s.filter_height; ++u) {
          const int64_t h = p * s.stride_h - s.pad_h + u * s.dilation_h;
          if (h < 0 || h >= s.height) continue;
          for (int64_t v = 0; v < s.filter_width; ++v) {
            const int64_t w = q * s.stride_w - s.pad_w + v * s.dilation_w;
            if (w < 0 || w >= s.width) continue;
            for (int64_t c = 0; c < group_channels; ++c) {
              for (int64_t k = 0; k < s.out_channels; ++k) {
                const int64_t channel = k / s.group_out_channels() * group_channels + c;
                body(((n * s.height + h) * s.width + w) * s.channels + channel,
                     ((u * s.filter_width + v) * group_channels + c) * s.out_channels + k,
                     ((n * s.out_height + p) * s.out_width + q) * s.out_channels + k);
              }
            }
          }
        }
      }
    }
  }
}

std::string describe(const Shape& shape, FloatType type);

// A random geometry, small, of any kind that Shape allows.
ConvCase random_case();

// Runs the three passes.
void check_case(Launcher& launcher, FloatType type, const ConvCase& is);

// A convolution whose sides are alike.
Shape square_shape(int64_t batch, int64_t side, int64_t channels, int64_t out_channels,
                   int64_t taps, int64_t stride = 1, int64_t pad = 0, int64_t dilation = 1);

// Geometries that take every path of the kernels.
void check_geometries(Launcher& launcher, bool quick);

// What a GPU's kernels over halo tiles read, computed without one.
void check_halo_tilings(bool quick);

#ifdef JAXDIRECT_CUDA_MODULE
// Every kernel over halo tiles, whichever the planner prefers.
void check_halo_kernels(Launcher& launcher, bool quick);
#endif

}  // namespace jaxdirect::conv::checks
