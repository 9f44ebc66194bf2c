#pragma once

// What the checks of the relational kernels share: random lists and tiles as a plan has them,
// the same ones spoilt, results between guards, and how far these may be from naive ones.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/float_type.h"
#include "common/half.h"
#include "launcher.h"
#include "relational/lists.h"

namespace jaxdirect::relational::checks {

using testing::Buffer;
using testing::expect;
using testing::Launcher;
using Sizes = std::vector<int64_t>;
using Ints = std::vector<int32_t>;

inline std::mt19937_64 random_bits(0);

inline int64_t uniform(int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random_bits);
}

template <typename... Parts>
std::string join(const Parts&... parts) {
  return Status::error(parts...).message();
}

// Calls body.template operator()<T>(type) for every type there are kernels for.
template <typename Body>
void for_each_type(const Body& body) {
  body.template operator()<float>(FloatType::kF32);
  body.template operator()<BFloat16>(FloatType::kBF16);
  body.template operator()<Half>(FloatType::kF16);
#ifndef JAXDIRECT_CUDA_MODULE
  body.template operator()<double>(FloatType::kF64);
#endif
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

// Sparse lists: some indices lead nowhere.
struct HostLists {
  Ints indptr, indices, items, heavy;
  int64_t num_partials = 0;

  int64_t rows() const { return static_cast<int64_t>(indptr.size()) - 1; }
  int64_t entries() const { return static_cast<int64_t>(indices.size()); }
};

// The most entries of an item, and of a slot.
inline constexpr int64_t kPiece = 64;
inline constexpr int64_t kItemRows = 32;

// Rows of random lengths, a few heavy; `padding` entries belong to no row.
HostLists random_lists(int64_t rows, int64_t most, int64_t targets, int64_t padding = 0);

struct HostTiles {
  Ints nodes, weight_of, weight_tiles, chunks, chunk_indptr;
  HostLists far;

  int64_t count() const { return static_cast<int64_t>(weight_of.size()); }
};

// Tiles whose slots have nodes of their own, in order; the last slots of some are padding.
HostTiles random_tiles(int64_t tiles, int64_t weights, int64_t targets);

// Replaces some numbers by ones that lead outside.
void spoil(Ints* numbers);
void spoil(HostLists* lists);
void spoil(HostTiles* tiles);

// A permutation of [0, count).
Ints permutation(int64_t count);

class DeviceLists {
 public:
  explicit DeviceLists(const HostLists& host)
      : indptr_(host.indptr), indices_(host.indices), items_(host.items), heavy_(host.heavy) {
    lists_.indptr = indptr_.data();
    lists_.indices = indices_.data();
    lists_.items = items_.data();
    lists_.heavy = heavy_.data();
    lists_.num_rows = host.rows();
    lists_.num_entries = host.entries();
    lists_.num_items = static_cast<int64_t>(host.items.size()) / 4;
    lists_.num_heavy = static_cast<int64_t>(host.heavy.size()) / 3;
    lists_.num_partials = host.num_partials;
  }

  const Lists& lists() const { return lists_; }

 private:
  Buffer<int32_t> indptr_, indices_, items_, heavy_;
  Lists lists_;
};

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

// The same with what leads outside: only what it touches is checked.
template <typename T, typename U = float, typename Launch>
void run_spoilt(Launcher& launcher, const char* what, int64_t first_count, int64_t second_count,
                const Launch& launch) {
  Guarded<T> first(first_count);
  Guarded<U> second(second_count);
  const Status status = launch(launcher.context(1), first.data(), second.data());
  expect(status.is_ok(), what, status.message());
  launcher.wait();
  first.read(what);
  second.read(what);
}

void check_linear(Launcher& launcher, bool quick);
void check_outer(Launcher& launcher, bool quick);
void check_sum(Launcher& launcher, bool quick);
void check_attention(Launcher& launcher, bool quick);
void check_attention_backward(Launcher& launcher, bool quick);
void check_softmax(Launcher& launcher, bool quick);
void check_largest(Launcher& launcher, bool quick);

}  // namespace jaxdirect::relational::checks
