#pragma once

// Small helpers for CUDA launch code.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/integers.h"
#include "common/status.h"

#define JAXDIRECT_RETURN_IF_CUDA_ERROR(expression, what)                                  \
  do {                                                                                    \
    const cudaError_t jaxdirect_error = (expression);                                     \
    if (jaxdirect_error != cudaSuccess) {                                                 \
      return ::jaxdirect::Status::error(what, ": ", cudaGetErrorString(jaxdirect_error)); \
    }                                                                                     \
  } while (false)

namespace jaxdirect {

// Where the handler finds a buffer decides how it is read: programs that were
// compiled ahead of time do not carry the memory space.
inline Status is_host_memory(const char* op, const char* name, const void* pointer, bool* host) {
  cudaPointerAttributes attributes{};
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPointerGetAttributes(&attributes, pointer), op);
  if (attributes.type == cudaMemoryTypeUnregistered) {
    return Status::error(op, ": ", name,
                         " must be GPU memory or pinned host memory, got pageable host memory; "
                         "make it readable with jaxdirect.unified");
  }
  *host = attributes.type == cudaMemoryTypeHost;
  return Status::ok();
}

}  // namespace jaxdirect
