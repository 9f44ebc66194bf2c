#include "common/cuda.h"
#include "conv/wgrad_split.h"
#include "conv/wgrad_split_kernel.cuh"

namespace jaxdirect::conv {

Status launch_wgrad_split(cudaStream_t stream, const CUtensorMap& x, const CUtensorMap& y,
                          const CUtensorMap& sums, const WgradProblem& p, const WgradTiling& t) {
  constexpr const char* kOp = "conv_general_dilated";
  const auto kernel = t.parts == 3 ? wgrad_split_slices<3> : wgrad_split_slices<2>;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, t.shared_bytes()),
      kOp);
  const dim3 grid(t.column_blocks, t.chunks, t.slices_of_all());
  kernel<<<grid, kThreads, t.shared_bytes(), stream>>>(x, y, sums, p, t);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

}  // namespace jaxdirect::conv
