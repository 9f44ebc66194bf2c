#pragma once

// Descriptors for the GPU's tensor copy engine.

#include <cuda.h>

#include <cstdint>

#include "common/status.h"

namespace jaxdirect::conv {

// A tensor of up to five axes, the fastest first. strides[0] is one value.
struct TensorView {
  const void* data = nullptr;
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  int rank = 0;
  int64_t extents[5] = {};
  int64_t strides[5] = {};         // in bytes
  int box[5] = {};                 // what one copy spans; outside of the tensor it brings zeros
  int steps[5] = {1, 1, 1, 1, 1};  // of the values that it takes of the box
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
};

Status encode(const TensorView& view, CUtensorMap* map);

}  // namespace jaxdirect::conv
