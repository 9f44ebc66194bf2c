#pragma once

// 16-bit floats on the host, as storage that converts to and from float.

#include <bit>
#include <cstdint>

namespace jaxdirect {

struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto wide = std::bit_cast<uint32_t>(value);
    if ((wide & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((wide >> 16) | 0x40u);  // a NaN stays one
    } else {
      bits = static_cast<uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16);
    }
  }
  explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

// IEEE binary16. GCC's _Float16 needs SSE2 and converts with round-to-nearest-even.
struct Half {
  _Float16 value = 0;

  Half() = default;
  explicit Half(float wide) : value(static_cast<_Float16>(wide)) {}
  explicit operator float() const { return static_cast<float>(value); }
};

}  // namespace jaxdirect
