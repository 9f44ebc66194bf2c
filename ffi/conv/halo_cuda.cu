#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "common/cuda.h"
#include "conv/halo_columns_kernel.cuh"
#include "conv/halo_kernel.cuh"
#include "conv/halo_launch.h"
#include "conv/halo_split_kernel.cuh"
#include "conv/tensor_map.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";

struct Kernel {
  Multiplicand multiplicand;
  FilterForm form;
  HaloVariant variant;
  const void* function;
};

template <typename T, int kRowBlocks, int kColumns, FilterForm kForm>
const void* plain() {
  return reinterpret_cast<const void*>(
      halo_conv<T, kRowBlocks, kColumns, kForm == FilterForm::kColumnMajor>);
}

template <typename T, FilterForm kForm>
const void* columns() {
  return reinterpret_cast<const void*>(halo_conv_columns<T, kForm == FilterForm::kColumnMajor>);
}

template <int kColumns>
const void* split() {
  return reinterpret_cast<const void*>(halo_conv_split<kColumns>);
}

using BF16 = __nv_bfloat16;
using F16 = __half;
using enum FilterForm;
using enum Multiplicand;

// rows, columns, bytes of a value, of the filter's; measured ticks of a 64-row product over 32
// bytes.
constexpr HaloVariant k128x64{128, 64, 2, 2, 76}, k256x64{256, 64, 2, 2, 64};
constexpr HaloVariant k128x128{128, 128, 2, 2, 100}, k256x128{256, 128, 2, 2, 86};
// Pixels as columns: 64 channels by two times 224 pixels.
constexpr HaloVariant kPixels448x64{128, 64, 2, 2, 140, kRunsOfTile, 16};
constexpr HaloVariant kFloat128x64{128, 64, 4, 4, 76}, kFloat256x64{256, 64, 4, 4, 64};
constexpr HaloVariant kFloat128x128{128, 128, 4, 4, 100}, kFloat256x128{256, 128, 4, 4, 86};
// Six products of 16-bit parts for each 64 bytes of float32.
constexpr HaloVariant kSplit128x64{128, 64, 4, 6, 170}, kSplit128x128{128, 128, 4, 6, 265};

// Every kernel of the family.
const Kernel kKernels[] = {
    {kBF16, kColumnMajor, k128x64, plain<BF16, 1, 64, kColumnMajor>()},
    {kBF16, kColumnMajor, k128x128, plain<BF16, 1, 128, kColumnMajor>()},
    {kBF16, kColumnMajor, k256x64, plain<BF16, 2, 64, kColumnMajor>()},
    {kBF16, kColumnMajor, k256x128, plain<BF16, 2, 128, kColumnMajor>()},
    {kBF16, kColumnMajor, kPixels448x64, columns<BF16, kColumnMajor>()},
    {kBF16, kDepthMajor, k128x64, plain<BF16, 1, 64, kDepthMajor>()},
    {kBF16, kDepthMajor, k128x128, plain<BF16, 1, 128, kDepthMajor>()},
    {kBF16, kDepthMajor, k256x64, plain<BF16, 2, 64, kDepthMajor>()},
    {kBF16, kDepthMajor, k256x128, plain<BF16, 2, 128, kDepthMajor>()},
    {kBF16, kDepthMajor, kPixels448x64, columns<BF16, kDepthMajor>()},
    {kF16, kColumnMajor, k128x64, plain<F16, 1, 64, kColumnMajor>()},
    {kF16, kColumnMajor, k128x128, plain<F16, 1, 128, kColumnMajor>()},
    {kF16, kColumnMajor, k256x64, plain<F16, 2, 64, kColumnMajor>()},
    {kF16, kColumnMajor, k256x128, plain<F16, 2, 128, kColumnMajor>()},
    {kF16, kColumnMajor, kPixels448x64, columns<F16, kColumnMajor>()},
    {kF16, kDepthMajor, k128x64, plain<F16, 1, 64, kDepthMajor>()},
    {kF16, kDepthMajor, k128x128, plain<F16, 1, 128, kDepthMajor>()},
    {kF16, kDepthMajor, k256x64, plain<F16, 2, 64, kDepthMajor>()},
    {kF16, kDepthMajor, k256x128, plain<F16, 2, 128, kDepthMajor>()},
    {kF16, kDepthMajor, kPixels448x64, columns<F16, kDepthMajor>()},
    {kTF32, kPacked, kFloat128x64, plain<Tf32, 1, 64, kPacked>()},
    {kTF32, kPacked, kFloat128x128, plain<Tf32, 1, 128, kPacked>()},
    {kTF32, kPacked, kFloat256x64, plain<Tf32, 2, 64, kPacked>()},
    {kTF32, kPacked, kFloat256x128, plain<Tf32, 2, 128, kPacked>()},
    {kSplitFloat32, kPacked, kSplit128x64, split<64>()},
    {kSplitFloat32, kPacked, kSplit128x128, split<128>()},
};

struct Choice {
  const Kernel* kernel = nullptr;
  HaloTiling tiling;
};

Choice choose(const HaloCall& call, const Multiprocessors& gpu) {
  Choice best;
  for (const Kernel& kernel : kKernels) {
    if (kernel.multiplicand != call.multiplicand || kernel.form != call.form) continue;
    HaloTiling tiling;
    if (!tile_halo(call.problem, kernel.variant, gpu, &tiling)) continue;
    if (best.kernel == nullptr || tiling.cost < best.tiling.cost) best = {&kernel, tiling};
  }
  return best;
}

