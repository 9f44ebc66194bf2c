#pragma once

// Device side of the choice between given and ordered reading.

#include <cstdint>

#include "hostmem/index_list.h"

namespace jaxdirect::hostmem {

// One sample for each of so many threads of a block, at places that are spread evenly
// and share no period with the list.
inline constexpr int kOrderSamples = 256;

// Called by all threads of a block, with the same answer in every block and kernel:
// whether at least `sampled_reads` of the samples read the table.
__device__ inline bool worth_ordering(const RowIds& list, int sampled_reads) {
  bool reads = false;
  if (threadIdx.x < kOrderSamples) {
    const uint32_t place = threadIdx.x * 2654435769u;  // 2^32 over the golden ratio
    reads = list.reads_table(__umulhi(place, static_cast<uint32_t>(list.count)));
  }
  return __syncthreads_count(reads) >= sampled_reads;
}

// Programmatic dependent launch: what may run before the kernel ahead of this one in
// the stream is done, and what must not. Without it (sm_80) kernels follow one another.
__device__ inline void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ inline void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace jaxdirect::hostmem
