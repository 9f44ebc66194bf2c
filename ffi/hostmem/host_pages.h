#pragma once

// Registration of host pages with the CUDA driver.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/status.h"

namespace jaxdirect::hostmem {

// Pins whole pages and maps them for every GPU of the process. `read_only` is for
// shared file mappings, which the driver pins for reading alone.
Status host_register(uintptr_t address, size_t bytes, bool read_only);
Status host_unregister(uintptr_t address);

// Waits until these GPUs have done what they were given so far. It makes the last one
// the calling thread's GPU: for threads of our own.
Status synchronize(const std::vector<int>& devices);

}  // namespace jaxdirect::hostmem
