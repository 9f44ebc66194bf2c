#pragma once

// What the checks of all families' kernels share: random numbers, results between guards, and how
// far these may be from naive ones.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "common/float_type.h"
#include "common/half.h"
#include "launcher.h"

namespace jaxdirect::testing {

inline std::mt19937_64 random_bits(0);

inline int64_t uniform(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random_bits);
}

template <typename... Parts>
std::string join(const Parts&... parts) {
  return Status::error(parts...).message();
}

template <typename T>
double widen(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return value;
  } else {
    return static_cast<float>(value);
  }
}

template <typename T>
T narrow(double value) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    return T(static_cast<float>(value));
  }
}

// The distance of 1 to the next number.
template <typename T>
double spacing() {
  if constexpr (std::is_same_v<T, BFloat16>) return 0x1p-7;
  if constexpr (std::is_same_v<T, Half>) return 0x1p-10;
  if constexpr (std::is_same_v<T, float>) return 0x1p-23;
  return 0x1p-52;
}

// The distance of 0 to the next number that is kept.
template <typename T>
double least() {
  return std::is_same_v<T, Half> ? 0x1p-24 : 1e-30;
}

template <typename T>
using SumType = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
std::vector<T> random_values(int64_t count, double scale = 1) {
  std::vector<T> values(count);
  for (T& value : values) value = narrow<T>(scale * static_cast<double>(uniform(-64, 64)) / 64);
  return values;
}

// A sum and that of its terms' magnitudes, which bounds what rounding does to it.
struct Exact {
  double value = 0;
  double magnitude = 0;

  void add(double term, double weight = 1) {
    value += term * weight;
    magnitude += std::fabs(term * weight);
  }
};

// True where `got` is as near as a sum of T in its SumType can be; `loose` spacings of T more.
template <typename T>
bool is_close(T got, const Exact& want, double loose = 0) {
  const double tolerance = spacing<T>() * (std::fabs(want.value) + loose * want.magnitude) +
                           32 * spacing<SumType<T>>() * want.magnitude + least<T>();
  return std::fabs(widen(got) - want.value) <= tolerance;
}

// Numbers for a kernel to write, between others that it must leave alone.
template <typename T>
class Guarded {
 public:
  explicit Guarded(int64_t count) : count_(count), buffer_(pattern(count)) {}

  T* data() { return reinterpret_cast<T*>(buffer_.data() + kGuard); }

  std::vector<T> read(const char* what) {
    const std::vector<uint8_t> bytes = buffer_.read();
    const auto untouched = [&](size_t begin, size_t end) {
      return std::all_of(bytes.begin() + begin, bytes.begin() + end,
                         [](uint8_t byte) { return byte == kPattern; });
    };
    expect(untouched(0, kGuard) && untouched(bytes.size() - kGuard, bytes.size()), what,
           "wrote outside of its result");
    std::vector<T> values(count_);
    if (count_ > 0) {
      std::memcpy(static_cast<void*>(values.data()), bytes.data() + kGuard, count_ * sizeof(T));
    }
    return values;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr uint8_t kPattern = 0xee;
  static std::vector<uint8_t> pattern(int64_t count) {
    return std::vector<uint8_t>(count * sizeof(T) + 2 * kGuard, kPattern);
  }

  int64_t count_;
  Buffer<uint8_t> buffer_;
};

template <typename T, typename U>
struct Results {
  std::vector<T> first;
  std::vector<U> second;
};

// Runs launch(context, T* first, U* second) with one thread and with several: the results must
// have the same bits.
template <typename T, typename U = float, typename Launch>
Results<T, U> run(Launcher& launcher, const char* what, int64_t first_count, int64_t second_count,
                  const Launch& launch) {
  Results<T, U> results[2];
  for (const int i : {0, 1}) {
    Guarded<T> first(first_count);
    Guarded<U> second(second_count);
    const Status status = launch(launcher.context(i == 0 ? 1 : 4), first.data(), second.data());
    expect(status.is_ok(), what, status.message());
    launcher.wait();
    results[i] = {first.read(what), second.read(what)};
  }
  const auto same = [](const auto& a, const auto& b) {
    return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
  };
  expect(same(results[0].first, results[1].first) && same(results[0].second, results[1].second),
         what, "another number of threads gives other bits");
  return results[0];
}

}  // namespace jaxdirect::testing
