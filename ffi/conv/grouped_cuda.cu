// Launches of fprop and dgrad of several groups; what the kernel does is in grouped_kernel.cuh.

#include <algorithm>
#include <string>

#include "common/cuda.h"
#include "conv/grouped_kernel.cuh"
#include "conv/grouped_launch.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";

GroupedWork plan_fprop_once(const Shape& s, FloatType type) {
  return plan_grouped_once(
      s, type, [&](GroupedTiling* t) { return tile_grouped(s, type, /*transposed=*/false, t); });
}

GroupedWork plan_dgrad_once(const Shape& s, FloatType type) {
  return plan_grouped_once(
      s, type, [&](GroupedTiling* t) { return tile_grouped(s, type, /*transposed=*/true, t); });
}

GroupedWork plan_once(const Shape& s, FloatType type, bool transposed) {
  return transposed ? plan_dgrad_once(s, type) : plan_fprop_once(s, type);
}

template <typename T>
const void* kernel_of(int columns) {
  switch (columns) {
    case 1:
      return reinterpret_cast<const void*>(grouped<T, 1, 4>);
    case 2:
      return reinterpret_cast<const void*>(grouped<T, 2, 4>);
    case 3:
      return reinterpret_cast<const void*>(grouped<T, 3, 2>);
    default:
      return reinterpret_cast<const void*>(grouped<T, 4, 2>);
  }
}

Status encode_operands(const Args& a, bool transposed, GroupedArgs* args) {
  const Shape& s = a.shape;
  const GroupedTiling& t = args->tiling;
  const auto view = [&](bool of_x, const GroupedBox& box) {
    return of_x
               ? grouped_view(a.x, a.type, s.batch, s.height, s.width, s.channels, box)
               : grouped_view(a.y, a.type, s.batch, s.out_height, s.out_width, s.out_channels, box);
  };
  const TensorView in =
      view(!transposed, {t.block.in_bytes, t.halo_width, t.halo_height, t.tile_images});
  JAXDIRECT_RETURN_IF_ERROR(encode(in, &args->in));
  // A phase of a stride is an image of every stride-th pixel.
  const int64_t step_h = transposed ? s.stride_h : 1, step_w = transposed ? s.stride_w : 1;
  const int64_t phases_w = transposed ? std::min(step_w, s.width) : 1;
  for (int p = 0; p < t.phases; ++p) {
    TensorView out =
        view(transposed, {t.block.out_bytes, t.tile_width, t.tile_height, t.tile_images});
    out.data = static_cast<const char*>(out.data) + p / phases_w * out.strides[2] +
               p % phases_w * out.strides[1];
    out.extents[1] = t.phase[p].width, out.strides[1] *= step_w;
    out.extents[2] = t.phase[p].height, out.strides[2] *= step_h;
    JAXDIRECT_RETURN_IF_ERROR(encode(out, &args->out[p]));
  }
  return Status::ok();
}

Status run(cudaStream_t stream, const Args& a, bool transposed) {
  const GroupedWork work = plan_once(a.shape, a.type, transposed);
  if (!work.covered) {
    return Status::error(kOp, ": ", a.shape.groups, " groups of these channels have no native ",
                         "kernel; use implementation='reference'");
  }
  GroupedArgs args{};
  args.tiling = work.tiling;
  args.filter = a.filter;
  JAXDIRECT_RETURN_IF_ERROR(encode_operands(a, transposed, &args));
  const GroupedTiling& t = args.tiling;
  const int columns = t.block.columns;
  const void* kernel = a.type == FloatType::kBF16  ? kernel_of<__nv_bfloat16>(columns)
                       : a.type == FloatType::kF16 ? kernel_of<__half>(columns)
                                                   : kernel_of<float>(columns);
  return launch_grouped(stream, kernel, &args, t);
}

}  // namespace

Plan plan_grouped(const Shape& s, FloatType type, Precision precision, bool transposed) {
  Plan plan;
  if (type == FloatType::kF32 && precision == Precision::kHighest) return plan;
  const GroupedWork work = plan_once(s, type, transposed);
  if (!work.covered) return plan;
  plan.covered = true;
  plan.kernel = "groups in blocks of " + std::to_string(work.tiling.block.groups);
  plan.microseconds = work.tiling.cost / kGroupedTicksPerMicrosecond;
  return plan;
}

Status grouped_fprop(cudaStream_t stream, const Args& args) {
  return run(stream, args, /*transposed=*/false);
}

Status grouped_dgrad(cudaStream_t stream, const Args& args) {
  return run(stream, args, /*transposed=*/true);
}

}  // namespace jaxdirect::conv
