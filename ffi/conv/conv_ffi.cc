#include "common/handler.h"
#include "conv/conv.h"
#include "conv/explicit.h"

namespace jaxdirect::conv {

struct ConvAttrs {
  int64_t stride_h;
  int64_t stride_w;
  int64_t pad_h;
  int64_t pad_w;
  int64_t dilation_h;
  int64_t dilation_w;
  int64_t groups;
  int64_t precision;
};

struct ExplicitAttrs {
  int64_t stride_h;
  int64_t stride_w;
  int64_t pad_h;
  int64_t pad_w;
  int64_t variant;
};

namespace {

constexpr const char* kOp = "conv_general_dilated";

// Coordinates are 32-bit in the kernels; this leaves room for sums of a few of them.
constexpr int64_t kMaxExtent = int64_t{1} << 24;

Status decode_type(ffi::DataType dtype, FloatType* type) {
  switch (dtype) {
    case ffi::DataType::F16:
      *type = FloatType::kF16;
      return Status::ok();
    case ffi::DataType::BF16:
      *type = FloatType::kBF16;
      return Status::ok();
    case ffi::DataType::F32:
      *type = FloatType::kF32;
      return Status::ok();
    default:
      return Status::error(kOp, ": native code takes float16, bfloat16 and float32, got XLA type ",
                           static_cast<int>(dtype));
  }
}

Status check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return Status::ok();
  return Status::error(kOp, ": ", name, " must lie in [", low, ", ", high, "], got ", value);
}

Status check_attrs(const ConvAttrs& attrs, const Shape& shape) {
  for (int64_t extent :
       {shape.batch, shape.height, shape.width, shape.channels, shape.out_height, shape.out_width,
        shape.out_channels, shape.filter_height, shape.filter_width}) {
    JAXDIRECT_RETURN_IF_ERROR(check_range("every extent", extent, 0, kMaxExtent));
  }
  JAXDIRECT_RETURN_IF_ERROR(check_range("stride_h", attrs.stride_h, 1, kMaxExtent));
  JAXDIRECT_RETURN_IF_ERROR(check_range("stride_w", attrs.stride_w, 1, kMaxExtent));
  JAXDIRECT_RETURN_IF_ERROR(check_range("dilation_h", attrs.dilation_h, 1, kMaxExtent));
  JAXDIRECT_RETURN_IF_ERROR(check_range("dilation_w", attrs.dilation_w, 1, kMaxExtent));
  JAXDIRECT_RETURN_IF_ERROR(check_range("pad_h", attrs.pad_h, -kMaxExtent, kMaxExtent));
  JAXDIRECT_RETURN_IF_ERROR(check_range("pad_w", attrs.pad_w, -kMaxExtent, kMaxExtent));
  JAXDIRECT_RETURN_IF_ERROR(check_range("precision", attrs.precision, 0, 1));
  return check_range("groups", attrs.groups, 1, kMaxExtent);
}

// Positions in the padded image must fit 32 bits too.
Status check_reach(const Shape& shape) {
  const int64_t h = shape.out_height * shape.stride_h + shape.filter_height * shape.dilation_h;
  const int64_t w = shape.out_width * shape.stride_w + shape.filter_width * shape.dilation_w;
  JAXDIRECT_RETURN_IF_ERROR(check_range("the padded height", h, 0, int64_t{1} << 30));
  return check_range("the padded width", w, 0, int64_t{1} << 30);
}

Status decode(ffi::AnyBuffer x, ffi::AnyBuffer filter, ffi::AnyBuffer y, const ConvAttrs& attrs,
              Args* args) {
  JAXDIRECT_RETURN_IF_ERROR(check_rank(kOp, "x", x, 4));
  JAXDIRECT_RETURN_IF_ERROR(check_rank(kOp, "the filter", filter, 4));
  JAXDIRECT_RETURN_IF_ERROR(check_rank(kOp, "y", y, 4));
  JAXDIRECT_RETURN_IF_ERROR(decode_type(x.element_type(), &args->type));
  if (filter.element_type() != x.element_type() || y.element_type() != x.element_type()) {
    return Status::error(kOp, ": x, filter and y must have one dtype");
  }
  Shape& shape = args->shape;
  shape.batch = x.dimensions()[0];
  shape.height = x.dimensions()[1];
  shape.width = x.dimensions()[2];
  shape.channels = x.dimensions()[3];
  shape.filter_height = filter.dimensions()[0];
  shape.filter_width = filter.dimensions()[1];
  shape.out_height = y.dimensions()[1];
  shape.out_width = y.dimensions()[2];
  shape.out_channels = y.dimensions()[3];
  JAXDIRECT_RETURN_IF_ERROR(check_attrs(attrs, shape));
  shape.stride_h = attrs.stride_h;
  shape.stride_w = attrs.stride_w;
  shape.pad_h = attrs.pad_h;
  shape.pad_w = attrs.pad_w;
  shape.dilation_h = attrs.dilation_h;
  shape.dilation_w = attrs.dilation_w;
  shape.groups = attrs.groups;
  if (y.dimensions()[0] != shape.batch || filter.dimensions()[3] != shape.out_channels ||
      shape.channels % shape.groups != 0 || shape.out_channels % shape.groups != 0 ||
      filter.dimensions()[2] != shape.group_channels()) {
    return Status::error(kOp, ": shapes must be [N, H, W, C], [R, S, C/groups, K], [N, P, Q, K], ",
                         "got ", shape_of(x), ", ", shape_of(filter), ", ", shape_of(y), " with ",
                         shape.groups, " groups");
  }
  JAXDIRECT_RETURN_IF_ERROR(check_reach(shape));
  args->precision = static_cast<Precision>(attrs.precision);
  args->x = x.untyped_data();
  args->filter = filter.untyped_data();
  args->y = y.untyped_data();
  return Status::ok();
}

using Launch = Status (*)(Context, const Args&);

ffi::Error launch(Launch run, NativeContext context, Status decoded, ffi::AnyBuffer workspace,
                  Args* args) {
  args->workspace = workspace.untyped_data();
  args->workspace_bytes = static_cast<int64_t>(workspace.size_bytes());
  return to_ffi(decoded.is_ok() ? run(to_context(context), *args) : decoded);
}

ffi::Error handle_fprop(NativeContext context, ffi::AnyBuffer x, ffi::AnyBuffer filter,
                        ffi::Result<ffi::AnyBuffer> y, ffi::Result<ffi::AnyBuffer> workspace,
                        ConvAttrs attrs) {
  Args args;
  return launch(fprop, context, decode(x, filter, *y, attrs, &args), *workspace, &args);
}

ffi::Error handle_dgrad(NativeContext context, ffi::AnyBuffer y_bar, ffi::AnyBuffer filter,
                        ffi::Result<ffi::AnyBuffer> x_bar, ffi::Result<ffi::AnyBuffer> workspace,
                        ConvAttrs attrs) {
  Args args;
  return launch(dgrad, context, decode(*x_bar, filter, y_bar, attrs, &args), *workspace, &args);
}

ffi::Error handle_wgrad(NativeContext context, ffi::AnyBuffer x, ffi::AnyBuffer y_bar,
                        ffi::Result<ffi::AnyBuffer> filter_bar,
                        ffi::Result<ffi::AnyBuffer> workspace, ConvAttrs attrs) {
  Args args;
  return launch(wgrad, context, decode(x, *filter_bar, y_bar, attrs, &args), *workspace, &args);
}

ffi::Error handle_explicit(NativeContext context, ffi::AnyBuffer x, ffi::AnyBuffer filter,
                           ffi::Result<ffi::AnyBuffer> y, ffi::Result<ffi::AnyBuffer> workspace,
                           ExplicitAttrs attrs) {
  Args args;
  const ConvAttrs plain = {attrs.stride_h, attrs.stride_w, attrs.pad_h, attrs.pad_w, 1, 1, 1, 1};
  Status status = check_range("variant", attrs.variant, 0, kNumVariants - 1);
  if (status.is_ok()) status = decode(x, filter, *y, plain, &args);
  args.workspace = workspace->untyped_data();
  args.workspace_bytes = static_cast<int64_t>(workspace->size_bytes());
  if (!status.is_ok()) return to_ffi(status);
  return to_ffi(explicit_fprop(to_context(context), args, static_cast<Variant>(attrs.variant)));
}

}  // namespace

