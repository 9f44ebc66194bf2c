#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <tuple>

#include "common/cuda.h"
#include "conv/depthwise.h"
#include "conv/stem_wgrad.h"
#include "conv/tensor_map.h"
#include "conv/wgrad_kernel.cuh"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";
// A block's threads: so many take the slices in turns, for so many times four values.
constexpr int kSumTurns = 16, kSumValues = 16;

// filter_bar = sum of the slices, in an order that depends on their number alone.
template <typename T>
__global__ void sum_slices(const float4* partial, int64_t count, int slices, T* filter_bar) {
  __shared__ float4 sums[kSumTurns][kSumValues];
  const int64_t i = int64_t{blockIdx.x} * kSumValues + threadIdx.x;
  float4 sum = make_float4(0, 0, 0, 0);
  const auto add = [&](const float4& more) {
    sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
  };
  if (i < count) {
#pragma unroll 8
    for (int slice = threadIdx.y; slice < slices; slice += kSumTurns) {
      add(partial[slice * count + i]);
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || i >= count) return;
  for (int turn = 1; turn < kSumTurns; ++turn) add(sums[turn][threadIdx.x]);
  if constexpr (sizeof(T) == 4) {
    reinterpret_cast<float4*>(filter_bar)[i] = sum;
  } else {
    T values[4] = {T(sum.x), T(sum.y), T(sum.z), T(sum.w)};
    reinterpret_cast<uint2*>(filter_bar)[i] = *reinterpret_cast<const uint2*>(values);
  }
}

struct Work {
  bool covered = false;
  WgradProblem problem;
  WgradTiling tiling;
};

Work plan_once(const Shape& s) {
  using Key = std::tuple<std::array<int64_t, 9>, std::array<int64_t, 7>>;
  static std::mutex mutex;
  static std::map<Key, Work> known;
  const Key key{{s.batch, s.height, s.width, s.channels, s.out_height, s.out_width, s.out_channels,
                 s.filter_height, s.filter_width},
                {s.stride_h, s.stride_w, s.pad_h, s.pad_w, s.dilation_h, s.dilation_w, s.groups}};
  std::lock_guard<std::mutex> lock(mutex);
  if (known.size() >= 1024) known.clear();
  auto [found, fresh] = known.try_emplace(key);
  Work& plan = found->second;
  if (fresh) plan.covered = tile_wgrad(s, &plan.problem, &plan.tiling);
  return plan;
}

Status encode_image(const void* data, CUtensorMapDataType type, int64_t channels, int64_t width,
                    int64_t height, int64_t batch, const int (&box)[3], int step_w, int step_h,
                    CUtensorMap* map) {
  const int64_t pixel = channels * 2, row = pixel * width;
  TensorView view{
      .data = data,
      .type = type,
      .rank = 4,
      .extents = {channels, width, height, batch},
      .strides = {2, pixel, row, row * height},
      .box = {kWgradBlock, (box[0] - 1) * step_w + 1, (box[1] - 1) * step_h + 1, box[2]},
      .steps = {1, step_w, step_h, 1, 1}};
  return encode(view, map);
}

template <typename T>
Status launch(cudaStream_t stream, const Args& args, const Work& plan, CUtensorMapDataType type) {
  const WgradProblem& p = plan.problem;
  const WgradTiling& t = plan.tiling;
  CUtensorMap x, y;
  JAXDIRECT_RETURN_IF_ERROR(encode_image(args.x, type, p.channels, p.width, p.height, p.batch,
                                         {t.halo_width, t.halo_height, t.tile_images}, p.stride_w,
                                         p.stride_h, &x));
  JAXDIRECT_RETURN_IF_ERROR(encode_image(args.y, type, p.out_channels, p.out_width, p.out_height,
                                         p.batch, {t.tile_width, t.tile_height, t.tile_images}, 1,
                                         1, &y));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(wgrad_slices<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           t.shared_bytes()),
      kOp);
  float* partial = static_cast<float*>(args.workspace);
  wgrad_slices<T>
      <<<t.items() * t.slices, kThreads, t.shared_bytes(), stream>>>(x, y, partial, p, t);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return add_slices(stream, partial, args.shape.filter_size(), t.slices, args.type, args.filter);
}

}  // namespace

Status add_slices(cudaStream_t stream, const float* partial, int64_t size, int slices,
                  FloatType type, void* filter_bar) {
  const auto* from = reinterpret_cast<const float4*>(partial);
  const int64_t count = size / 4;
  const dim3 threads(kSumValues, kSumTurns);
  const auto blocks = static_cast<unsigned>(ceil_div(count, kSumValues));
  if (type == FloatType::kF32) {
    sum_slices<<<blocks, threads, 0, stream>>>(from, count, slices,
                                               static_cast<float*>(filter_bar));
  } else if (type == FloatType::kBF16) {
    sum_slices<<<blocks, threads, 0, stream>>>(from, count, slices,
                                               static_cast<__nv_bfloat16*>(filter_bar));
  } else {
    sum_slices<<<blocks, threads, 0, stream>>>(from, count, slices,
                                               static_cast<__half*>(filter_bar));
  }
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

Status wgrad(cudaStream_t stream, const Args& args) {
  const Shape& s = args.shape;
  if (s.y_size() == 0 || s.x_size() == 0 || s.filter_size() == 0) {
    if (s.filter_size() == 0) return Status::ok();
    JAXDIRECT_RETURN_IF_CUDA_ERROR(
        cudaMemsetAsync(args.filter, 0, s.filter_size() * size_of(args.type), stream), kOp);
    return Status::ok();
  }
  if (s.is_depthwise()) return depthwise_wgrad(stream, args);
  if (plan_stem_wgrad(s, args.type, args.precision).covered) return stem_wgrad(stream, args);
  const Work plan = plan_once(s);
  if (!plan.covered || args.type == FloatType::kF32) {
    return Status::error(kOp, ": the filter's gradient has no native kernel for this convolution; ",
                         "use implementation='reference'");
  }
  const int64_t bytes = s.filter_size() * plan.tiling.slices * int64_t{sizeof(float)};
  if (args.workspace_bytes < bytes) {
    return Status::error(kOp, ": workspace must have ", bytes, " bytes, got ",
                         args.workspace_bytes);
  }
  return args.type == FloatType::kBF16
             ? launch<__nv_bfloat16>(stream, args, plan, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16)
             : launch<__half>(stream, args, plan, CU_TENSOR_MAP_DATA_TYPE_FLOAT16);
}

Plan plan_wgrad(const Shape& s, FloatType type, Precision precision) {
  Plan plan;
  if (s.is_depthwise()) {
    return {.covered = true,
            .kernel = "depthwise",
            .workspace_bytes = depthwise_wgrad_workspace_bytes(s)};
  }
  if (const Plan stem = plan_stem_wgrad(s, type, precision); stem.covered) return stem;
  if (type == FloatType::kF32) return plan;
  plan.covered = true;
  if (s.y_size() == 0 || s.x_size() == 0 || s.filter_size() == 0) return plan;
  const Work work = plan_once(s);
  plan.covered = work.covered;
  plan.kernel = "taps over slices of pixels";
  plan.workspace_bytes = s.filter_size() * work.tiling.slices * int64_t{sizeof(float)};
  plan.microseconds = work.tiling.cost / 1755;
  return plan;
}

}  // namespace jaxdirect::conv
