// The window order of Im2win (arXiv 2306.14316) for one instruction set; see each_target.h.
// No include guard.
//
// A row of windows needs taps_h rows of the image. They are re-ordered to [column][tap][channel],
// zeros where the image ends, so that a window is one run of taps_w * taps_h * channels values and
// neighbours share all but `stride` columns.

#include "conv/tile_target.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {
namespace {

inline void zero_values(float* to, int64_t count) {
  std::memset(to, 0, static_cast<size_t>(count) * sizeof(float));
}

// Widens.
template <typename T>
inline void copy_values(float* to, const T* from, int64_t count) {
  constexpr int64_t L = kLanes<float>;
  int64_t i = 0;
  for (; i + L <= count; i += L) store<float>(to + i, load(from + i));
  if (i < count) store_part<float>(to + i, load_part(from + i, count - i), count - i);
}

// Narrows; whole vectors may be read.
template <typename T>
inline void narrow_values(T* to, const float* from, int64_t count) {
  for (int64_t i = 0; i < count; i += kLane) {
    if (count - i >= kLane) {
      store<T>(to + i, load(from + i));
    } else {
      store_part<T>(to + i, load(from + i), count - i);
    }
  }
}

template <typename T>
class WindowOrder {
 public:
  explicit WindowOrder(const Product& product) : product_(product), rows_(product.h.taps) {}

  // Values for a row of so many windows.
  int64_t row_values(int64_t windows, int64_t channels) const {
    return Slots(product_.w, windows).count() * product_.h.taps * channels;
  }

  // Rows of the band follow one another in `to`.
  void operator()(const Band& band, int64_t first_channel, int64_t channels, float* to) {
    const Slots slots(product_.w, band.width());
    for (int64_t row = band.first_row; row < band.end_row; ++row) {
      find_rows(row, first_channel);
      to = order_row(slots, band.first_window, channels, to);
    }
  }

 private:
  void find_rows(int64_t row, int64_t first_channel) {
    const Axis& h = product_.h;
    const int64_t n = row / h.windows;
    const int64_t top = row % h.windows * h.stride - h.pad;
    for (int64_t tap = 0; tap < h.taps; ++tap) {
      const int64_t at = top + tap * h.dilation;
      const int64_t pixel = (n * h.in_size + at) * product_.w.in_size;
      rows_[tap] = at >= 0 && at < h.in_size ? static_cast<const T*>(product_.image) +
                                                   pixel * product_.image_pixel + first_channel
                                             : nullptr;
    }
  }

  float* order_row(const Slots& slots, int64_t first_window, int64_t channels, float* to) const {
    const Axis& w = product_.w;
    const int64_t left = first_window * w.stride - w.pad;
    const auto taps = static_cast<int64_t>(rows_.size());
    if (slots.in_order() && channels < kLane) {
      return order_few_channels(slots.count(), left, channels, to);
    }
    for (int64_t slot = 0; slot < slots.count(); ++slot) {
      const int64_t at = left + slots.column(slot);
      if (at < 0 || at >= w.in_size) {
        zero_values(to, taps * channels);
        to += taps * channels;
        continue;
      }
      for (int64_t tap = 0; tap < taps; ++tap, to += channels) {
        if (rows_[tap] == nullptr) {
          zero_values(to, channels);
        } else {
          copy_values(to, rows_[tap] + at * product_.image_pixel, channels);
        }
      }
    }
    return to;
  }

  // Less than a vector a pixel: tap by tap, so that all but the addresses stays the same.
  float* order_few_channels(int64_t count, int64_t left, int64_t channels, float* to) const {
    const auto taps = static_cast<int64_t>(rows_.size());
    const int64_t column = taps * channels;
    const int64_t begin = std::clamp<int64_t>(-left, 0, count);
    const int64_t end = std::clamp<int64_t>(product_.w.in_size - left, begin, count);
    zero_values(to, begin * column);
    zero_values(to + end * column, (count - end) * column);
    for (int64_t tap = 0; tap < taps; ++tap) {
      float* at = to + begin * column + tap * channels;
      const T* from = rows_[tap];
      if (from == nullptr) {
        for (int64_t i = begin; i < end; ++i, at += column) {
          store_part<float>(at, Vec<float>{}, channels);
        }
        continue;
      }
      from += (left + begin) * product_.image_pixel;
      for (int64_t i = begin; i < end; ++i, at += column, from += product_.image_pixel) {
        store_part<float>(at, load_part(from, channels), channels);
      }
    }
    return to + count * column;
  }

  const Product& product_;
  std::vector<const T*> rows_;
};

}  // namespace
}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
