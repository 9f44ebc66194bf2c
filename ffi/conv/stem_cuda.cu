#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "common/cuda.h"
#include "conv/stem_fprop.h"
#include "conv/stem_kernel.cuh"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";
constexpr double kTicksPerMicrosecond = 1755;  // under load

struct Kernel {
  FloatType type;
  Precision precision;
  StemVariant variant;
  const void* function;
};

template <StemForm kForm, typename T, int kColumns>
Kernel kernel(FloatType type, Precision precision) {
  constexpr bool is_split = kForm == StemForm::kThreeParts;
  const StemVariant variant{.columns = kColumns,
                            .value_bytes = stem_value_bytes<kForm>,
                            .out_bytes = static_cast<int>(sizeof(T)),
                            .parts = stem_planes(kForm),
                            .products = is_split ? 6 : 1,
                            .consumers = stem_consumers<kForm>};
  return {type, precision, variant, reinterpret_cast<const void*>(stem_conv<kForm, T, kColumns>)};
}

using BF16 = __nv_bfloat16;
using F16 = __half;
using enum FloatType;
using enum StemForm;

// Every kernel of the family: output channels of a thread block by type.
const Kernel kKernels[] = {
    kernel<kPlain, BF16, 32>(kBF16, Precision::kDefault),
    kernel<kPlain, BF16, 64>(kBF16, Precision::kDefault),
    kernel<kPlain, BF16, 96>(kBF16, Precision::kDefault),
    kernel<kPlain, BF16, 128>(kBF16, Precision::kDefault),
    kernel<kPlain, F16, 32>(kF16, Precision::kDefault),
    kernel<kPlain, F16, 64>(kF16, Precision::kDefault),
    kernel<kPlain, F16, 96>(kF16, Precision::kDefault),
    kernel<kPlain, F16, 128>(kF16, Precision::kDefault),
    kernel<kTf32, float, 32>(kF32, Precision::kDefault),
    kernel<kTf32, float, 48>(kF32, Precision::kDefault),
    kernel<kTf32, float, 64>(kF32, Precision::kDefault),
    kernel<kTf32, float, 96>(kF32, Precision::kDefault),
    kernel<kThreeParts, float, 32>(kF32, Precision::kHighest),
    kernel<kThreeParts, float, 48>(kF32, Precision::kHighest),
    kernel<kThreeParts, float, 64>(kF32, Precision::kHighest),
};

struct Choice {
  const Kernel* kernel = nullptr;
  StemProblem problem;
  StemTiling tiling;
};

Choice choose(const StemProblem& problem, FloatType type, Precision precision) {
  Choice best;
  for (const Kernel& kernel : kKernels) {
    if (kernel.type != type || (type == kF32 && kernel.precision != precision)) continue;
    StemTiling tiling;
    if (!tile_stem(problem, kernel.variant, &tiling)) continue;
    if (best.kernel == nullptr || tiling.cost < best.tiling.cost) best = {&kernel, problem, tiling};
  }
  return best;
}

// Searching takes longer than a launch, and programs call with the same few shapes.
Choice choose_once(const Shape& shape, FloatType type, Precision precision) {
  StemProblem problem;
  if (!as_stem(shape, &problem)) return {};
  using Key = std::tuple<int, int, StemProblem>;
  static std::mutex mutex;
  static std::map<Key, Choice> known;
  const Key key{static_cast<int>(type), static_cast<int>(precision), problem};
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  if (known.size() >= 4096) known.clear();
  return known.emplace(key, choose(problem, type, precision)).first->second;
}

Status launch(cudaStream_t stream, const Args& args, const Choice& choice) {
  int device = 0, count = 0;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), kOp);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), kOp);
  StemProblem problem = choice.problem;
  StemTiling t = choice.tiling;
  const int bytes = t.shared_bytes();
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(choice.kernel->function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           bytes),
      kOp);
  const int64_t rows = std::min<int64_t>(t.tiles, std::max(1, count / t.blocks_k));
  const void *x = args.x, *filter = args.filter;
  void* y = args.y;
  void* arguments[] = {&x, &filter, &y, &problem, &t};
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaLaunchKernel(choice.kernel->function, dim3(static_cast<int>(rows * t.blocks_k)),
                       dim3(kStemThreads), arguments, bytes, stream),
      kOp);
  return Status::ok();
}

}  // namespace

Plan plan_stem_fprop(const Shape& shape, FloatType type, Precision precision) {
  const Choice choice = choose_once(shape, type, precision);
  if (choice.kernel == nullptr) return {};
  const StemTiling& t = choice.tiling;
  return {.covered = true,
          .kernel = "stem tiles of " + std::to_string(t.patch.tile_height) + " x " +
                    std::to_string(t.patch.tile_width) + " x " + std::to_string(t.columns),
          .microseconds = t.cost / kTicksPerMicrosecond};
}

std::optional<Status> stem_fprop(cudaStream_t stream, const Args& args) {
  const Choice choice = choose_once(args.shape, args.type, args.precision);
  if (choice.kernel == nullptr) return std::nullopt;
  return launch(stream, args, choice);
}

}  // namespace jaxdirect::conv
