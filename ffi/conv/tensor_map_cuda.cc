#include <cuda_runtime_api.h>

#include <atomic>

#include "common/cuda.h"
#include "conv/tensor_map.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";

using Encode = decltype(&cuTensorMapEncodeTiled);

// Through the runtime, so that the module loads where there is no driver.
Status find_encode(Encode* encode) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry,
                                                                  12000, cudaEnableDefault, &found),
                                 kOp);
#else
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found), kOp);
#endif
  if (found != cudaDriverEntryPointSuccess || entry == nullptr) {
    return Status::error(kOp,
                         ": the driver has no cuTensorMapEncodeTiled; it must be 525 or newer");
  }
  *encode = reinterpret_cast<Encode>(entry);
  return Status::ok();
}

}  // namespace

Status encode(const TensorView& view, CUtensorMap* map) {
  static std::atomic<Encode> known = nullptr;
  Encode encode_tiled = known.load(std::memory_order_relaxed);
  if (encode_tiled == nullptr) {
    JAXDIRECT_RETURN_IF_ERROR(find_encode(&encode_tiled));
    known.store(encode_tiled, std::memory_order_relaxed);
  }
  cuuint64_t extents[5], strides[5];
  cuuint32_t box[5], steps[5];
  for (int axis = 0; axis < view.rank; ++axis) {
    extents[axis] = view.extents[axis];
    if (axis > 0) strides[axis - 1] = view.strides[axis];
    box[axis] = view.box[axis];
    steps[axis] = view.steps[axis];
  }
  const CUresult result =
      encode_tiled(map, view.type, view.rank, const_cast<void*>(view.data), extents, strides, box,
                   steps, CU_TENSOR_MAP_INTERLEAVE_NONE, view.swizzle,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return Status::ok();
  return Status::error(kOp, ": the driver refused a tensor map (CUDA error ",
                       static_cast<int>(result), ")");
}

}  // namespace jaxdirect::conv
