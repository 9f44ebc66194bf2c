// Filters for the kernels that read them as rows of depth; see halo_launch.h. One thread a value;
// bytes: the filter once, the packed form once.

#include <cuda_bf16.h>

#include "common/cuda.h"
#include "conv/halo_launch.h"

namespace jaxdirect::conv {
namespace {

constexpr int kPackThreads = 256;
constexpr int kDepth = 32;

// The channel at a place of a chunk of split values: an operand pair holds the same lane's values
// of two neighbouring 16-byte pieces, each of four channels.
__device__ int paired_channel(int place) {
  const int step = place / 16, k = place % 16;
  return 16 * step + 8 * (k / 8) + 4 * (k % 2) + k % 8 / 2;
}

__device__ float round_to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}

template <bool kSplit>
__global__ void pack(const float* filter, int channels, int out_channels, bool transposed,
                     int64_t count, void* packed) {
  const int64_t index = int64_t{blockIdx.x} * kPackThreads + threadIdx.x;
  if (index >= count) return;
  const int depth_channels = transposed ? out_channels : channels;
  const int columns = transposed ? channels : out_channels;
  const int chunks = (depth_channels + kDepth - 1) / kDepth;
  const int place = index % kDepth;
  const int column = index / kDepth % columns;
  const int64_t tap_chunk = index / kDepth / columns;
  const int chunk = tap_chunk % chunks;
  const int64_t tap = tap_chunk / chunks;
  const int depth = chunk * kDepth + (kSplit ? paired_channel(place) : place);
  const int c = transposed ? column : depth, k = transposed ? depth : column;
  const float value =
      depth < depth_channels ? filter[(tap * channels + c) * out_channels + k] : 0.f;
  if constexpr (kSplit) {
    const int64_t part = int64_t{columns} * kDepth;
    __nv_bfloat16* to =
        static_cast<__nv_bfloat16*>(packed) + tap_chunk * 3 * part + column * kDepth + place;
    float rest = value;
#pragma unroll
    for (int p = 0; p < 3; ++p) {
      to[p * part] = __float2bfloat16_rn(rest);
      rest -= __bfloat162float(to[p * part]);
    }
  } else {
    static_cast<float*>(packed)[index] = round_to_tf32(value);
  }
}

}  // namespace

Status pack_filter(cudaStream_t stream, Multiplicand multiplicand, const float* filter,
                   int64_t taps, int64_t channels, int64_t out_channels, bool transposed,
                   void* packed) {
  const int64_t depth = transposed ? out_channels : channels;
  const int64_t columns = transposed ? channels : out_channels;
  const int64_t count = taps * ceil_div(depth, kDepth) * kDepth * columns;
  if (count == 0) return Status::ok();
  const auto kernel = multiplicand == Multiplicand::kSplitFloat32 ? pack<true> : pack<false>;
  kernel<<<ceil_div(count, kPackThreads), kPackThreads, 0, stream>>>(
      filter, static_cast<int>(channels), static_cast<int>(out_channels), transposed, count,
      packed);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), "conv_general_dilated: filter");
  return Status::ok();
}

}  // namespace jaxdirect::conv