#define JAXDIRECT_BINDING(Attributes)                   \
  ffi::Ffi::Bind()                                      \
      .Ctx<ContextBinding>()                            \
      .Arg<ffi::AnyBuffer>() /* x, y_bar or x */        \
      .Arg<ffi::AnyBuffer>() /* filter or y_bar */      \
      .Ret<ffi::AnyBuffer>() /* y, x_bar, filter_bar */ \
      .Ret<ffi::AnyBuffer>() /* workspace */            \
      .Attrs<Attributes>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_conv_fprop, handle_fprop, JAXDIRECT_BINDING(ConvAttrs),
                              kRecordable);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_conv_dgrad, handle_dgrad, JAXDIRECT_BINDING(ConvAttrs),
                              kRecordable);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_conv_wgrad, handle_wgrad, JAXDIRECT_BINDING(ConvAttrs),
                              kRecordable);
XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_conv_im2win_explicit, handle_explicit,
                              JAXDIRECT_BINDING(ExplicitAttrs), kRecordable);

}  // namespace jaxdirect::conv

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(
    jaxdirect::conv::ConvAttrs, xla::ffi::StructMember<int64_t>("stride_h"),
    xla::ffi::StructMember<int64_t>("stride_w"), xla::ffi::StructMember<int64_t>("pad_h"),
    xla::ffi::StructMember<int64_t>("pad_w"), xla::ffi::StructMember<int64_t>("dilation_h"),
    xla::ffi::StructMember<int64_t>("dilation_w"), xla::ffi::StructMember<int64_t>("groups"),
    xla::ffi::StructMember<int64_t>("precision"));

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::conv::ExplicitAttrs,
                                      xla::ffi::StructMember<int64_t>("stride_h"),
                                      xla::ffi::StructMember<int64_t>("stride_w"),
                                      xla::ffi::StructMember<int64_t>("pad_h"),
                                      xla::ffi::StructMember<int64_t>("pad_w"),
                                      xla::ffi::StructMember<int64_t>("variant"));
