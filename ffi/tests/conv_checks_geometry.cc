#include "conv_checks.h"

namespace jaxdirect::conv::checks {
namespace {

constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kBF16, FloatType::kF16};

struct Spatial {
  int64_t size, taps, stride = 1, low = 0, high = 0, dilation = 1;

  int64_t out() const {
    const int64_t span = size + low + high - (taps - 1) * dilation - 1;
    return span < 0 ? 0 : span / stride + 1;
  }
};

Shape shape_of(int64_t batch, const Spatial& h, const Spatial& w, int64_t channels,
               int64_t out_channels, int64_t groups = 1) {
  Shape shape;
  shape.batch = batch;
  shape.height = h.size;
  shape.width = w.size;
  shape.channels = channels;
  shape.out_height = h.out();
  shape.out_width = w.out();
  shape.out_channels = out_channels;
  shape.filter_height = h.taps;
  shape.filter_width = w.taps;
  shape.stride_h = h.stride;
  shape.stride_w = w.stride;
  shape.pad_h = h.low;
  shape.pad_w = w.low;
  shape.dilation_h = h.dilation;
  shape.dilation_w = w.dilation;
  shape.groups = groups;
  return shape;
}

int64_t one_of(const std::vector<int64_t>& values) {
  return values[uniform(0, static_cast<int64_t>(values.size()) - 1)];
}

Spatial random_axis(int64_t most) {
  Spatial axis = {uniform(1, most), uniform(1, 5)};
  axis.stride = one_of({1, 1, 1, 2, 3, 4});
  axis.dilation = one_of({1, 1, 1, 2, 3});
  axis.low = uniform(-2, 4);
  axis.high = uniform(-2, 4);
  return axis;
}

}  // namespace

Shape square_shape(int64_t batch, int64_t side, int64_t channels, int64_t out_channels,
                   int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  const Spatial axis = {side, taps, stride, pad, pad, dilation};
  return shape_of(batch, axis, axis, channels, out_channels);
}

ConvCase random_case() {
  const int64_t groups = one_of({1, 1, 1, 2, 3});
  ConvCase is;
  is.shape = shape_of(uniform(1, 3), random_axis(9), random_axis(19),
                      groups * one_of({1, 2, 3, 4, 7, 16, 19}),
                      groups * one_of({1, 2, 3, 5, 8, 16, 17, 33}), groups);
  if (uniform(0, 4) == 0) {
    is.shape.groups = is.shape.channels = one_of({4, 5, 16, 21, 40});
    is.shape.out_channels = is.shape.channels * one_of({1, 1, 2, 3});
  }
  is.precision = uniform(0, 1) == 0 ? Precision::kDefault : Precision::kHighest;
  return is;
}

