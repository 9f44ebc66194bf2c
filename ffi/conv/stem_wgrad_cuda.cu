#include <map>
#include <mutex>
#include <tuple>

#include "common/cuda.h"
#include "conv/stem_wgrad_kernel.cuh"
#include "conv/sum_slices.cuh"
#include "conv/tensor_map.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";

using Kernel = void (*)(const CUtensorMap, const void*, float*, const StemProblem,
                        const StemWgradTiling);

struct Entry {
  StemWgradVariant variant;
  Kernel of_bf16, of_f16;  // bf16 parts have only the first
};

template <int kPlanes, int kColumns, int kTiles>
Entry entry() {
  Entry made{{kPlanes, kColumns, kTiles},
             stem_wgrad_slices<__nv_bfloat16, kPlanes, kColumns, kTiles>,
             nullptr};
  if constexpr (kPlanes == 1) made.of_f16 = stem_wgrad_slices<__half, kPlanes, kColumns, kTiles>;
  return made;
}

const Entry kKernels[] = {
    entry<1, 64, 1>(), entry<1, 64, 3>(), entry<1, 96, 2>(), entry<2, 32, 2>(), entry<2, 64, 1>(),
    entry<2, 64, 2>(), entry<2, 96, 1>(), entry<3, 32, 2>(), entry<3, 64, 1>(), entry<3, 96, 1>(),
};

struct Work {
  const Entry* entry = nullptr;  // none if there is no kernel
  StemProblem problem;
  StemWgradTiling tiling;
};

int planes_of(FloatType type, Precision precision) {
  if (type != FloatType::kF32) return 1;
  return precision == Precision::kHighest ? 3 : 2;
}

Work plan_once(const Shape& shape, FloatType type, Precision precision) {
  static std::mutex mutex;
  static std::map<std::tuple<StemProblem, int>, Work> known;
  Work none;
  if ((type == FloatType::kF64) || !as_stem(shape, &none.problem)) return none;
  const int planes = planes_of(type, precision);
  std::lock_guard<std::mutex> lock(mutex);
  if (known.size() >= 1024) known.clear();
  auto [found, fresh] = known.try_emplace({none.problem, planes}, none);
  Work& work = found->second;
  if (!fresh) return work;
  for (const Entry& candidate : kKernels) {
    StemWgradTiling tiling;
    if (candidate.variant.planes != planes ||
        !tile_stem_wgrad(work.problem, candidate.variant, static_cast<int>(size_of(type)),
                         &tiling)) {
      continue;
    }
    if (work.entry != nullptr && tiling.cost >= work.tiling.cost) continue;
    work.entry = &candidate;
    work.tiling = tiling;
  }
  return work;
}

int64_t workspace_bytes(const Shape& shape, const Work& work) {
  return shape.filter_size() * work.tiling.partial_sums() * int64_t{sizeof(float)};
}

Status encode_gradient(const Args& args, const Work& work, CUtensorMap* map) {
  const StemProblem& p = work.problem;
  const StemWgradVariant& v = work.tiling.variant;
  const bool is_raw = args.type == FloatType::kF32;
  const int64_t pixel = int64_t{p.out_channels} * size_of(args.type), row = pixel * p.out_width;
  TensorView view{.data = args.y,
                  .type = is_raw                          ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                          : args.type == FloatType::kBF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                          : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
                  .rank = 4,
                  .extents = {p.out_channels, p.out_width, p.out_height, p.batch},
                  .strides = {size_of(args.type), pixel, row, row * p.out_height},
                  .box = {is_raw ? v.columns : v.row_bytes() / 2, work.tiling.patch.tile_width,
                          work.tiling.patch.tile_height, 1}};
  view.swizzle = is_raw                 ? CU_TENSOR_MAP_SWIZZLE_NONE
                 : v.row_bytes() == 128 ? CU_TENSOR_MAP_SWIZZLE_128B
                                        : CU_TENSOR_MAP_SWIZZLE_64B;
  return encode(view, map);
}

Status launch(cudaStream_t stream, const Args& args, const Work& work) {
  const StemWgradTiling& t = work.tiling;
  const int64_t bytes = workspace_bytes(args.shape, work);
  if (args.workspace_bytes < bytes) {
    return Status::error(kOp, ": workspace must have ", bytes, " bytes, got ",
                         args.workspace_bytes);
  }
  CUtensorMap y{};
  JAXDIRECT_RETURN_IF_ERROR(encode_gradient(args, work, &y));
  const Kernel kernel = args.type == FloatType::kF16 ? work.entry->of_f16 : work.entry->of_bf16;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, t.shared_bytes()),
      kOp);
  float* partial = static_cast<float*>(args.workspace);
  kernel<<<t.items() * t.slices, t.variant.threads(), t.shared_bytes(), stream>>>(
      y, args.x, partial, work.problem, t);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  const auto add = args.type == FloatType::kF32    ? sum_slices<float>
                   : args.type == FloatType::kBF16 ? sum_slices<__nv_bfloat16>
                                                   : sum_slices<__half>;
  return add(stream, partial, t.partial_sums(), args.shape.filter_size(), args.filter);
}

}  // namespace

std::optional<Status> stem_wgrad(cudaStream_t stream, const Args& args) {
  const Work work = plan_once(args.shape, args.type, args.precision);
  if (work.entry == nullptr) return std::nullopt;
  return launch(stream, args, work);
}

Plan plan_stem_wgrad(const Shape& shape, FloatType type, Precision precision) {
  const Work work = plan_once(shape, type, precision);
  if (work.entry == nullptr) return {};
  return {.covered = true,
          .kernel = "windows of rows over slices of pixels",
          .workspace_bytes = workspace_bytes(shape, work),
          .microseconds = work.tiling.cost / 1755};
}

}  // namespace jaxdirect::conv
