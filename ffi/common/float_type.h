#pragma once

// The floating-point types that kernels are written for.

#include <cstdint>

namespace jaxdirect {

enum class FloatType { kF16, kBF16, kF32, kF64 };

inline int64_t size_of(FloatType type) {
  return type == FloatType::kF64 ? 8 : type == FloatType::kF32 ? 4 : 2;
}

}  // namespace jaxdirect
