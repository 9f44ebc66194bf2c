// wgrad with one input channel a group for one instruction set; see each_target.h.
// No include guard.
//
// Lanes are channels; some taps of a row are summed over a row of windows in registers. Rows come
// in splits whose number depends on the shapes alone, and these are added in order.

#include "conv/planes_target.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {
namespace {

// y_bar, row by row and number by number, as an image.
inline Product result_rows(const Product& product) {
  Product rows = product;
  rows.image = product.result;
  rows.image_pixel = product.result_pixel;
  for (Axis* axis : {&rows.h, &rows.w}) {
    axis->in_size = axis->windows;
    axis->taps = axis->stride = axis->dilation = 1;
    axis->pad = 0;
  }
  return rows;
}

// Sums over windows [first, end) of a row, for all taps of the row and a vector or two of channels.
struct TapSum {
  const Axis& w;
  int64_t first, end;
  const float* x;  // window j's tap v is (j * stride + v * dilation) * x_pixel further
  int64_t x_pixel;
  const float* y;  // window j is j * y_pixel further
  int64_t y_pixel;
  float* sums;  // tap v is v * pitch further
  int64_t pitch;

  template <int kVectors>
  void add_all() const {
    int64_t v = 0;
    for (; v + 4 <= w.taps; v += 4) add_taps<4, kVectors>(v);
    for (; v + 3 <= w.taps; v += 3) add_taps<3, kVectors>(v);
    for (; v < w.taps; ++v) add_windows<1, kVectors>(v, windows_of(v));
  }

 private:
  // The windows whose tap v is inside of the image.
  Taps windows_of(int64_t v) const {
    const int64_t before = w.pad - v * w.dilation;
    const int64_t reach = w.in_size + before;
    Taps range;
    range.begin = std::clamp(before > 0 ? ceil_div(before, w.stride) : 0, first, end);
    range.end = std::clamp(reach > 0 ? ceil_div(reach, w.stride) : 0, range.begin, end);
    return range;
  }

  template <int kTaps, int kVectors>
  void add_taps(int64_t v) const {
    const Taps low = windows_of(v + kTaps - 1);
    const Taps high = windows_of(v);
    Taps all = {std::max(low.begin, high.begin), std::min(low.end, high.end)};
    all.end = std::max(all.begin, all.end);
    add_windows<kTaps, kVectors>(v, all);
    for (int64_t i = v; i < v + kTaps; ++i) {
      const Taps own = windows_of(i);
      add_windows<1, kVectors>(i, {own.begin, std::min(all.begin, own.end)});
      add_windows<1, kVectors>(i, {std::max(all.end, own.begin), own.end});
    }
  }

  template <int kTaps, int kVectors>
  __attribute__((noinline)) void add_windows(int64_t v, Taps windows) const {
    if (windows.begin >= windows.end) return;
    Vec<float> totals[kTaps][kVectors];
    for_each<kTaps, kVectors>(
        [&](int t, int i) { totals[t][i] = load(sums + (v + t) * pitch + i * kLane); });
    const int64_t step = w.stride * x_pixel;
    const int64_t tap_step = w.dilation * x_pixel;
    const float* left = x + windows.begin * step + v * tap_step;
    const float* right = y + windows.begin * y_pixel;
    for (int64_t j = windows.begin; j < windows.end; ++j, left += step, right += y_pixel) {
      Vec<float> factors[kVectors];
      for_each<1, kVectors>([&](int, int i) { factors[i] = load(right + i * kLane); });
      for_each<kTaps, kVectors>([&](int t, int i) {
        totals[t][i] += load(left + t * tap_step + i * kLane) * factors[i];
      });
    }
    for_each<kTaps, kVectors>(
        [&](int t, int i) { store<float>(sums + (v + t) * pitch + i * kLane, totals[t][i]); });
  }

  template <int kTaps, int kVectors, typename Body>
  __attribute__((always_inline)) static void for_each(const Body& body) {
#pragma GCC unroll 4
    for (int t = 0; t < kTaps; ++t) {
#pragma GCC unroll 2
      for (int i = 0; i < kVectors; ++i) body(t, i);
    }
  }
};

template <typename T>
class DepthwiseSum {
 public:
  DepthwiseSum(const Product& product, const Product& y_bar, int64_t channels, int64_t planes,
               const DepthwisePieces& pieces)
      : product_(product),
        planes_(planes),
        pitch_(round_up(channels, kLane)),
        x_(product, channels, 1, pieces),
        y_(y_bar, channels, planes, pieces) {}