// Searching takes longer than a launch, and programs call with the same few shapes.
Choice choose_once(const HaloCall& call, const Multiprocessors& gpu) {
  const HaloProblem& p = call.problem;
  using Key = std::tuple<int, int, int, HaloProblem>;
  static std::mutex mutex;
  static std::map<Key, Choice> known;
  const Key key{static_cast<int>(call.multiplicand), static_cast<int>(call.form), gpu.count, p};
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  if (known.size() >= 4096) known.clear();
  return known.emplace(key, choose(call, gpu)).first->second;
}

Status describe_gpu(Multiprocessors* gpu) {
  int device = 0, major = 0, minor = 0;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), kOp);
  const std::pair<int*, cudaDeviceAttr> wanted[] = {
      {&major, cudaDevAttrComputeCapabilityMajor},
      {&minor, cudaDevAttrComputeCapabilityMinor},
      {&gpu->count, cudaDevAttrMultiProcessorCount},
      {&gpu->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin}};
  for (const auto& [value, attribute] : wanted) {
    JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaDeviceGetAttribute(value, attribute, device), kOp);
  }
  if (major == 9 && minor == 0) return Status::ok();
  return Status::error(kOp, ": the native kernels need compute capability 9.0, got ", major, ".",
                       minor, "; use implementation='reference'");
}

CUtensorMapDataType value_type(Multiplicand multiplicand) {
  switch (multiplicand) {
    case kBF16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case kF16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    default:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  }
}

Status encode_input(const HaloCall& call, const HaloTiling& t, int value_bytes, CUtensorMap* map) {
  const HaloProblem& p = call.problem;
  const int64_t pixel = int64_t{p.in_channels} * value_bytes, row = pixel * p.in_width;
  TensorView view{.data = call.in,
                  .type = value_type(call.multiplicand),
                  .rank = 4,
                  .extents = {p.in_channels, p.in_width, p.in_height, p.batch},
                  .strides = {value_bytes, pixel, row, row * p.in_height},
                  .box = {kChunkBytes / value_bytes, t.halo_width, t.halo_height, t.tile_images}};
  return encode(view, map);
}

Status encode_filter(const HaloCall& call, const HaloTiling& t, CUtensorMap* map) {
  const HaloProblem& p = call.problem;
  TensorView view{.data = call.filter, .rank = 3};
  const auto fill = [&](int64_t row, int64_t rows, int64_t matrices, int value_bytes, int box_row,
                        int box_rows, int box_matrices) {
    const int64_t row_bytes = row * value_bytes;
    const int64_t extents[] = {row, rows, matrices};
    const int64_t strides[] = {value_bytes, row_bytes, row_bytes * rows};
    const int box[] = {box_row, box_rows, box_matrices};
    std::copy_n(extents, 3, view.extents);
    std::copy_n(strides, 3, view.strides);
    std::copy_n(box, 3, view.box);
  };
  view.type = value_type(call.multiplicand);
  switch (call.form) {
    case kColumnMajor:
      fill(p.out_channels, p.in_channels, p.filter_taps, 2, 64, 64, 1);
      break;
    case kDepthMajor:
      fill(p.in_channels, p.out_channels, p.filter_taps, 2, 64, t.columns, 1);
      break;
    case kPacked: {
      const PackedForm form = packed_form(call.multiplicand);
      const int chunks = static_cast<int>(ceil_div(p.in_channels, form.depth));
      fill(form.depth, p.out_channels, int64_t{p.filter_taps} * chunks * form.parts,
           form.value_bytes, form.depth, t.columns, form.parts);
      if (call.multiplicand == kSplitFloat32) {
        view.type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
        view.swizzle = CU_TENSOR_MAP_SWIZZLE_64B;
      }
      break;
    }
  }
  return encode(view, map);
}

}  // namespace

HaloTiling plan_halo(const HaloCall& call) { return choose_once(call, Multiprocessors()).tiling; }

Status launch_halo(cudaStream_t stream, const HaloCall& call) {
  Multiprocessors gpu;
  JAXDIRECT_RETURN_IF_ERROR(describe_gpu(&gpu));
  const Choice choice = choose_once(call, gpu);
  if (choice.kernel == nullptr) {
    return Status::error(kOp, ": no tile of this convolution fits into shared memory; ",
                         "use implementation='reference'");
  }
  const HaloTiling& tiling = choice.tiling;
  CUtensorMap input, filter;
  JAXDIRECT_RETURN_IF_ERROR(encode_input(call, tiling, choice.kernel->variant.value_bytes, &input));
  JAXDIRECT_RETURN_IF_ERROR(encode_filter(call, tiling, &filter));
  const void* function = choice.kernel->function;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           tiling.shared_bytes()),
      kOp);
  void* out = call.out;
  HaloProblem problem = call.problem;
  HaloTiling copy = tiling;
  void* arguments[] = {&input, &filter, &out, &problem, &copy};
  const int blocks = static_cast<int>(std::min<int64_t>(tiling.blocks(), gpu.count));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaLaunchKernel(function, dim3(blocks), dim3(kThreads), arguments,
                                                  tiling.shared_bytes(), stream),
                                 kOp);
  return Status::ok();
}

}  // namespace jaxdirect::conv
