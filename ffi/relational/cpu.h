#pragma once

// What the relational CPU kernels share, whatever the instruction set.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <vector>

#include "common/cpu.h"
#include "common/status.h"
#include "relational/lists.h"

namespace jaxdirect::relational {

// The entries of a row, within bounds whatever indptr says.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
};

inline Range entries_of(const Lists& lists, int64_t row) {
  Range range;
  range.begin = std::clamp<int64_t>(lists.indptr[row], 0, lists.num_entries);
  range.end = std::clamp<int64_t>(lists.indptr[row + 1], range.begin, lists.num_entries);
  return range;
}

inline bool in_range(int64_t index, int64_t count) { return index >= 0 && index < count; }

// Calls body(first row, last row) on all threads, with pieces of a few thousand entries.
template <typename Body>
void for_each_rows(const Executor& executor, const Lists& lists, const Body& body) {
  constexpr int64_t kPieceEntries = 1 << 11;
  constexpr int64_t kPiecesPerThread = 16;
  const int64_t work = lists.num_entries + lists.num_rows;
  const int64_t pieces =
      std::clamp<int64_t>(work / kPieceEntries, 1, kPiecesPerThread * executor.num_threads);
  parallel_for(executor, lists.num_rows, ceil_div(lists.num_rows, pieces), body);
}

// The row of a slot, or null.
template <typename T>
const T* slot_row(const SlotRows& rows, int64_t dim, int64_t slot, const int32_t* nodes) {
  const int64_t row = rows.by_node || nodes[slot] < 0 ? nodes[slot] : slot - rows.first_slot;
  return in_range(row, rows.num_rows) ? static_cast<const T*>(rows.data) + row * dim : nullptr;
}

inline void fill_zero(const Executor& executor, void* data, int64_t bytes) {
  constexpr int64_t kPieceBytes = int64_t{2} << 20;
  parallel_for(executor, bytes, kPieceBytes, [&](int64_t begin, int64_t end) {
    std::memset(static_cast<std::byte*>(data) + begin, 0, static_cast<size_t>(end - begin));
  });
}

// Asks for rows before they are read.
class Prefetch {
 public:
  explicit Prefetch(int64_t row_bytes)
      : lines_(std::clamp<int64_t>(ceil_div(row_bytes, kLine), 1, kMostLines)),
        ahead_(std::max<int64_t>(kLinesAhead / lines_, kLeastAhead)) {}

  // How many rows before.
  int64_t ahead() const { return ahead_; }

  void operator()(const void* row) const {
    for (int64_t i = 0; i < lines_; ++i) {
      __builtin_prefetch(static_cast<const std::byte*>(row) + i * kLine);
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  static constexpr int64_t kLinesAhead = 32;  // what a core's miss buffers hold, and a little more
  static constexpr int64_t kLeastAhead = 4;
  static constexpr int64_t kMostLines = 8;
  int64_t lines_;
  int64_t ahead_;
};

// Calls body.template operator()<T>() with the C++ type of `type`.
template <typename Body>
void with_type(FloatType type, const Body& body) {
  switch (type) {
    case FloatType::kF16:
      return body.template operator()<Half>();
    case FloatType::kBF16:
      return body.template operator()<BFloat16>();
    case FloatType::kF32:
      return body.template operator()<float>();
    case FloatType::kF64:
      return body.template operator()<double>();
  }
}

}  // namespace jaxdirect::relational