void check_geometries(Launcher& launcher, bool quick) {
  for (int i = 0; i < (quick ? 12 : 120); ++i) {
    check_case(launcher, kTypes[i % 3], random_case());
  }
  const Shape shapes[] = {
      // Nothing: images, windows, channels, filters.
      shape_of(0, {5, 3}, {5, 3}, 3, 4),
      shape_of(2, {5, 7}, {5, 3}, 3, 4),
      shape_of(2, {5, 3}, {5, 3}, 0, 4),
      shape_of(2, {5, 3}, {5, 3}, 3, 0),
      shape_of(2, {0, 3, 1, 2, 2}, {5, 3}, 3, 4),
      shape_of(2, {5, 0}, {5, 3}, 3, 4),
      // Windows wholly outside of the image, and windows that leave much of it out.
      shape_of(1, {3, 2, 1, 6, 6}, {4, 3, 2, 7, 5}, 5, 6),
      shape_of(2, {17, 2, 7, 1, 1}, {23, 3, 9, -3, 4}, 4, 20),
      // Pixels as windows.
      shape_of(2, {7, 1}, {9, 1}, 40, 50),
      shape_of(2, {7, 1, 2}, {9, 1, 3}, 20, 70),
      shape_of(1, {7, 1, 1, -2, -1}, {9, 1, 1, -1, -3}, 350, 20),
      // Stems, and their gradients.
      shape_of(1, {23, 11, 4}, {27, 11, 4}, 3, 24),
      shape_of(2, {16, 7, 2, 3, 3}, {19, 7, 2, 3, 3}, 3, 18),
      shape_of(1, {16, 8, 8}, {24, 8, 8}, 3, 20),
      // Stems as kernels of a GPU take them, of 1 to 8 channels: tiles that images do not fill,
      // columns that channels do not, rows in parts, windows past either end and far outside.
      shape_of(2, {13, 5, 1, 2, 2}, {21, 5, 1, 2, 2}, 1, 32),
      shape_of(2, {13, 5, 1, 2, 2}, {21, 5, 1, 2, 2}, 2, 40),
      shape_of(2, {17, 3, 1, 1, 1}, {19, 3, 1, 1, 1}, 3, 64),
      shape_of(1, {43, 11, 4}, {51, 11, 4, 2, 3}, 3, 96),
      shape_of(2, {19, 7, 2, 3, 2}, {37, 7, 2, 3, 3}, 3, 8),
      shape_of(1, {19, 7, 2, 3, 2}, {37, 7, 2, 3, 3}, 3, 200),
      shape_of(1, {15, 7, 2, 3, 3}, {25, 7, 2, 3, 3}, 4, 64),
      shape_of(1, {20, 3, 1, 1, 2}, {31, 5, 2, 2, 1}, 5, 24),
      shape_of(2, {18, 3, 2, 1, 1}, {18, 3, 1, 1, 1}, 6, 72),
      shape_of(1, {30, 4, 3}, {29, 2, 3}, 7, 16),
      shape_of(1, {11, 3, 1, 1, 1}, {23, 5, 1, 1, 1}, 8, 104),
      shape_of(1, {32, 16, 8}, {40, 16, 8}, 3, 64),
      shape_of(1, {14, 3, 1, -2, -1}, {26, 3, 1, -3, -5}, 3, 64),
      shape_of(1, {8, 3, 1, 9, 9}, {8, 3, 1, 9, 9}, 3, 64),
      shape_of(1, {6, 3, 1, 20, 2}, {9, 5, 1, 60, 41}, 3, 64),
      shape_of(1, {9, 11, 4, 7, 9}, {30, 11, 4, 70, 50}, 3, 96),
      // Rows of more than one segment, whose ends fall into any of them.
      shape_of(1, {12, 7, 2, 3, 3}, {131, 7, 2, 3, 3}, 3, 64),
      shape_of(1, {9, 3, 1, 1, 1}, {97, 3, 1, 1, 1}, 5, 64),
      shape_of(2, {1, 1}, {299, 9, 2, 4, 4}, 2, 64),
      shape_of(9, {9, 3, 1, 1, 1}, {9, 3, 1, 1, 1}, 3, 64),
      // Many channels: several parts of the depth, panels and tiles.
      shape_of(2, {4, 3, 1, 1, 1}, {5, 3, 1, 1, 1}, 150, 100),
      shape_of(8, {3, 3, 1, 1, 1}, {3, 3, 1, 1, 1}, 40, 104),
      // One row that is cut, and many rows.
      shape_of(1, {5, 5}, {1999, 3, 1, 1, 1}, 24, 3),
      shape_of(1, {1, 1}, {700, 4, 1, 3, 0}, 32, 32, 32),
      shape_of(40, {6, 3, 1, 1, 1}, {5, 3, 1, 1, 1}, 6, 9),
      // Two tiles of 128 windows and channels, with tails: of odd numbers, and of whole 16 bytes.
      shape_of(2, {11, 3, 2, 1, 1}, {27, 4, 1, 2, 2}, 7, 131),
      shape_of(2, {9, 3}, {30, 3, 2}, 12, 132),
      // Dilation with strides.
      shape_of(1, {21, 3, 2, 2, 3, 4}, {25, 3, 3, 1, 2, 6}, 5, 7),
      shape_of(2, {12, 4, 4, 0, 0, 2}, {14, 5, 3, 4, 4, 3}, 33, 17, 1),
      // Channels of whole 16 bytes, as dense kernels of a GPU take them: tails of every kind.
      shape_of(2, {9, 3, 1, 1, 1}, {13, 3, 1, 1, 1}, 64, 72),
      shape_of(1, {11, 5, 2, 2, 2}, {14, 5, 2, 2, 2}, 40, 64),
      shape_of(5, {5, 3}, {5, 3}, 72, 136),
      shape_of(1, {8, 3, 1, 2, 2, 2}, {30, 3, 1, 2, 2, 2}, 8, 16),
      shape_of(1, {9, 2, 3}, {10, 2, 3}, 16, 8),
      shape_of(3, {6, 1}, {7, 1}, 96, 24),
      shape_of(2, {9, 3, 1, 1, 1}, {13, 3, 1, 1, 1}, 12, 20),
      shape_of(3, {12, 2}, {21, 3}, 68, 60),
      shape_of(2, {13, 4, 2, 1, 1}, {15, 3, 2, 1, 1}, 4, 132),
      // Filters' gradients over small images, one pixel of several of them after the other: batches
      // that tiles do not fill, taps in groups, 96 channels at once, and hardly a pixel.
      shape_of(33, {5, 3}, {5, 3}, 96, 72),
      shape_of(20, {7, 3, 1, 1, 1}, {7, 3, 1, 1, 1}, 64, 64),
      shape_of(3, {8, 5, 1, 2, 2}, {8, 5, 1, 2, 2}, 96, 72),
      shape_of(16, {12, 7, 2, 3, 3}, {12, 7, 2, 3, 3}, 32, 40),
      shape_of(2, {4, 3, 1, 1, 1}, {4, 3, 1, 1, 1}, 96, 8),
      shape_of(11, {3, 3}, {3, 3}, 160, 96),
      shape_of(2, {1, 1}, {1, 1}, 8, 8),
      // Channel by channel.
      shape_of(2, {9, 7, 1, 3, 3}, {21, 7, 1, 3, 3}, 32, 32, 32),
      shape_of(2, {9, 3, 2, 1, 1}, {22, 5, 3, 2, 2}, 144, 144, 144),
      shape_of(1, {6, 3, 1, 2, 2, 2}, {9, 3, 1, 2, 2, 2}, 20, 60, 20),
      shape_of(1, {6, 3}, {9, 3}, 4, 48, 4),
      // Groups: of whole units of a GPU's copies and of parts of one, alone in a block and side by
      // side, more than a block holds and fewer; other results than inputs.
      shape_of(2, {9, 3, 1, 1, 1}, {13, 3, 1, 1, 1}, 32, 32, 8),
      shape_of(2, {13, 3, 2, 1, 1}, {18, 3, 2, 1, 1}, 64, 64, 8),
      shape_of(3, {7, 3, 1, 1, 1}, {9, 3, 1, 1, 1}, 160, 160, 10),
      shape_of(1, {8, 3, 1, 1, 1}, {11, 3, 1, 1, 1}, 72, 72, 3),
      shape_of(1, {8, 3, 1, 1, 1}, {10, 3, 1, 1, 1}, 96, 96, 3),
      shape_of(1, {8, 3, 1, 1, 1}, {10, 3, 1, 1, 1}, 96, 96, 8),
      shape_of(1, {6, 3, 1, 1, 1}, {7, 3, 1, 1, 1}, 96, 96, 2),
      shape_of(1, {6, 3, 1, 1, 1}, {7, 3, 1, 1, 1}, 128, 128, 2),
      shape_of(2, {8, 3, 1, 1, 1}, {10, 3, 1, 1, 1}, 24, 24, 4),
      shape_of(2, {8, 3, 1, 1, 1}, {10, 2, 1, 1, 1}, 32, 96, 4),
      shape_of(2, {8, 2}, {10, 3}, 96, 32, 4),
      shape_of(2, {7, 3, 1, 1, 1}, {9, 3, 1, 1, 1}, 12, 12, 3),
      shape_of(2, {7, 3, 1, 1, 1}, {9, 3, 1, 1, 1}, 40, 40, 2),
      shape_of(2, {17, 3, 1, 2, 2, 2}, {19, 3, 2, 2, 2, 2}, 64, 64, 8),
      shape_of(1, {9, 1, 2}, {11, 1, 2}, 64, 128, 4),
      shape_of(1, {19, 7, 2, 3, 3}, {25, 5, 1, 2, 2}, 32, 32, 4),
      shape_of(2, {12, 3, 1, -1, -1}, {13, 3, 1, -1, -2}, 64, 64, 4),
      shape_of(1, {1, 3, 1, 1, 1}, {1, 3, 1, 1, 1}, 16, 16, 2),
      shape_of(1, {2, 1}, {300, 3, 1, 1, 1}, 32, 32, 4),
      shape_of(70, {5, 3, 1, 1, 1}, {5, 3, 1, 1, 1}, 64, 64, 4),
      shape_of(1, {11, 3, 3}, {13, 3, 3}, 64, 64, 8),
      shape_of(1, {6, 3, 1, 9, 9}, {6, 3, 1, 9, 9}, 32, 32, 4),
  };
  int turn = 0;
  for (const Shape& shape : shapes) {
    for (const FloatType type : kTypes) {
      if (quick && type != kTypes[turn % 3]) continue;
      check_case(launcher, type, {shape, Precision::kDefault});
      if (type == FloatType::kF32) check_case(launcher, type, {shape, Precision::kHighest});
    }
    ++turn;
  }
  // All bits of float32 values count; long sums.
  const Shape accurate = quick ? shape_of(1, {10, 3}, {12, 3}, 36, 68)
                               : shape_of(3, {34, 3}, {50, 3, 1, 1, 1}, 36, 68);
  for (const Values values : {Values::kNormal, Values::kPositive}) {
    for (const Precision precision : {Precision::kDefault, Precision::kHighest}) {
      check_case(launcher, FloatType::kF32, {accurate, precision, values});
    }
  }
  // So many windows that wgrad sums in splits.
  if (!quick) {
    check_case(launcher, FloatType::kF32, {shape_of(2, {64, 3, 1, 1, 1}, {66, 3}, 8, 16)});
    check_case(launcher, FloatType::kF32, {shape_of(2, {40, 3}, {66, 3}, 64, 64, 64)});
  }
}

}  // namespace jaxdirect::conv::checks
