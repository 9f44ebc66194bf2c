#include "conv/halo_direct_kernel.cuh"
#include "conv/halo_launch.h"

namespace jaxdirect::conv {
namespace {

using BF16 = __nv_bfloat16;
using F16 = __half;
using enum FilterForm;
using enum Multiplicand;
using enum HaloVariant::Reading;

template <typename T, int kBlocks, int kColumns, FilterForm kForm, bool kResident = false>
HaloKernel kernel(Multiplicand multiplicand) {
  constexpr int kBytes = sizeof(typename StoredAs<T>::Type);
  constexpr int kRows = kBlocks * (kResident ? 64 : 128);
  return {multiplicand, kForm,
          HaloVariant{kRows, kColumns, kBytes, kBytes, kColumns / 2.0,
                      kResident ? kResidentFilter : kDescriptors},
          reinterpret_cast<const void*>(
              halo_conv_direct<T, kBlocks, kColumns, kForm == kColumnMajor, kResident>)};
}

// Blocks of 64 pixels a warpgroup, columns, the filter's form, whether it stays.
const HaloKernel kKernels[] = {
    kernel<BF16, 1, 64, kColumnMajor>(kBF16),
    kernel<BF16, 2, 64, kColumnMajor>(kBF16),
    kernel<BF16, 1, 128, kColumnMajor>(kBF16),
    kernel<BF16, 2, 128, kColumnMajor>(kBF16),
    kernel<BF16, 2, 64, kColumnMajor, true>(kBF16),
    kernel<BF16, 2, 128, kColumnMajor, true>(kBF16),
    kernel<BF16, 1, 64, kDepthMajor>(kBF16),
    kernel<BF16, 2, 64, kDepthMajor>(kBF16),
    kernel<BF16, 1, 96, kDepthMajor>(kBF16),
    kernel<BF16, 2, 96, kDepthMajor>(kBF16),
    kernel<BF16, 1, 128, kDepthMajor>(kBF16),
    kernel<BF16, 2, 128, kDepthMajor>(kBF16),
    kernel<BF16, 2, 64, kDepthMajor, true>(kBF16),
    kernel<BF16, 2, 128, kDepthMajor, true>(kBF16),
    kernel<F16, 1, 64, kColumnMajor>(kF16),
    kernel<F16, 2, 64, kColumnMajor>(kF16),
    kernel<F16, 1, 128, kColumnMajor>(kF16),
    kernel<F16, 2, 128, kColumnMajor>(kF16),
    kernel<F16, 2, 64, kColumnMajor, true>(kF16),
    kernel<F16, 2, 128, kColumnMajor, true>(kF16),
    kernel<F16, 1, 64, kDepthMajor>(kF16),
    kernel<F16, 2, 64, kDepthMajor>(kF16),
    kernel<F16, 1, 96, kDepthMajor>(kF16),
    kernel<F16, 2, 96, kDepthMajor>(kF16),
    kernel<F16, 1, 128, kDepthMajor>(kF16),
    kernel<F16, 2, 128, kDepthMajor>(kF16),
    kernel<F16, 2, 64, kDepthMajor, true>(kF16),
    kernel<F16, 2, 128, kDepthMajor, true>(kF16),
    kernel<Tf32, 1, 64, kPacked>(kTF32),
    kernel<Tf32, 2, 64, kPacked>(kTF32),
    kernel<Tf32, 1, 96, kPacked>(kTF32),
    kernel<Tf32, 2, 96, kPacked>(kTF32),
    kernel<Tf32, 1, 128, kPacked>(kTF32),
    kernel<Tf32, 2, 128, kPacked>(kTF32),
};

}  // namespace

std::span<const HaloKernel> direct_kernels() { return kKernels; }

}  // namespace jaxdirect::conv
