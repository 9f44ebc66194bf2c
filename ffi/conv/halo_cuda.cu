#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "common/cuda.h"
#include "conv/halo_kernel.cuh"
#include "conv/halo_launch.h"
#include "conv/halo_split_kernel.cuh"
#include "conv/tensor_map.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";

template <typename T, int kRowBlocks, int kColumns, FilterForm kForm>
const void* plain() {
  return reinterpret_cast<const void*>(
      halo_conv<T, kRowBlocks, kColumns, kForm == FilterForm::kColumnMajor>);
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
constexpr HaloVariant k256x64{256, 64, 2, 2, 53}, k128x128{128, 128, 2, 2, 82};
constexpr HaloVariant kFloat256x64{256, 64, 4, 4, 53}, kFloat128x128{128, 128, 4, 4, 82};
// Six products of 16-bit parts for each 64 bytes of float32.
constexpr HaloVariant kSplit128x64{128, 64, 4, 6, 170}, kSplit128x128{128, 128, 4, 6, 265};

// The kernels that load the left operand into registers.
const HaloKernel kKernels[] = {
    {kBF16, kColumnMajor, k128x128, plain<BF16, 1, 128, kColumnMajor>()},
    {kBF16, kColumnMajor, k256x64, plain<BF16, 2, 64, kColumnMajor>()},
    {kBF16, kDepthMajor, k128x128, plain<BF16, 1, 128, kDepthMajor>()},
    {kBF16, kDepthMajor, k256x64, plain<BF16, 2, 64, kDepthMajor>()},
    {kF16, kColumnMajor, k128x128, plain<F16, 1, 128, kColumnMajor>()},
    {kF16, kColumnMajor, k256x64, plain<F16, 2, 64, kColumnMajor>()},
    {kF16, kDepthMajor, k128x128, plain<F16, 1, 128, kDepthMajor>()},
    {kF16, kDepthMajor, k256x64, plain<F16, 2, 64, kDepthMajor>()},
    {kTF32, kPacked, kFloat128x128, plain<Tf32, 1, 128, kPacked>()},
    {kTF32, kPacked, kFloat256x64, plain<Tf32, 2, 64, kPacked>()},
    {kSplitFloat32, kPacked, kSplit128x64, split<64>()},
    {kSplitFloat32, kPacked, kSplit128x128, split<128>()},
};

// Some of the images, and what computes them.
struct Part {
  const HaloKernel* kernel = nullptr;
  HaloTiling tiling;
  int first_image = 0, images = 0;
};

// The images are cut in two where that fills the multiprocessors better: whole waves of large
// tiles, then small tiles.
struct Choice {
  Part parts[2];
  int count = 0;
  double cost = 0;
};

// What each kernel that can would do with some of the images.
std::vector<Part> parts_of(const HaloCall& call, const Multiprocessors& gpu, int first_image,
                           int images) {
  HaloProblem problem = call.problem;
  problem.batch = images;
  std::vector<Part> parts;
  for (const auto kernels : {std::span<const HaloKernel>(kKernels), direct_kernels()}) {
    for (const HaloKernel& kernel : kernels) {
      if (kernel.multiplicand != call.multiplicand || kernel.form != call.form) continue;
      HaloTiling tiling;
      if (!tile_halo(problem, kernel.variant, gpu, &tiling)) continue;
      parts.push_back({&kernel, tiling, first_image, images});
    }
  }
  return parts;
}

Part choose_part(const HaloCall& call, const Multiprocessors& gpu, int first_image, int images) {
  const std::vector<Part> parts = parts_of(call, gpu, first_image, images);
  if (parts.empty()) return Part();
  return *std::min_element(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return a.tiling.cost < b.tiling.cost;
  });
}

