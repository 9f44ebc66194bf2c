#pragma once

// What every FFI handler needs: the platform's execution context, checks with
// the wording "op: argument must be X, got Y", and the bridge from Status.
//
// A handler file is compiled once for each platform module. JAXDIRECT_CUDA_MODULE
// selects what a launch runs on: XLA's CUDA stream, or XLA's CPU thread pool.

#include <cstdint>
#include <initializer_list>
#include <string>

#include "common/status.h"
#include "xla/ffi/api/ffi.h"

#ifdef JAXDIRECT_CUDA_MODULE
#include <cuda_runtime_api.h>
#else
#include "common/parallel.h"
#endif

namespace jaxdirect {

namespace ffi = xla::ffi;

#ifdef JAXDIRECT_CUDA_MODULE

// What a handler is called with, and what its launch takes.
using NativeContext = cudaStream_t;
using ContextBinding = ffi::PlatformStream<cudaStream_t>;

inline cudaStream_t to_context(cudaStream_t stream) { return stream; }

// XLA may record such a handler into a CUDA graph: it launches the same work for
// the same addresses, and allocates and waits for nothing.
inline constexpr std::initializer_list<ffi::Traits> kRecordable = {
    ffi::Traits::kCmdBufferCompatible};

#else

using NativeContext = ffi::ThreadPool;
using ContextBinding = ffi::ThreadPool;

inline constexpr std::initializer_list<ffi::Traits> kRecordable = {};

inline Executor to_context(ffi::ThreadPool pool) {
  Executor executor;
  executor.num_threads = pool.num_threads() + 1;
  executor.schedule = [pool](std::function<void()> task) mutable {
    pool.Schedule(std::move(task));
  };
  return executor;
}

#endif

inline ffi::Error to_ffi(const Status& status) {
  if (status.is_ok()) return ffi::Error::Success();
  return ffi::Error::InvalidArgument(status.message());
}

inline std::string shape_of(ffi::AnyBuffer buffer) {
  std::string text = "[";
  for (int64_t extent : buffer.dimensions()) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(extent);
  }
  return text + "]";
}

// Products that would leave int64 are refused, because sizes index memory.
inline Status checked_product(const char* op, int64_t a, int64_t b, int64_t* product) {
  if (__builtin_mul_overflow(a, b, product)) {
    return Status::error(op, ": ", a, " * ", b, " overflows a 64-bit size; split the call");
  }
  return Status::ok();
}

inline Status check_rank(const char* op, const char* name, ffi::AnyBuffer buffer, size_t rank) {
  if (buffer.dimensions().size() == rank) return Status::ok();
  return Status::error(op, ": ", name, " must have rank ", rank, ", got shape ", shape_of(buffer));
}

inline Status check_dtype(const char* op, const char* name, ffi::AnyBuffer buffer,
                          ffi::DataType expected, const char* expected_name) {
  if (buffer.element_type() == expected) return Status::ok();
  return Status::error(op, ": ", name, " must have dtype ", expected_name, ", got XLA type ",
                       static_cast<int>(buffer.element_type()));
}

inline Status check_count(const char* op, const char* name, ffi::AnyBuffer buffer,
                          int64_t expected) {
  if (static_cast<int64_t>(buffer.element_count()) == expected) return Status::ok();
  return Status::error(op, ": ", name, " must have ", expected, " elements, got shape ",
                       shape_of(buffer));
}

// Integer indices come as int32 or int64; kernels take a flag instead of a type.
inline Status check_index_dtype(const char* op, const char* name, ffi::AnyBuffer buffer,
                                bool* is_64_bit) {
  const ffi::DataType dtype = buffer.element_type();
  *is_64_bit = dtype == ffi::DataType::S64;
  if (*is_64_bit || dtype == ffi::DataType::S32) return Status::ok();
  return Status::error(op, ": ", name, " must be int32 or int64, got XLA type ",
                       static_cast<int>(dtype), "; cast with ", name, ".astype(\"int32\")");
}

}  // namespace jaxdirect
