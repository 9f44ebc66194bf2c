#pragma once

// Sums of partial results: out[i] = sum over s of partials[s, i], [slices, size] -> [size].
//
// A block has up to 16 rows of threads, which take one or four neighbouring values each; a row adds
// every rows-th slice in order, then the rows are added in order. Bytes: partials once, from L2 for
// the most part.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "common/cuda.h"

namespace jaxdirect::conv {

inline constexpr int kSumColumns = 32;   // at least
inline constexpr int kSumRows = 16;      // at most
inline constexpr int kSumThreads = 256;  // of few rows

// How many slices there are of the value at `place`.
struct SlicesOfAll {
  int64_t count;

  int64_t most() const { return count; }
  __device__ int64_t operator()(int64_t) const { return count; }
};

// kCount neighbours have equally many slices.
template <typename T, int kCount, typename Slices>
__global__ void __launch_bounds__(kSumColumns* kSumRows)
    add_slices(const float* partials, const __grid_constant__ Slices slices, int64_t size, T* out) {
  struct alignas(sizeof(float) * kCount) Values {
    float at[kCount];
  };
  struct alignas(sizeof(T) * kCount) Results {
    T at[kCount];
  };
  __shared__ Values shared[kSumRows * kSumColumns];
  const int64_t place = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t count = size / kCount;
  const int row = threadIdx.y, rows = blockDim.y, columns = blockDim.x;
  Values total{};
  const auto add = [&](const Values& more) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) total.at[i] += more.at[i];
  };
  if (place < count) {
    const Values* from = reinterpret_cast<const Values*>(partials) + place;
    const int64_t end = slices(place * kCount);
#pragma unroll 4
    for (int64_t s = row; s < end; s += rows) add(from[s * count]);
  }
  if (rows > 1) {
    shared[row * columns + threadIdx.x] = total;
    __syncthreads();
  }
  if (row > 0 || place >= count) return;
  for (int r = 1; r < rows; ++r) add(shared[r * columns + threadIdx.x]);
  Results results;
#pragma unroll
  for (int i = 0; i < kCount; ++i) results.at[i] = T(total.at[i]);
  reinterpret_cast<Results*>(out)[place] = results;
}

template <typename T, typename Slices>
Status sum_uneven_slices(cudaStream_t stream, const float* partials, const Slices& slices,
                         int64_t size, void* out) {
  const int64_t count = size % 4 == 0 ? size / 4 : size;
  // A thread adds four slices or more, if there are.
  const auto rows = static_cast<unsigned>(std::clamp<int64_t>(slices.most() / 4, 1, kSumRows));
  const unsigned columns = std::max<unsigned>(kSumColumns, kSumThreads / rows / 32 * 32);
  const int64_t blocks = ceil_div(count, columns);
  if (blocks > INT32_MAX) {
    return Status::error("conv_general_dilated: the filter needs too many thread blocks");
  }
  const auto kernel = size % 4 == 0 ? add_slices<T, 4, Slices> : add_slices<T, 1, Slices>;
  kernel<<<static_cast<unsigned>(blocks), dim3(columns, rows), 0, stream>>>(partials, slices, size,
                                                                            static_cast<T*>(out));
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), "conv_general_dilated");
  return Status::ok();
}

// The same where there are equally many of all values.
template <typename T>
Status sum_slices(cudaStream_t stream, const float* partials, int64_t slices, int64_t size,
                  void* out) {
  return sum_uneven_slices<T>(stream, partials, SlicesOfAll{slices}, size, out);
}

}  // namespace jaxdirect::conv
