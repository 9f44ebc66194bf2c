// The explicit form on a CPU: the pieces of the usual product, one after the other. The windows
// are put in order as for a band, but all of them and in memory; then each is a pixel of
// S * R * C channels, which overlaps the next, of a product without taps.

#include "conv/cpu.h"
#include "conv/explicit.h"

#define JAXDIRECT_TARGET_CODE "conv/explicit_target.h"
#include "common/each_target.h"

namespace jaxdirect::conv {
namespace {

Axis pixels(int64_t size, int64_t windows) {
  Axis axis;
  axis.in_size = size;
  axis.out_size = axis.windows = windows;
  axis.taps = axis.filter_size = 1;
  return axis;
}

// filter[u, v, c, k] to filter'[v, u, c, k].
void order_filter(const Shape& shape, const float* filter, float* to) {
  const int64_t tap = shape.channels * shape.out_channels;
  for (int64_t v = 0; v < shape.filter_width; ++v) {
    for (int64_t u = 0; u < shape.filter_height; ++u, to += tap) {
      std::copy_n(filter + (u * shape.filter_width + v) * tap, tap, to);
    }
  }
}

}  // namespace

Status run_explicit(Context context, const Args& args, const WindowArray& ordered,
                    Variant variant) {
  if (variant != Variant::kFull && variant != Variant::kNoProduct) {
    return Status::error("conv_general_dilated: im2win_explicit has its variants on a GPU alone");
  }
  const Shape& shape = args.shape;
  advise_huge_pages(args.workspace, args.workspace_bytes);
  advise_huge_pages(args.y, shape.y_size() * 4);
  auto* windows = static_cast<float*>(args.workspace);
  auto* filter = windows + ordered.filter_offset() / 4;
  Product product = fprop_product(args, 0);
  JAXDIRECT_FOR_THIS_CPU(order_windows(context, product, ordered.row_values(), windows));
  order_filter(shape, static_cast<const float*>(args.filter), filter);
  if (variant == Variant::kNoProduct) return Status::ok();
  product.h = pixels(shape.out_height, shape.out_height);
  product.w = pixels(ordered.columns() / std::max<int64_t>(ordered.step, 1), ordered.windows);
  product.image = windows;
  product.channels = ordered.depth();
  product.image_pixel = ordered.window_values();
  product.filter = filter;
  product.filter_h = product.filter_w = 0;
  multiply(context, product);
  return Status::ok();
}

}  // namespace jaxdirect::conv
