#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "common/cuda.h"
#include "common/host_memory.h"
#include "offload/streams.h"

namespace jaxdirect::offload {

class Event {
 public:
  Event() = default;
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);  // what waits for it goes on waiting
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  Status create() {
    JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming),
                                   "offload");
    return Status::ok();
  }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

namespace {

constexpr const char* kOp = "offload";
constexpr int kThreads = 256;

__global__ void write_words(uint32_t* words, int64_t count, Ticket ticket) {
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < count;
       i += gridDim.x * int64_t{kThreads}) {
    words[i] = static_cast<uint32_t>(i % 2 == 0 ? ticket : ticket >> 32);
  }
}

// Where the ticket is another: sets the flag, and every byte of the value, which makes NaNs.
__global__ void compare(const uint32_t* words, Ticket expected, std::byte* value, int64_t bytes,
                        volatile Ticket* lost) {
  if ((words[0] | Ticket{words[1]} << 32) == expected) return;
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < bytes;
       i += gridDim.x * int64_t{kThreads}) {
    value[i] = std::byte{0xff};
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) *lost = expected;
}

// Written by the GPU when a ticket was another than the one expected; read by later calls.
Status lost_ticket(volatile Ticket** lost) {
  static std::mutex mutex;
  static Ticket* flag = nullptr;
  std::lock_guard<std::mutex> lock(mutex);
  if (flag == nullptr) {
    JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaHostAlloc(&flag, sizeof(Ticket), cudaHostAllocPortable),
                                   kOp);
    *flag = 0;
  }
  *lost = flag;
  return Status::ok();
}

}  // namespace

Status make_stream(StreamHandle* stream) {
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), kOp);
  return Status::ok();
}

Status copy(StreamHandle stream, std::byte* to, const std::byte* from, int64_t bytes) {
  if (bytes == 0) return Status::ok();
  JAXDIRECT_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream), kOp);
  return Status::ok();
}

Status record(StreamHandle stream, EventRef* event) {
  auto made = std::make_shared<Event>();
  JAXDIRECT_RETURN_IF_ERROR(made->create());
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaEventRecord(made->get(), stream), kOp);
  *event = std::move(made);
  return Status::ok();
}

Status wait(StreamHandle stream, const EventRef& event) {
  if (event == nullptr) return Status::ok();
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaStreamWaitEvent(stream, event->get(), 0), kOp);
  return Status::ok();
}

Status synchronize(const EventRef& event) {
  if (event == nullptr) return Status::ok();
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaEventSynchronize(event->get()), kOp);
  return Status::ok();
}

bool has_passed(const EventRef& event) {
  // An error is for who waits.
  return event == nullptr || cudaEventQuery(event->get()) != cudaErrorNotReady;
}

Status allocate_staging(int64_t bytes, std::byte** data) {
  const cudaError_t error = cudaMalloc(data, static_cast<size_t>(bytes));
  if (error == cudaSuccess) return Status::ok();
  cudaGetLastError();
  return Status::error(kOp, ": no ", bytes, " bytes of GPU memory for values on their way (",
                       cudaGetErrorString(error),
                       "); leave some by XLA_PYTHON_CLIENT_MEM_FRACTION below 1");
}

void free_staging(std::byte* data) { cudaFree(data); }

Status map_slab(int64_t bytes, std::byte** data) {
  const auto size = static_cast<size_t>(bytes);
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return Status::error(kOp, ": no ", bytes, " bytes of host memory: ", std::strerror(errno));
  }
  advise_huge_pages(mapped, bytes);
  if (const cudaError_t error = cudaHostRegister(mapped, size, cudaHostRegisterPortable);
      error != cudaSuccess) {
    cudaGetLastError();
    munmap(mapped, size);
    return Status::error(kOp, ": ", bytes,
                         " bytes of host memory cannot be pinned: ", cudaGetErrorString(error),
                         "; see offload.configure(host_limit_bytes=...)");
  }
  *data = static_cast<std::byte*>(mapped);
  return Status::ok();
}

void unmap_slab(std::byte* data, int64_t bytes) {
  cudaHostUnregister(data);
  munmap(data, static_cast<size_t>(bytes));
}

Status write_ticket(StreamHandle stream, std::span<uint32_t> words, Ticket ticket) {
  if (words.empty()) return Status::ok();
  const auto count = static_cast<int64_t>(words.size());
  const int blocks = static_cast<int>(std::min<int64_t>(ceil_div(count, kThreads), 1024));
  write_words<<<blocks, kThreads, 0, stream>>>(words.data(), count, ticket);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

Status check_ticket(StreamHandle stream, std::span<const uint32_t> words, Ticket expected,
                    std::span<std::byte> value) {
  volatile Ticket* lost = nullptr;
  JAXDIRECT_RETURN_IF_ERROR(lost_ticket(&lost));
  if (const Ticket ticket = *lost; ticket != 0) {
    *lost = 0;
    return Status::error(kOp, ": a value was asked for where ticket ",
                         static_cast<long long>(ticket),
                         " was the newest of its place in the program: the backward pass does not "
                         "run in the opposite order; results of that step are NaN");
  }
  const auto bytes = static_cast<int64_t>(value.size());
  const int blocks = static_cast<int>(std::clamp<int64_t>(ceil_div(bytes, kThreads * 64), 1, 64));
  compare<<<blocks, kThreads, 0, stream>>>(words.data(), expected, value.data(), bytes, lost);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), kOp);
  return Status::ok();
}

}  // namespace jaxdirect::offload
