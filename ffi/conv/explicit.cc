#include "conv/explicit.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";

// Places within a row are 32-bit in the kernels, and bytes of all rows must not overflow.
bool is_covered(const Shape& s, FloatType type) {
  const WindowArray ordered(s);
  const double row = static_cast<double>(s.out_width + s.filter_width) *
                     static_cast<double>(ordered.step) * static_cast<double>(ordered.column);
  return type == FloatType::kF32 && s.groups == 1 && s.dilation_h == 1 && s.dilation_w == 1 &&
         row < 0x1p30 && static_cast<double>(ordered.rows) * row < 0x1p50;
}

int64_t workspace_bytes(const Shape& s) {
  return WindowArray(s).filter_offset() + s.filter_size() * 4;
}

}  // namespace

Plan plan_explicit(const Shape& shape, FloatType type) {
  if (!is_covered(shape, type)) return {};
  return {.covered = true,
          .kernel = "im2win_explicit",
          .workspace_bytes = shape.y_size() == 0 ? 0 : workspace_bytes(shape)};
}

Status explicit_fprop(Context context, const Args& args, Variant variant) {
  if (!is_covered(args.shape, args.type)) {
    return Status::error(kOp, ": implementation='im2win_explicit' takes float32, one group, no ",
                         "dilation and rows below 2^30 values; use implementation='auto'");
  }
  if (args.shape.y_size() == 0) return Status::ok();
  const int64_t bytes = workspace_bytes(args.shape);
  if (args.workspace_bytes < bytes) {
    return Status::error(kOp, ": workspace must have ", bytes, " bytes, got ",
                         args.workspace_bytes);
  }
  return run_explicit(context, args, WindowArray(args.shape), variant);
}

}  // namespace jaxdirect::conv
