#pragma once

// Choosing a kernel and tiles for a convolution over halo tiles, and launching it.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "common/float_type.h"
#include "common/status.h"
#include "conv/conv.h"
#include "conv/halo.h"

namespace jaxdirect::conv {

// How a kernel finds the filter.
enum class FilterForm {
  kColumnMajor,  // [taps, in_channels, out_channels] as it is
  kDepthMajor,   // [taps, out_channels, in_channels] as it is
  kPacked,       // by pack_filter
};

// What the tensor cores multiply.
enum class Multiplicand { kBF16, kF16, kTF32, kSplitFloat32 };

// Parts of a packed filter's value, their bytes, and values of depth in one chunk.
struct PackedForm {
  int parts, value_bytes, depth;
};

constexpr PackedForm packed_form(Multiplicand multiplicand) {
  return multiplicand == Multiplicand::kTF32 ? PackedForm{1, 4, 32} : PackedForm{3, 2, 32};
}

inline int64_t packed_filter_bytes(Multiplicand multiplicand, int64_t taps, int64_t in_channels,
                                   int64_t out_channels) {
  const PackedForm form = packed_form(multiplicand);
  const int64_t chunks = (in_channels + form.depth - 1) / form.depth;
  return taps * chunks * form.depth * out_channels * form.parts * form.value_bytes;
}

// filter[tap, c, k] to [tap, chunk, part, column, depth of the chunk], zeros past the last channel.
// Columns are k and depth is c, or the other way round for dgrad (`transposed`). kTF32: rounded.
// kSplitFloat32: bf16 parts of falling size, depth in the order in which ldmatrix pairs channels.
Status pack_filter(cudaStream_t stream, Multiplicand multiplicand, const float* filter,
                   int64_t taps, int64_t channels, int64_t out_channels, bool transposed,
                   void* packed);

// One kernel of the family.
struct HaloKernel {
  Multiplicand multiplicand;
  FilterForm form;
  HaloVariant variant;
  const void* function;
};

std::span<const HaloKernel> direct_kernels();  // halo_direct_kernel.cuh

struct HaloCall {
  HaloProblem problem;
  Multiplicand multiplicand = Multiplicand::kBF16;
  FilterForm form = FilterForm::kColumnMajor;
  const void* in = nullptr;      // [batch, in_height, in_width, in_channels]
  const void* filter = nullptr;  // in its form
  void* out = nullptr;           // [batch, store_height, store_width, out_channels]
};

Status launch_halo(cudaStream_t stream, const HaloCall& call);

// For tests: the kernels that can, one by one.
int count_halo_kernels(const HaloCall& call);
Status launch_halo_kernel(cudaStream_t stream, const HaloCall& call, int number);

// What launch_halo would choose for the first (or all) of the images on a GPU with 132
// multiprocessors, at the cost of all of them; rows == 0 if nothing fits.
HaloTiling plan_halo(const HaloCall& call);

}  // namespace jaxdirect::conv
