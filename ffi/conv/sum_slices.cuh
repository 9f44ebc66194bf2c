#pragma once

// Sums of partial results: out[i] = sum over s of partials[s, i], [slices, size] -> [size].
//
// A block has 32 columns of one or four neighbouring values and up to 16 rows; a row adds every
// rows-th slice in order, then the rows are added in order. Bytes: partials once, from L2 for the
// most part.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "common/cuda.h"

namespace jaxdirect::conv {

inline constexpr int kSumColumns = 32;
inline constexpr int kSumRows = 16;  // at most

template <typename T, int kCount>
__global__ void __launch_bounds__(kSumColumns* kSumRows)
    add_slices(const float* partials, int64_t slices, int64_t size, T* out) {
  struct alignas(sizeof(float) * kCount) Values {
    float at[kCount];
  };
  struct alignas(sizeof(T) * kCount) Results {
    T at[kCount];
  };
  __shared__ Values shared[kSumRows][kSumColumns];
  const int64_t place = int64_t{blockIdx.x} * kSumColumns + threadIdx.x;
  const int64_t count = size / kCount;
  const int row = threadIdx.y, rows = blockDim.y;
  Values total{};
  const auto add = [&](const Values& more) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) total.at[i] += more.at[i];
  };
  if (place < count) {
    const Values* from = reinterpret_cast<const Values*>(partials) + place;
#pragma unroll 4
    for (int64_t s = row; s < slices; s += rows) add(from[s * count]);
  }
  shared[row][threadIdx.x] = total;
  __syncthreads();
  if (row > 0 || place >= count) return;
  for (int r = 1; r < rows; ++r) add(shared[r][threadIdx.x]);
  Results results;
#pragma unroll
  for (int i = 0; i < kCount; ++i) results.at[i] = T(total.at[i]);
  reinterpret_cast<Results*>(out)[place] = results;
}

template <typename T>
Status sum_slices(cudaStream_t stream, const float* partials, int64_t slices, int64_t size,
                  void* out) {
  const int64_t count = size % 4 == 0 ? size / 4 : size;
  const int64_t blocks = ceil_div(count, kSumColumns);
  const dim3 block(kSumColumns, static_cast<unsigned>(std::min<int64_t>(slices, kSumRows)));
  if (blocks > INT32_MAX) {
    return Status::error("conv_general_dilated: the filter needs too many thread blocks");
  }
  const auto kernel = size % 4 == 0 ? add_slices<T, 4> : add_slices<T, 1>;
  kernel<<<static_cast<unsigned>(blocks), block, 0, stream>>>(partials, slices, size,
                                                              static_cast<T*>(out));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), "conv_general_dilated");
  return Status::ok();
}

}  // namespace jaxdirect::conv
