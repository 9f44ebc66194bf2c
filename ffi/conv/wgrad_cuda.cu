#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <tuple>
#include <type_traits>

#include "common/cuda.h"
#include "conv/depthwise.h"
#include "conv/grouped.h"
#include "conv/stem_wgrad.h"
#include "conv/sum_slices.cuh"
#include "conv/tensor_map.h"
#include "conv/wgrad_kernel.cuh"
#include "conv/wgrad_split.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";
struct Work {
  bool covered = false;
  WgradProblem problem;
  WgradTiling tiling;
};

int count_parts(FloatType type, Precision precision) {
  if (type != FloatType::kF32) return 1;
  return precision == Precision::kHighest ? 3 : 2;
}

Work plan_once(const Shape& s, int parts) {
  using Key = std::tuple<std::array<int64_t, 9>, std::array<int64_t, 7>, int>;
  static std::mutex mutex;
  static std::map<Key, Work> known;
  const Key key{{s.batch, s.height, s.width, s.channels, s.out_height, s.out_width, s.out_channels,
                 s.filter_height, s.filter_width},
                {s.stride_h, s.stride_w, s.pad_h, s.pad_w, s.dilation_h, s.dilation_w, s.groups},
                parts};
  std::lock_guard<std::mutex> lock(mutex);
  if (known.size() >= 1024) known.clear();
  auto [found, fresh] = known.try_emplace(key);
  Work& plan = found->second;
  if (fresh) plan.covered = tile_wgrad(s, parts, &plan.problem, &plan.tiling);
  return plan;
}

// For sum_uneven_slices: taps of different groups have different numbers of slices.
struct SlicesOfTaps {
  int64_t tap_size;
  int most_of_all;
  uint16_t of_tap[kWgradTaps];

  SlicesOfTaps(const Shape& s, const WgradTiling& t)
      : tap_size(s.channels * s.out_channels), most_of_all(t.slices) {
    for (int g = 0; g < t.groups; ++g) {
      for (int i = 0; i < t.group[g].count; ++i) {
        of_tap[t.tap[t.group[g].first + i].number] = t.group[g].slices;
      }
    }
  }

  int64_t most() const { return most_of_all; }
  __device__ int64_t operator()(int64_t place) const { return of_tap[place / tap_size]; }
};

struct Box {
  int channels, width, height, images, step_w, step_h;
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
};

// Images come first after channels, see wgrad.h.
Status encode_image(const void* data, CUtensorMapDataType type, int64_t bytes, int64_t channels,
                    int64_t width, int64_t height, int64_t batch, const Box& box,
                    CUtensorMap* map) {
  const int64_t pixel = channels * bytes, row = pixel * width;
  TensorView view{.data = data,
                  .type = type,
                  .rank = 4,
                  .extents = {channels, batch, width, height},
                  .strides = {bytes, row * height, pixel, row},
                  .box = {box.channels, box.images, (box.width - 1) * box.step_w + 1,
                          (box.height - 1) * box.step_h + 1},
                  .steps = {1, 1, box.step_w, box.step_h, 1},
                  .swizzle = box.swizzle};
  return encode(view, map);
}

Status encode_operands(const Args& args, const Work& plan, CUtensorMapDataType type, CUtensorMap* x,
                       CUtensorMap* y) {
  const WgradProblem& p = plan.problem;
  const WgradTiling& t = plan.tiling;
  const auto bytes = static_cast<int64_t>(size_of(args.type));
  const bool split = t.parts > 1;
  const Box x_box{.channels = kWgradBlock,
                  .width = t.halo_width,
                  .height = t.halo_height,
                  .images = t.tile_images,
                  .step_w = p.stride_w,
                  .step_h = p.stride_h,
                  .swizzle = split ? CU_TENSOR_MAP_SWIZZLE_NONE : CU_TENSOR_MAP_SWIZZLE_128B};
  const Box y_box{.channels = split ? kWgradBlock / 2 : kWgradBlock,
                  .width = t.tile_width,
                  .height = t.tile_height,
                  .images = t.tile_images,
                  .step_w = 1,
                  .step_h = 1};
  JAXDIRECT_RETURN_IF_ERROR(
      encode_image(args.x, type, bytes, p.channels, p.width, p.height, p.batch, x_box, x));
  return encode_image(args.y, type, bytes, p.out_channels, p.out_width, p.out_height, p.batch,
                      y_box, y);
}

