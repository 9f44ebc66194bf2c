#include <cstddef>
#include <numeric>
#include <type_traits>

#include "conv/product.h"

namespace jaxdirect::conv {
namespace {

// The columns of the widest vector.
constexpr int64_t kLanes = 16;

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

template <typename Pointer>
Pointer advance(Pointer base, int64_t elements, FloatType type) {
  using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const std::byte,
                                  std::byte>;
  return static_cast<Byte*>(base) + elements * size_of(type);
}

struct Spatial {
  int64_t size, out_size, taps, stride, pad, dilation;
};

Spatial height_of(const Shape& s) {
  return {s.height, s.out_height, s.filter_height, s.stride_h, s.pad_h, s.dilation_h};
}
Spatial width_of(const Shape& s) {
  return {s.width, s.out_width, s.filter_width, s.stride_w, s.pad_w, s.dilation_w};
}

Axis fprop_axis(const Spatial& is) {
  Axis axis;
  axis.in_size = is.size;
  axis.out_size = axis.windows = is.out_size;
  axis.taps = axis.filter_size = is.taps;
  axis.stride = is.stride;
  axis.pad = is.pad;
  axis.dilation = is.dilation;
  return axis;
}

Axis dgrad_axis(const Spatial& is) {
  Axis axis;
  axis.in_size = is.out_size;
  axis.out_size = is.size;
  axis.filter_size = is.taps;
  axis.filter_step = -1;
  return axis;
}

// Position h of the result takes p = h + pad - u * dilation: taps in reverse order.
Axis dgrad_axis_of_stride_1(const Spatial& is) {
  Axis axis = dgrad_axis(is);
  axis.windows = is.size;
  axis.taps = is.taps;
  axis.dilation = is.dilation;
  axis.pad = (is.taps - 1) * is.dilation - is.pad;
  axis.filter_first = is.taps - 1;
  return axis;
}

// Without dilation: positions h + pad = stride * a + f take p = a - t with taps u = f + stride * t,
// all phases f from the same windows.
Axis dgrad_axis_of_all_phases(const Spatial& is) {
  Axis axis = dgrad_axis(is);
  const int64_t first = floor_div(is.pad, is.stride);
  axis.windows = is.size > 0 ? floor_div(is.size - 1 + is.pad, is.stride) - first + 1 : 0;
  axis.taps = ceil_div(is.taps, is.stride);
  axis.pad = axis.taps - 1 - first;
  axis.out_stride = axis.phases = is.stride;
  axis.out_offset = first * is.stride - is.pad;
  axis.filter_first = is.stride * (axis.taps - 1);
  axis.filter_phase = 1;
  axis.filter_step = -is.stride;
  return axis;
}

// Positions phase, phase + stride, ..: of the taps every (stride / gcd)th, from u0 on.
Axis dgrad_axis_of_phase(const Spatial& is, int64_t phase) {
  Axis axis = dgrad_axis(is);
  axis.windows = ceil_div(is.size - phase, is.stride);
  axis.out_stride = is.stride;
  axis.out_offset = phase;
  const int64_t divisor = std::gcd(is.dilation, is.stride);
  const int64_t step = is.stride / divisor;
  const auto meets = [&](int64_t u) { return (phase + is.pad - u * is.dilation) % is.stride == 0; };
  int64_t u0 = 0;
  while (u0 < std::min(step, is.taps) && !meets(u0)) ++u0;
  if (u0 >= std::min(step, is.taps)) return axis;
  axis.taps = (is.taps - 1 - u0) / step + 1;
  axis.dilation = is.dilation / divisor;
  axis.pad = (axis.taps - 1) * axis.dilation - (phase + is.pad - u0 * is.dilation) / is.stride;
  axis.filter_first = u0 + step * (axis.taps - 1);
  axis.filter_step = -step;
  return axis;
}

std::vector<Axis> dgrad_axes(const Spatial& is, bool join) {
  if (is.stride == 1) return {dgrad_axis_of_stride_1(is)};
  // The joint product has zeros among its filters: each phase as many taps as the longest.
  if (join && is.dilation == 1 && is.stride <= is.taps) return {dgrad_axis_of_all_phases(is)};
  std::vector<Axis> axes;
  for (int64_t phase = 0; phase < std::min(is.stride, is.size); ++phase) {
    const Axis axis = dgrad_axis_of_phase(is, phase);
    if (axis.taps > 0) axes.push_back(axis);
  }
  return axes;
}

// Positions that the axes' windows write.
int64_t covered(const std::vector<Axis>& axes) {
  int64_t count = 0;
  for (const Axis& axis : axes) {
    count += axis.phases > 1 ? axis.out_size : axis.windows;
  }
  return count;
}

// A window for `phases` results of an axis that had one for each.
Axis joined(const Axis& axis, int64_t phases) {
  Axis wide = axis;
  wide.windows = ceil_div(axis.windows, phases);
  wide.stride = wide.out_stride = phases;
  wide.stride *= axis.stride;
  wide.phases = phases;
  wide.taps = axis.taps + (phases - 1) * axis.stride;
  wide.filter_phase = -axis.stride * axis.filter_step;
  return wide;
}

bool can_join(const Axis& axis) {
  return axis.phases == 1 && axis.out_stride == 1 && axis.dilation == 1 && axis.taps > 0;
}

}  // namespace

Product fprop_product(const Args& args, int64_t group) {
  const Shape& shape = args.shape;
  Product product;
  product.type = args.type;
  product.batch = shape.batch;
  product.h = fprop_axis(height_of(shape));
  product.w = fprop_axis(width_of(shape));
  product.channels = shape.group_channels();
  product.image_pixel = shape.channels;
  product.image = advance<const void*>(args.x, group * product.channels, args.type);
  product.out_channels = shape.group_out_channels();
  product.result_pixel = shape.out_channels;
  product.result = advance<void*>(args.y, group * product.out_channels, args.type);
  product.filter = advance<const void*>(args.filter, group * product.out_channels, args.type);
  product.filter_in = shape.out_channels;
  product.filter_out = 1;
  product.filter_w = product.channels * product.filter_in;
  product.filter_h = shape.filter_width * product.filter_w;
  return product;
}

DgradProducts dgrad_products(const Args& args, int64_t group, bool join) {
  const Shape& shape = args.shape;
  Product product = fprop_product(args, group);
  product.channels = shape.group_out_channels();
  product.image_pixel = shape.out_channels;
  product.image = advance<const void*>(args.y, group * product.channels, args.type);
  product.out_channels = shape.group_channels();
  product.result_pixel = shape.channels;
  product.result = advance<void*>(args.x, group * product.out_channels, args.type);
  std::swap(product.filter_in, product.filter_out);
  join = join && product.out_channels < kLanes;
  const std::vector<Axis> axes_h = dgrad_axes(height_of(shape), join);
  const std::vector<Axis> axes_w = dgrad_axes(width_of(shape), join);
  DgradProducts result;
  result.cover_all = covered(axes_h) == shape.height && covered(axes_w) == shape.width;
  for (const Axis& h : axes_h) {
    for (const Axis& w : axes_w) {
      product.h = h;
      product.w = w;
      result.products.push_back(product);
    }
  }
  return result;
}

void fill_vectors(Product* product) {
  const int64_t channels = product->out_channels;
  if (channels == 0 || channels > kLanes / 2) return;
  const int64_t most_h = can_join(product->h) ? kLanes : 1;
  const int64_t most_w = can_join(product->w) ? kLanes : 1;
  double best = 0;
  int64_t best_h = 1, best_w = 1;
  for (int64_t h = 1; h <= most_h; ++h) {
    for (int64_t w = 1; w <= most_w && h * w * channels <= 2 * kLanes; ++w) {
      const double useful = static_cast<double>(h * w * channels * product->h.taps) *
                            static_cast<double>(product->w.taps);
      const int64_t taps = (product->h.taps + (h - 1) * product->h.stride) *
                           (product->w.taps + (w - 1) * product->w.stride);
      const int64_t lanes = round_up(h * w * product->phases() * channels, kLanes);
      const double share = useful / static_cast<double>(taps * lanes);
      if (share > 1.1 * best) {
        best = share;
        best_h = h;
        best_w = w;
      }
    }
  }
  if (best_h > 1) product->h = joined(product->h, best_h);
  if (best_w > 1) product->w = joined(product->w, best_w);
}

}  // namespace jaxdirect::conv
