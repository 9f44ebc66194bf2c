#pragma once

// Large results on the host: fewer page faults.

#include <cstddef>
#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace jaxdirect {

// Asks for huge pages under a buffer that is about to be written for the first time.
// XLA:CPU allocates large results anew in every call, and at 4 KiB a page the faults
// cost as much as the copy. Advice only: where it is not taken nothing changes.
inline void advise_huge_pages(void* data, int64_t bytes) {
#ifdef __linux__
  constexpr uintptr_t kPage = 4096;
  constexpr int64_t kWorthwhile = int64_t{4} << 20;
  if (bytes < kWorthwhile) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace jaxdirect
