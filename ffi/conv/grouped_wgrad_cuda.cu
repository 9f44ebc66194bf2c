// Launches of wgrad of several groups; what the kernel does is in grouped_wgrad_kernel.cuh.

#include <string>

#include "common/cuda.h"
#include "conv/grouped_launch.h"
#include "conv/grouped_wgrad_kernel.cuh"
#include "conv/sum_slices.cuh"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";

GroupedWork plan_once(const Shape& s, FloatType type) {
  return plan_grouped_once(s, type,
                           [&](GroupedTiling* t) { return tile_grouped_wgrad(s, type, t); });
}

int64_t slices_of(const GroupedTiling& t) { return int64_t{1} * t.slots * t.shares; }

template <typename T>
const void* kernel_of(int columns) {
  switch (columns) {
    case 1:
      return reinterpret_cast<const void*>(grouped_slices<T, 1>);
    case 2:
      return reinterpret_cast<const void*>(grouped_slices<T, 2>);
    case 3:
      return reinterpret_cast<const void*>(grouped_slices<T, 3>);
    default:
      return reinterpret_cast<const void*>(grouped_slices<T, 4>);
  }
}

template <typename T>
Status launch(cudaStream_t stream, const Args& a, const GroupedTiling& t) {
  const Shape& s = a.shape;
  GroupedWgradArgs args{};
  args.tiling = t;
  args.partials = static_cast<float*>(a.workspace);
  args.filter_size = s.filter_size();
  JAXDIRECT_RETURN_IF_ERROR(
      encode(grouped_view(a.x, a.type, s.batch, s.height, s.width, s.channels,
                          {t.block.in_bytes, t.halo_width, t.halo_height, t.tile_images}),
             &args.x));
  JAXDIRECT_RETURN_IF_ERROR(
      encode(grouped_view(a.y, a.type, s.batch, s.out_height, s.out_width, s.out_channels,
                          {t.block.out_bytes, t.tile_width, t.tile_height, t.tile_images}),
             &args.y));
  const void* kernel = kernel_of<T>(t.block.columns);
  JAXDIRECT_RETURN_IF_ERROR(launch_grouped(stream, kernel, &args, t));
  return sum_slices<T>(stream, args.partials, slices_of(t), args.filter_size, a.filter);
}

}  // namespace

Plan plan_grouped_wgrad(const Shape& s, FloatType type) {
  Plan plan;
  const GroupedWork work = plan_once(s, type);
  if (!work.covered) return plan;
  plan.covered = true;
  plan.kernel = "groups in blocks of " + std::to_string(work.tiling.block.groups);
  plan.workspace_bytes = slices_of(work.tiling) * s.filter_size() * int64_t{sizeof(float)};
  plan.microseconds = work.tiling.cost / kGroupedTicksPerMicrosecond;
  return plan;
}

Status grouped_wgrad(cudaStream_t stream, const Args& args) {
  const Shape& s = args.shape;
  const GroupedWork work = plan_once(s, args.type);
  if (!work.covered) {
    return Status::error(kOp, ": the filter's gradient of ", s.groups, " groups of these channels ",
                         "has no native kernel; use implementation='reference'");
  }
  const int64_t bytes = slices_of(work.tiling) * s.filter_size() * int64_t{sizeof(float)};
  if (args.workspace_bytes < bytes) {
    return Status::error(kOp, ": workspace must have ", bytes, " bytes, got ",
                         args.workspace_bytes);
  }
  return args.type == FloatType::kBF16 ? launch<__nv_bfloat16>(stream, args, work.tiling)
                                       : launch<__half>(stream, args, work.tiling);
}

}  // namespace jaxdirect::conv
