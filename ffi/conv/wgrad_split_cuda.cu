#include "conv/wgrad_split.h"
#include "conv/wgrad_split_kernel.cuh"

namespace jaxdirect::conv {

WgradKernel wgrad_split_kernel(int parts) {
  return parts == 3 ? wgrad_split_slices<3> : wgrad_split_slices<2>;
}

}  // namespace jaxdirect::conv