Choice choose(const HaloCall& call, const Multiprocessors& gpu) {
  const int batch = call.problem.batch;
  Choice best;
  best.parts[0] = choose_part(call, gpu, 0, batch);
  if (best.parts[0].kernel == nullptr) return best;
  best.count = 1;
  best.cost = best.parts[0].tiling.cost;
  constexpr int kCuts = 16;
  for (int cut = 1, tried = 0; cut < kCuts; ++cut) {
    const int images = static_cast<int>(int64_t{batch} * cut / kCuts / 8 * 8);
    if (images == tried) continue;
    tried = images;
    const Part first = choose_part(call, gpu, 0, images);
    if (first.tiling.cost >= best.cost) break;
    const Part second = choose_part(call, gpu, images, batch - images);
    const double cost = first.tiling.cost + second.tiling.cost;
    if (cost < best.cost) best = {{first, second}, 2, cost};
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

// Of TF32, what reads operands through descriptors gets rounded values from the copy engine.
CUtensorMapDataType input_type(const HaloKernel& kernel) {
  if (kernel.multiplicand == kTF32 && kernel.variant.reading != HaloVariant::kMatrixLoads) {
    return CU_TENSOR_MAP_DATA_TYPE_TFLOAT32;
  }
  return value_type(kernel.multiplicand);
}

Status encode_input(const HaloProblem& p, const void* in, const HaloKernel& kernel,
                    const HaloTiling& t, CUtensorMap* map) {
  const int value_bytes = kernel.variant.value_bytes;
  const int64_t pixel = int64_t{p.in_channels} * value_bytes, row = pixel * p.in_width;
  TensorView view{
      .data = in,
      .type = input_type(kernel),
      .rank = 4,
      .extents = {p.in_channels, p.batch, p.in_width, p.in_height},
      .strides = {value_bytes, row * p.in_height, pixel, row},
      .box = {kChunkBytes / value_bytes, t.tile_images, t.halo_width * t.planes, t.halo_height},
      .steps = {1, 1, t.planes, 1, 1}};
  return encode(view, map);
}

// Where the copy engine stores, 64 pixels' channels at a time; see StoredPiece.
Status encode_output(const HaloProblem& p, char* out, const HaloKernel& kernel, const HaloTiling& t,
                     CUtensorMap* map) {
  const int value_bytes = kernel.variant.value_bytes;
  const int width = stored_width(t.columns, value_bytes);
  const int64_t pixel = int64_t{p.out_channels} * value_bytes, row = pixel * p.store_width;
  TensorView view{
      .data = out + p.store_first_h * row + p.store_first_w * pixel,
      .type = value_type(kernel.multiplicand),
      .rank = 4,
      .extents = {p.out_channels, p.batch, p.out_width, p.out_height},
      .strides = {value_bytes, row * p.store_height, pixel * p.store_step_w, row * p.store_step_h},
      .box = {width, t.tile_images, t.product_width, t.product_height}};
  if (width * value_bytes == 64) view.swizzle = CU_TENSOR_MAP_SWIZZLE_64B;
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

Status launch_part(cudaStream_t stream, const HaloCall& call, const Part& part,
                   const Multiprocessors& gpu) {
  const HaloTiling& tiling = part.tiling;
  const int value_bytes = part.kernel->variant.value_bytes;
  HaloProblem problem = call.problem;
  problem.batch = part.images;
  const int64_t in_pixels = int64_t{part.first_image} * problem.in_height * problem.in_width;
  const int64_t out_pixels = int64_t{part.first_image} * problem.store_height * problem.store_width;
  const char* in =
      static_cast<const char*>(call.in) + in_pixels * problem.in_channels * value_bytes;
  char* out = static_cast<char*>(call.out) + out_pixels * problem.out_channels * value_bytes;
  const bool direct = part.kernel->variant.reading != HaloVariant::kMatrixLoads;
  CUtensorMap input, filter, output;
  JAXDIRECT_RETURN_IF_ERROR(encode_input(problem, in, *part.kernel, tiling, &input));
  if (direct) {
    JAXDIRECT_RETURN_IF_ERROR(encode_output(problem, out, *part.kernel, tiling, &output));
  }
  JAXDIRECT_RETURN_IF_ERROR(encode_filter(call, tiling, &filter));
  const void* function = part.kernel->function;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           gpu.shared_bytes),  // not this tiling's: threads may launch others
      kOp);
  HaloTiling copy = tiling;
  void* arguments[] = {&input, &filter, direct ? static_cast<void*>(&output) : &out, &problem,
                       &copy};
  const int at_once = gpu.count / tiling.block_step() * tiling.block_step();
  const int blocks = static_cast<int>(std::min<int64_t>(tiling.thread_blocks(), at_once));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaLaunchKernel(function, dim3(blocks), dim3(kThreads), arguments,
                                                  tiling.shared_bytes(), stream),
                                 kOp);
  return Status::ok();
}

}  // namespace

HaloTiling plan_halo(const HaloCall& call) {
  const Choice choice = choose_once(call, Multiprocessors());
  HaloTiling tiling = choice.parts[0].tiling;
  tiling.cost = choice.cost;
  return tiling;
}

Status launch_halo_kernel(cudaStream_t stream, const HaloCall& call, int number) {
  Multiprocessors gpu;
  JAXDIRECT_RETURN_IF_ERROR(describe_gpu(&gpu));
  return launch_part(stream, call, parts_of(call, gpu, 0, call.problem.batch)[number], gpu);
}

int count_halo_kernels(const HaloCall& call) {
  return static_cast<int>(parts_of(call, Multiprocessors(), 0, call.problem.batch).size());
}

Status launch_halo(cudaStream_t stream, const HaloCall& call) {
  Multiprocessors gpu;
  JAXDIRECT_RETURN_IF_ERROR(describe_gpu(&gpu));
  const Choice choice = choose_once(call, gpu);
  if (choice.count == 0) {
    return Status::error(kOp, ": no tile of this convolution fits into shared memory; ",
                         "use implementation='reference'");
  }
  for (int part = 0; part < choice.count; ++part) {
    JAXDIRECT_RETURN_IF_ERROR(launch_part(stream, call, choice.parts[part], gpu));
  }
  return Status::ok();
}

}  // namespace jaxdirect::conv
