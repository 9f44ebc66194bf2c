#include <algorithm>
#include <string>
#include <vector>

#include "common/cuda.h"
#include "conv/conv.h"
#include "conv/depthwise.h"
#include "conv/grouped.h"
#include "conv/halo_launch.h"
#include "conv/halo_problems.h"
#include "conv/stem_fprop.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";

constexpr double kTicksPerMicrosecond = 1755;  // under load

Multiplicand multiplicand_of(FloatType type, Precision precision) {
  if (type == FloatType::kBF16) return Multiplicand::kBF16;
  if (type == FloatType::kF16) return Multiplicand::kF16;
  return precision == Precision::kDefault ? Multiplicand::kTF32 : Multiplicand::kSplitFloat32;
}

// A launch each: more are not worth it.
constexpr int64_t kMaxPhases = 64;

// The copy engine moves pixels and filter rows of whole 16 bytes.
bool is_covered(const Shape& s, FloatType type, bool transposed) {
  const int64_t step = 16 / size_of(type);
  const int64_t phases = std::min(s.stride_h, s.height) * std::min(s.stride_w, s.width);
  return s.channels % step == 0 && s.out_channels % step == 0 &&
         !(transposed && phases > kMaxPhases);
}

int64_t filter_workspace_bytes(const Shape& s, FloatType type, Precision precision,
                               bool transposed) {
  if (type != FloatType::kF32) return 0;
  return packed_filter_bytes(multiplicand_of(type, precision), s.filter_height * s.filter_width,
                             transposed ? s.out_channels : s.channels,
                             transposed ? s.channels : s.out_channels);
}

FilterForm form_of(FloatType type, bool transposed) {
  if (type == FloatType::kF32) return FilterForm::kPacked;
  return transposed ? FilterForm::kDepthMajor : FilterForm::kColumnMajor;
}

std::vector<HaloProblem> problems_of(const Shape& s, bool transposed) {
  return transposed ? dgrad_problems(s) : std::vector<HaloProblem>{fprop_problem(s)};
}

Plan plan(const Shape& s, FloatType type, Precision precision, bool transposed) {
  Plan plan;
  if (s.is_depthwise()) return {.covered = true, .kernel = "depthwise"};
  if (s.groups > 1) return plan_grouped(s, type, precision, transposed);
  if (!is_covered(s, type, transposed)) return plan;
  HaloCall call{.problem = {},
                .multiplicand = multiplicand_of(type, precision),
                .form = form_of(type, transposed)};
  plan.covered = true;
  plan.workspace_bytes = filter_workspace_bytes(s, type, precision, transposed);
  if (s.x_size() == 0 || s.y_size() == 0 || s.filter_size() == 0) return plan;
  for (const HaloProblem& problem : problems_of(s, transposed)) {
    call.problem = problem;
    const HaloTiling tiling = plan_halo(call);
    if (tiling.rows == 0) return Plan();
    plan.microseconds += tiling.cost / kTicksPerMicrosecond;
    plan.kernel =
        "halo tiles of " + std::to_string(tiling.rows) + " x " + std::to_string(tiling.columns);
  }
  return plan;
}

Status run(cudaStream_t stream, const Args& args, bool transposed) {
  const Shape& s = args.shape;
  HaloCall call{.problem = {},
                .multiplicand = multiplicand_of(args.type, args.precision),
                .form = form_of(args.type, transposed),
                .in = transposed ? args.y : args.x,
                .filter = args.filter,
                .out = transposed ? args.x : args.y};
  if (!is_covered(s, args.type, transposed)) {
    return Status::error(kOp, ": native code takes channels of whole 16 bytes and ",
                         "gradients of few strides, got ", s.channels, " and ", s.out_channels,
                         " channels, strides ", s.stride_h, " and ", s.stride_w,
                         "; use implementation='reference'");
  }
  if (call.form == FilterForm::kPacked) {
    const int64_t bytes = filter_workspace_bytes(s, args.type, args.precision, transposed);
    if (args.workspace_bytes < bytes) {
      return Status::error(kOp, ": workspace must have ", bytes, " bytes, got ",
                           args.workspace_bytes);
    }
    call.filter = args.workspace;
    JAXDIRECT_RETURN_IF_ERROR(pack_filter(
        stream, call.multiplicand, static_cast<const float*>(args.filter),
        s.filter_height * s.filter_width, s.channels, s.out_channels, transposed, args.workspace));
  }
  for (const HaloProblem& problem : problems_of(s, transposed)) {
    call.problem = problem;
    JAXDIRECT_RETURN_IF_ERROR(launch_halo(stream, call));
  }
  return Status::ok();
}

Status fill_zero(cudaStream_t stream, void* data, int64_t bytes) {
  if (bytes == 0) return Status::ok();
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(data, 0, bytes, stream), kOp);
  return Status::ok();
}

}  // namespace

Status fprop(cudaStream_t stream, const Args& args) {
  const Shape& s = args.shape;
  if (s.y_size() == 0 || s.x_size() == 0 || s.filter_size() == 0) {
    return fill_zero(stream, args.y, s.y_size() * size_of(args.type));
  }
  if (s.is_depthwise()) return depthwise_fprop(stream, args);
  if (s.groups > 1) return grouped_fprop(stream, args);
  if (const std::optional<Status> done = stem_fprop(stream, args)) return *done;
  return run(stream, args, /*transposed=*/false);
}

Status dgrad(cudaStream_t stream, const Args& args) {
  const Shape& s = args.shape;
  if (s.y_size() == 0 || s.x_size() == 0 || s.filter_size() == 0) {
    return fill_zero(stream, args.x, s.x_size() * size_of(args.type));
  }
  if (s.is_depthwise()) return depthwise_dgrad(stream, args);
  if (s.groups > 1) return grouped_dgrad(stream, args);
  return run(stream, args, /*transposed=*/true);
}

Plan plan_fprop(const Shape& shape, FloatType type, Precision precision) {
  const Plan stem = plan_stem_fprop(shape, type, precision);
  return stem.covered ? stem : plan(shape, type, precision, /*transposed=*/false);
}

Plan plan_dgrad(const Shape& shape, FloatType type, Precision precision) {
  return plan(shape, type, precision, /*transposed=*/true);
}

}  // namespace jaxdirect::conv
