#pragma once

// The filter's gradient of float32 values on a GPU; see wgrad_split_kernel.cuh.

#include "conv/tensor_map.h"
#include "conv/wgrad.h"

namespace jaxdirect::conv {

// Writes the slices' sums. The maps of float32: x in boxes of all 64 channels, in order; y in boxes
// of 32 channels, swizzled. The sums, [slices R S, C, K], in boxes of 32 x 32, swizzled.
using WgradKernel = void (*)(CUtensorMap x, CUtensorMap y, CUtensorMap sums, WgradProblem,
                             WgradTiling);

WgradKernel wgrad_split_kernel(int parts);

}  // namespace jaxdirect::conv
