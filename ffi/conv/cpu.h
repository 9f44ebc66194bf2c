#pragma once

// What the conv CPU kernels share, whatever the instruction set.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <vector>

#include "common/cpu.h"
#include "conv/conv.h"
#include "conv/product.h"

namespace jaxdirect::conv {

// Bytes of windows that stay in a core's second-level cache beside what they are multiplied by.
inline constexpr int64_t kWindowBytes = 384 << 10;

// By the widest instructions that this CPU has.
void multiply(const Executor& executor, const Product& product);

// One input channel a group, and enough of them for lanes. Nothing in the arguments is empty.
inline bool is_per_channel(const Shape& shape) {
  return shape.groups == shape.channels && shape.channels >= 4 && shape.group_out_channels() <= 8;
}
void depthwise_fprop(const Executor& executor, const Args& args);
void depthwise_dgrad(const Executor& executor, const Args& args);
void depthwise_wgrad(const Executor& executor, const Args& args);

// Calls body.template operator()<T>() with the C++ type of `type`.
template <typename Body>
void with_type(FloatType type, const Body& body) {
  switch (type) {
    case FloatType::kF16:
      return body.template operator()<Half>();
    case FloatType::kBF16:
      return body.template operator()<BFloat16>();
    default:
      return body.template operator()<float>();
  }
}

// Cuts `count` into pieces of at most `most`, all but the last of one size, a multiple of `unit`.
inline int64_t even_piece(int64_t count, int64_t most, int64_t unit) {
  most = std::max(most, unit);
  if (count <= most) return std::max<int64_t>(count, 1);
  const int64_t pieces = ceil_div(count, most);
  return std::min(round_up(ceil_div(count, pieces), unit), round_up(most, unit));
}

// Where the windows of one row segment lie: slots hold a column each, [taps_h][channels] values.
// A window's columns are neighbours: with dilation, columns of equal remainder come together;
// where windows have little in common each has columns of its own.
class Slots {
 public:
  Slots(const Axis& w, int64_t windows) : axis_(w), windows_(windows) {
    const int64_t reach =
        windows > 0 && w.taps > 0 ? (windows - 1) * w.stride + (w.taps - 1) * w.dilation + 1 : 0;
    run_ = ceil_div(reach, w.dilation);
    own_ = windows * w.taps <= run_ * w.dilation;
    count_ = own_ ? windows * w.taps : run_ * w.dilation;
  }

  int64_t count() const { return count_; }
  // Whether slot i holds column i.
  bool in_order() const { return !own_ && axis_.dilation == 1; }

  // The slot where window i begins.
  int64_t of_window(int64_t i) const {
    if (own_) return i * axis_.taps;
    const int64_t column = i * axis_.stride;
    return column % axis_.dilation * run_ + column / axis_.dilation;
  }

  // The column in a slot, counted from the first window's first.
  int64_t column(int64_t slot) const {
    if (own_) return slot / axis_.taps * axis_.stride + slot % axis_.taps * axis_.dilation;
    if (axis_.dilation == 1) return slot;
    return slot % run_ * axis_.dilation + slot / run_;
  }

 private:
  const Axis& axis_;
  int64_t windows_;
  int64_t run_;
  bool own_;
  int64_t count_;
};

// Some channels of some windows: rows [first_row, end_row) of batch * h.windows by
// [first_window, end_window) of w.windows.
struct Band {
  int64_t first_row = 0, end_row = 0;
  int64_t first_window = 0, end_window = 0;

  int64_t width() const { return end_window - first_window; }
  int64_t windows() const { return (end_row - first_row) * width(); }
};

// The cut of all windows into bands of like size.
struct Bands {
  // Of at most so many windows and values, if a band may be so small.
  Bands(const Product& product, int64_t channels, int64_t most_windows, int64_t most_values)
      : rows_(product.rows()), windows_(product.w.windows) {
    const int64_t column = std::max<int64_t>(product.h.taps * channels, 1);
    constexpr int64_t kLeastWindows = 16;
    width = std::max<int64_t>(windows_, 1);
    while (width > kLeastWindows && Slots(product.w, width).count() * column > most_values) {
      width = std::max(ceil_div(width, 2), kLeastWindows);
    }
    width = std::min(width, even_piece(windows_, std::max(most_windows, kLeastWindows), 8));
    const int64_t values = std::max<int64_t>(Slots(product.w, width).count() * column, 1);
    height = std::clamp<int64_t>(std::min(most_windows / width, most_values / values), 1,
                                 std::max<int64_t>(rows_, 1));
    height = even_piece(rows_, height, 1);
    across = ceil_div(windows_, width);
    count = across * ceil_div(rows_, height);
  }

  Band operator[](int64_t i) const {
    const int64_t row = i / across * height;
    const int64_t window = i % across * width;
    return {row, std::min(row + height, rows_), window, std::min(window + width, windows_)};
  }

  int64_t width, height;  // of the largest
  int64_t across, count;

 private:
  int64_t rows_, windows_;
};

}  // namespace jaxdirect::conv
