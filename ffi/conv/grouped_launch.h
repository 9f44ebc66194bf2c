#pragma once

// What the launches of the grouped kernels share: tensor maps of blocks of groups, and plans.

#include <array>
#include <map>
#include <mutex>
#include <tuple>

#include "common/cuda.h"
#include "conv/grouped.h"
#include "conv/tensor_map.h"

namespace jaxdirect::conv {

inline constexpr double kGroupedTicksPerMicrosecond = 1755;  // under load

struct GroupedWork {
  bool covered = false;
  GroupedTiling tiling;
};

// tile(&tiling), once for each shape and type; a pass has a function, and so a list, of its own.
template <typename Tile>
GroupedWork plan_grouped_once(const Shape& s, FloatType type, const Tile& tile) {
  using Key = std::tuple<std::array<int64_t, 16>, FloatType>;
  static std::mutex mutex;
  static std::map<Key, GroupedWork> known;
  const Key key{{s.batch, s.height, s.width, s.channels, s.out_height, s.out_width, s.out_channels,
                 s.filter_height, s.filter_width, s.stride_h, s.stride_w, s.pad_h, s.pad_w,
                 s.dilation_h, s.dilation_w, s.groups},
                type};
  std::lock_guard<std::mutex> lock(mutex);
  if (known.size() >= 1024) known.clear();
  auto [found, fresh] = known.try_emplace(key);
  if (fresh && s.x_size() > 0 && s.y_size() > 0 && s.filter_size() > 0) {
    found->second.covered = tile(&found->second.tiling);
  }
  return found->second;
}

struct GroupedBox {
  int bytes, width, height, images;
};

// [batch, height, width, channels], of which one copy moves a box.
inline TensorView grouped_view(const void* data, FloatType type, int64_t batch, int64_t height,
                               int64_t width, int64_t channels, const GroupedBox& box) {
  const int64_t bytes = size_of(type), pixel = channels * bytes, row = pixel * width;
  return {.data = data,
          .type = type == FloatType::kBF16  ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                  : type == FloatType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                            : CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
          .rank = 4,
          .extents = {channels, width, height, batch},
          .strides = {bytes, pixel, row, row * height},
          .box = {box.bytes / static_cast<int>(bytes), box.width, box.height, box.images},
          .swizzle = box.bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B  // as swizzle_mask has it
                     : box.bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                     : box.bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                                       : CU_TENSOR_MAP_SWIZZLE_NONE};
}

// A kernel whose only argument is its struct of arguments.
inline Status launch_grouped(cudaStream_t stream, const void* kernel, void* args,
                             const GroupedTiling& t) {
  constexpr const char* kOp = "conv_general_dilated";
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, t.shared_bytes()),
      kOp);
  void* arguments[] = {args};
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaLaunchKernel(kernel, dim3(t.slots * t.block.blocks), dim3(kGroupedThreads), arguments,
                       t.shared_bytes(), stream),
      kOp);
  return Status::ok();
}

}  // namespace jaxdirect::conv