  // Adds a row of windows to sums [plane][tap_h][tap_w][channel].
  void operator()(int64_t row, int64_t first, int64_t end, int64_t first_channel, int64_t count,
                  float* sums) {
    x_.find(row, first, end, first_channel, count);
    y_.find(row, first, end, first_channel, count);
    const Taps taps_h = product_.h.taps_inside(row % product_.h.windows);
    const Axis& w = product_.w;
    for (int64_t plane = 0; plane < planes_; ++plane) {
      for (int64_t u = taps_h.begin; u < taps_h.end; ++u) {
        float* to = sums + (plane * product_.h.taps + u) * w.taps * pitch_ + first_channel;
        const float* x = x_.row(u) + x_.column(0, 0) * x_.pixel();
        const float* y = y_.row(0) + y_.column(0, 0) * y_.pixel() + plane * y_.plane();
        for (int64_t c = 0; c < count; c += 2 * kLane) {
          const TapSum sum = {w, first, end, x + c, x_.pixel(), y + c, y_.pixel(), to + c, pitch_};
          if (count - c > kLane) {
            sum.add_all<2>();
          } else {
            sum.add_all<1>();
          }
        }
      }
    }
  }

 private:
  const Product& product_;
  int64_t planes_;
  int64_t pitch_;
  RowPlanes<T> x_;
  RowPlanes<T> y_;
};

// filter [tap_h][tap_w][channel][plane] = the sum of the splits.
template <typename T>
void add_splits(const Product& product, int64_t channels, int64_t planes, int64_t splits,
                const float* sums, T* filter) {
  const int64_t pitch = round_up(channels, kLane);
  const int64_t size = planes * product.taps() * pitch;
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t tap = 0; tap < product.taps(); ++tap) {
      const float* from = sums + (plane * product.taps() + tap) * pitch;
      T* to = filter + tap * channels * planes + plane;
      for (int64_t c = 0; c < channels; ++c) {
        float total = from[c];
        for (int64_t split = 1; split < splits; ++split) total += from[split * size + c];
        to[c * planes] = T(total);
      }
    }
  }
}

template <typename T>
void depthwise_wgrad(const Executor& executor, const Product& product, int64_t channels,
                     int64_t planes, T* filter) {
  constexpr int64_t kItems = 32;
  constexpr int64_t kLeastTerms = 1 << 18;  // worth a split
  const DepthwisePieces pieces(product, channels);
  const int64_t rows = product.rows() * pieces.across;
  const int64_t terms = rows * pieces.width * pieces.chunk * planes * product.taps();
  const int64_t most = std::min({ceil_div(kItems, pieces.chunks), terms / kLeastTerms + 1, rows});
  const int64_t split_rows = ceil_div(rows, most);
  const int64_t splits = ceil_div(rows, split_rows);
  const int64_t size = planes * product.taps() * round_up(channels, kLane);
  const Product y_bar = result_rows(product);
  Scratch<float> sums(splits * size);
  zero_values(sums.data(), splits * size);
  parallel_for(executor, splits * pieces.chunks, 1, [&](int64_t begin, int64_t end) {
    DepthwiseSum<T> add(product, y_bar, channels, planes, pieces);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t split = i / pieces.chunks;
      const int64_t channel = i % pieces.chunks * pieces.chunk;
      const int64_t count = std::min(pieces.chunk, channels - channel);
      for (int64_t row = split * split_rows; row < std::min((split + 1) * split_rows, rows);
           ++row) {
        const int64_t j = row % pieces.across * pieces.width;
        add(row / pieces.across, j, std::min(j + pieces.width, product.w.windows), channel, count,
            sums.data() + split * size);
      }
    }
  });
  add_splits(product, channels, planes, splits, sums.data(), filter);
}

}  // namespace

// `product` is fprop's of one group, with y_bar for its result.
void depthwise_wgrad(const Executor& executor, const Product& product, int64_t channels,
                     int64_t planes, void* filter) {
  with_type(product.type, [&]<typename T>() {
    depthwise_wgrad<T>(executor, product, channels, planes, static_cast<T*>(filter));
  });
}

}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
