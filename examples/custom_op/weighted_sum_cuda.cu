#include <algorithm>

#include "jaxdirect/common/cuda.h"
#include "weighted_sum.h"

namespace example {
namespace {

constexpr int kThreads = 128;

// One block per batch row, one thread per column: a warp reads 128 bytes of a table
// row at once, from wherever the table lives.
__global__ void weighted_sum_kernel(WeightedSumArgs args) {
  for (int64_t i = blockIdx.x; i < args.batch; i += gridDim.x) {
    for (int64_t d = threadIdx.x; d < args.dim; d += blockDim.x) {
      float sum = 0;
      for (int64_t j = i * args.picks; j < (i + 1) * args.picks; ++j) {
        const int64_t id = args.ids[j];
        if (id >= 0 && id < args.num_rows) sum += args.weights[j] * args.table[id * args.dim + d];
      }
      args.out[i * args.dim + d] = sum;
    }
  }
}

}  // namespace

jaxdirect::Status weighted_sum(Context stream, const WeightedSumArgs& args) {
  // Pageable memory is refused here, with a remedy, instead of faulting in the kernel.
  bool on_host = false;
  JAXDIRECT_RETURN_IF_ERROR(
      jaxdirect::is_host_memory("weighted_sum", "table", args.table, &on_host));
  if (args.batch == 0 || args.dim == 0) return jaxdirect::Status::ok();
  const auto blocks = static_cast<int>(std::min<int64_t>(args.batch, 65536));
  weighted_sum_kernel<<<blocks, kThreads, 0, stream>>>(args);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaGetLastError(), "weighted_sum");
  return jaxdirect::Status::ok();
}

}  // namespace example
