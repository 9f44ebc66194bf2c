#pragma once

// The filter's gradient of float32 values on a GPU; see wgrad_split_kernel.cuh.

#include <cuda_runtime_api.h>

#include "common/status.h"
#include "conv/tensor_map.h"
#include "conv/wgrad.h"

namespace jaxdirect::conv {

// Writes the slices' sums to `partial`, [slices, R, S, C, K]. The maps: x in boxes of all 64
// channels, in order; y in boxes of 32 channels, swizzled.
Status launch_wgrad_split(cudaStream_t stream, const CUtensorMap& x, const CUtensorMap& y,
                          const WgradProblem& problem, const WgradTiling& tiling, float* partial);

}  // namespace jaxdirect::conv
