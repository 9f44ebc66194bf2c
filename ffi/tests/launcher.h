#pragma once

// Memory and an execution context for checks of launch code, CPU or CUDA.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "common/status.h"

#ifdef JAXDIRECT_CUDA_MODULE
#include <cuda_runtime_api.h>
#else
#include <functional>
#include <mutex>
#include <thread>

#include "common/parallel.h"
#endif

namespace jaxdirect::testing {

inline int failures = 0;

inline void expect(bool condition, const char* what, const std::string& detail) {
  if (condition) return;
  ++failures;
  std::fprintf(stderr, "FAILED %s: %s\n", what, detail.c_str());
}

enum class Place { kHost, kDevice };

#ifdef JAXDIRECT_CUDA_MODULE

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  std::exit(2);
}

class Launcher {
 public:
  Launcher() { check(cudaStreamCreate(&stream_)); }
  ~Launcher() { cudaStreamDestroy(stream_); }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;
  cudaStream_t context(int64_t = 0) const { return stream_; }
  void wait() { check(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

inline void* allocate(size_t bytes, Place place) {
  void* data = nullptr;
  check(place == Place::kHost ? cudaMallocHost(&data, bytes) : cudaMalloc(&data, bytes));
  return data;
}
inline void release(void* data, Place place) {
  check(place == Place::kHost ? cudaFreeHost(data) : cudaFree(data));
}
inline void copy(void* to, const void* from, size_t bytes) {
  check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
}

#else

// An executor whose every task gets a thread of its own.
class Launcher {
 public:
  ~Launcher() { wait(); }
  Executor context(int64_t num_threads = 4) {
    Executor executor;
    executor.num_threads = num_threads;
    executor.schedule = [this](std::function<void()> task) {
      std::lock_guard<std::mutex> lock(mutex_);
      threads_.emplace_back(std::move(task));
    };
    return executor;
  }
  void wait() {
    std::lock_guard<std::mutex> lock(mutex_);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

inline void* allocate(size_t bytes, Place) { return std::malloc(bytes); }
inline void release(void* data, Place) { std::free(data); }
inline void copy(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

#endif

// A copy of `values` that starts `offset` bytes into an allocation of exactly its size,
// so that a sanitizer sees the first byte read or written past it.
template <typename T>
class Buffer {
 public:
  explicit Buffer(const std::vector<T>& values, Place place = Place::kDevice, size_t offset = 0)
      : count_(values.size()), offset_(offset), place_(place) {
    base_ = static_cast<std::byte*>(allocate(offset + count_ * sizeof(T), place));
    if (count_ > 0) testing::copy(base_ + offset_, values.data(), count_ * sizeof(T));
  }
  ~Buffer() { release(base_, place_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return reinterpret_cast<T*>(base_ + offset_); }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    if (count_ > 0) testing::copy(values.data(), base_ + offset_, count_ * sizeof(T));
    return values;
  }

 private:
  size_t count_;
  size_t offset_;
  Place place_;
  std::byte* base_ = nullptr;
};

}  // namespace jaxdirect::testing
