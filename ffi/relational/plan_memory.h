#pragma once

// Vectors for gigabytes: not zeroed before they are filled, aligned so that JAX's CPU backend
// takes them without a copy, on huge pages where the system has them.

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace jaxdirect::relational {

template <typename T>
struct PlanAllocator {
  using value_type = T;

  PlanAllocator() = default;
  template <typename U>
  PlanAllocator(const PlanAllocator<U>&) {}  // NOLINT: conversions are what allocators are for

  T* allocate(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    void* memory = ::operator new(bytes, alignment(count));
#ifdef MADV_HUGEPAGE
    if (is_huge(count)) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t count) { ::operator delete(memory, alignment(count)); }

  // resize() leaves new numbers as they are.
  template <typename U, typename... Args>
  void construct(U* place, Args&&... args) {
    if constexpr (sizeof...(Args) > 0) {
      ::new (static_cast<void*>(place)) U(std::forward<Args>(args)...);
    } else {
      static_assert(std::is_trivially_default_constructible_v<U>);
      ::new (static_cast<void*>(place)) U;
    }
  }

  bool operator==(const PlanAllocator&) const { return true; }

 private:
  static constexpr std::size_t kLine = 64;
  static constexpr std::size_t kHugePage = 2 << 20;

  static bool is_huge(std::size_t count) { return count * sizeof(T) >= 4 * kHugePage; }
  static std::align_val_t alignment(std::size_t count) {
    return std::align_val_t(is_huge(count) ? kHugePage : kLine);
  }
};

template <typename T>
using PlanVector = std::vector<T, PlanAllocator<T>>;

}  // namespace jaxdirect::relational
