#pragma once

// The filter's gradient of float32 values on a GPU; see wgrad_split_kernel.cuh.

#include <cuda_runtime_api.h>

#include "common/status.h"
#include "conv/tensor_map.h"
#include "conv/wgrad.h"

namespace jaxdirect::conv {

// Writes the slices' sums. The maps: x in boxes of all 64 channels, in order; y in boxes of 32
// channels, swizzled; the sums, [slices R S, C, K], in boxes of 32 x 32, swizzled.
Status launch_wgrad_split(cudaStream_t stream, const CUtensorMap& x, const CUtensorMap& y,
                          const CUtensorMap& sums, const WgradProblem& problem,
                          const WgradTiling& tiling);

}  // namespace jaxdirect::conv