Status encode_sums(const Args& args, const WgradTiling& t, CUtensorMap* map) {
  const int64_t row = args.shape.out_channels * int64_t{sizeof(float)};
  const TensorView view{
      .data = args.workspace,
      .type = CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
      .rank = 3,
      .extents = {args.shape.out_channels, args.shape.channels, int64_t{t.taps} * t.slices},
      .strides = {sizeof(float), row, row * args.shape.channels},
      .box = {kStoreBox, kStoreBox, 1}};
  return encode(view, map);
}

template <typename T>
WgradKernel kernel_of(const WgradTiling& t) {
  if constexpr (std::is_same_v<T, float>) {
    return wgrad_split_kernel(t.parts);
  } else {
    return t.columns == kWgradBlock ? wgrad_slices<T, kWgradBlock> : wgrad_slices<T, 96>;
  }
}

template <typename T>
Status launch(cudaStream_t stream, const Args& args, const Work& plan, CUtensorMapDataType type) {
  const WgradTiling& t = plan.tiling;
  CUtensorMap x, y, sums;
  JAXDIRECT_RETURN_IF_ERROR(encode_operands(args, plan, type, &x, &y));
  JAXDIRECT_RETURN_IF_ERROR(encode_sums(args, t, &sums));
  const WgradKernel kernel = kernel_of<T>(t);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, t.shared_bytes()),
      kOp);
  const dim3 grid(t.column_blocks, t.chunks, t.slices_of_all());
  kernel<<<grid, kThreads, t.shared_bytes(), stream>>>(x, y, sums, plan.problem, t);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return sum_uneven_slices<T>(stream, static_cast<const float*>(args.workspace),
                              SlicesOfTaps(args.shape, t), args.shape.filter_size(), args.filter);
}

}  // namespace

Status wgrad(cudaStream_t stream, const Args& args) {
  const Shape& s = args.shape;
  if (s.y_size() == 0 || s.x_size() == 0 || s.filter_size() == 0) {
    if (s.filter_size() == 0) return Status::ok();
    JAXDIRECT_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(args.filter, 0, s.filter_size() * size_of(args.type), stream), kOp);
    return Status::ok();
  }
  if (s.is_depthwise()) return depthwise_wgrad(stream, args);
  if (s.groups > 1) return grouped_wgrad(stream, args);
  if (const std::optional<Status> done = stem_wgrad(stream, args)) return *done;
  const Work plan = plan_once(s, count_parts(args.type, args.precision));
  if (!plan.covered) {
    return Status::error(kOp, ": the filter's gradient has no native kernel for this convolution; ",
                         "use implementation='reference'");
  }
  const int64_t bytes = s.filter_size() * plan.tiling.slices * int64_t{sizeof(float)};
  if (args.workspace_bytes < bytes) {
    return Status::error(kOp, ": workspace must have ", bytes, " bytes, got ",
                         args.workspace_bytes);
  }
  switch (args.type) {
    case FloatType::kBF16:
      return launch<__nv_bfloat16>(stream, args, plan, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
    case FloatType::kF16:
      return launch<__half>(stream, args, plan, CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
    default:
      return launch<float>(stream, args, plan, CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
  }
}

Plan plan_wgrad(const Shape& s, FloatType type, Precision precision) {
  Plan plan;
  if (s.is_depthwise()) {
    return {.covered = true,
            .kernel = "depthwise",
            .workspace_bytes = depthwise_wgrad_workspace_bytes(s)};
  }
  if (s.groups > 1) return plan_grouped_wgrad(s, type);
  if (const Plan stem = plan_stem_wgrad(s, type, precision); stem.covered) return stem;
  plan.covered = true;
  if (s.y_size() == 0 || s.x_size() == 0 || s.filter_size() == 0) return plan;
  const int parts = count_parts(type, precision);
  const Work work = plan_once(s, parts);
  plan.covered = work.covered;
  plan.kernel = "taps over slices of pixels";
  if (parts > 1) plan.kernel += parts == 2 ? ", BF16x3" : ", BF16x6";
  plan.workspace_bytes = s.filter_size() * work.tiling.slices * int64_t{sizeof(float)};
  plan.microseconds = work.tiling.cost / 1755;
  return plan;
}

}  // namespace jaxdirect::conv
