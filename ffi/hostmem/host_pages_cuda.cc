#include "common/cuda.h"
#include "hostmem/host_pages.h"

namespace jaxdirect::hostmem {
namespace {

// Another thread may be recording a CUDA graph; calls made here are none of its business.
class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace

Status host_register(uintptr_t address, size_t bytes, bool read_only) {
  RelaxedCapture relaxed;
  const unsigned flags = cudaHostRegisterMapped | cudaHostRegisterPortable |
                         (read_only ? cudaHostRegisterReadOnly : 0u);
  const cudaError_t error = cudaHostRegister(reinterpret_cast<void*>(address), bytes, flags);
  if (error == cudaSuccess) return Status::ok();
  cudaGetLastError();  // the error is not sticky; leave none behind for others
  return Status::error("unified: the CUDA driver could not pin ", bytes,
                       " bytes: ", cudaGetErrorString(error),
                       "; check free memory, `ulimit -l`, and that nobody else pinned them");
}

Status host_unregister(uintptr_t address) {
  RelaxedCapture relaxed;
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaHostUnregister(reinterpret_cast<void*>(address)),
                                 "unified: unpinning failed");
  return Status::ok();
}

Status synchronize(const std::vector<int>& devices) {
  RelaxedCapture relaxed;
  for (int device : devices) {
    JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaSetDevice(device), "unified: choosing a GPU failed");
    JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaDeviceSynchronize(), "unified: waiting for a GPU failed");
  }
  return Status::ok();
}

}  // namespace jaxdirect::hostmem
