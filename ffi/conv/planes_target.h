// Image rows for convolutions with one input channel a group; see each_target.h.
// No include guard.
//
// Rows that are not whole vectors of float32 are put into planes and widened first; others are read
// where they lie.

#include "conv/windows_target.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {
namespace {

// A piece of work: a row of windows, or some, of some channels.
struct DepthwisePieces {
  explicit DepthwisePieces(const Product& product, int64_t channels)
      : width(even_piece(product.w.windows, 256, 8)),
        chunk(even_piece(channels, 128, 16)),
        across(ceil_div(product.w.windows, width)),
        chunks(ceil_div(channels, chunk)) {}

  int64_t count(int64_t rows) const { return rows * across * chunks; }

  int64_t width, chunk;
  int64_t across, chunks;
};

// Rows of some channels of an image, as float32 vectors.
template <typename T>
class RowPlanes {
 public:
  // A pixel has `channels` of `planes` numbers.
  RowPlanes(const Product& product, int64_t channels, int64_t planes, const DepthwisePieces& pieces)
      : product_(product),
        planes_(planes),
        chunk_(round_up(pieces.chunk, kLane)),
        width_((pieces.width - 1) * product.w.stride + (product.w.taps - 1) * product.w.dilation +
               1),
        in_place_(std::is_same_v<T, float> && planes == 1 && channels % kLane == 0),
        values_(in_place_ ? 0 : product.h.taps * width_ * planes * chunk_),
        rows_(product.h.taps) {}

  int64_t pixel() const { return in_place_ ? product_.image_pixel : planes_ * chunk_; }
  int64_t plane() const { return chunk_; }

  // Window j's tap t of the width is at row(..) + column(j, t) * pixel().
  const float* row(int64_t tap) const { return rows_[tap]; }
  int64_t column(int64_t window, int64_t tap) const {
    return window * product_.w.stride - product_.w.pad + tap * product_.w.dilation - first_;
  }

  // The rows of windows [first, end) of row `row`, where they are inside of the image.
  void find(int64_t row, int64_t first, int64_t end, int64_t first_channel, int64_t count) {
    const Axis& h = product_.h;
    const Axis& w = product_.w;
    const int64_t n = row / h.windows;
    const int64_t left = first * w.stride - w.pad;
    const int64_t right = (end - 1) * w.stride - w.pad + (w.taps - 1) * w.dilation + 1;
    first_ = in_place_ ? 0 : std::max<int64_t>(left, 0);
    const Taps taps = h.taps_inside(row % h.windows);
    for (int64_t tap = taps.begin; tap < taps.end; ++tap) {
      const int64_t at = row % h.windows * h.stride - h.pad + tap * h.dilation;
      const T* from = static_cast<const T*>(product_.image) +
                      ((n * h.in_size + at) * w.in_size + first_) * product_.image_pixel +
                      first_channel * planes_;
      if constexpr (std::is_same_v<T, float>) {
        rows_[tap] = from;
        if (in_place_) continue;
      }
      float* to = values_.data() + tap * width_ * pixel();
      rows_[tap] = to;
      for (int64_t x = first_; x < std::min(right, w.in_size); ++x) {
        split(from, count, to);
        from += product_.image_pixel;
        to += pixel();
      }
    }
  }

  // Copies a pixel plane by plane.
  void split(const T* from, int64_t count, float* to) const {
    if (planes_ == 1) {
      copy_values(to, from, count);
      for (int64_t c = count; c < chunk_; ++c) to[c] = 0;
      return;
    }
    for (int64_t plane = 0; plane < planes_; ++plane, to += chunk_) {
      for (int64_t c = 0; c < chunk_; ++c) {
        to[c] = c < count ? static_cast<float>(from[c * planes_ + plane]) : 0;
      }
    }
  }

 private:
  const Product& product_;
  int64_t planes_;
  int64_t chunk_;
  int64_t width_;
  bool in_place_;
  int64_t first_ = 0;
  Scratch<float> values_;
  std::vector<const float*> rows_;
};

}  // namespace
}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
