#pragma once

// What the CPU kernels share, whatever the family and the instruction set.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

#include "common/float_type.h"
#include "common/half.h"
#include "common/host_memory.h"
#include "common/integers.h"
#include "common/parallel.h"

namespace jaxdirect {

// What numbers of type T are summed in.
template <typename T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Room for numbers on cache lines of their own, not set.
template <typename S>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<S*>(
            ::operator new(static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(S), kLine))) {}
  ~Scratch() { ::operator delete(data_, kLine); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  S* data() const { return data_; }
  S& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr std::align_val_t kLine{64};
  S* data_;
};

}  // namespace jaxdirect
