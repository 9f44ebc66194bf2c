// Convolutions with one input channel a group for one instruction set; see each_target.h.
// No include guard.
//
// Lanes are channels. With a multiplier m, filters have m planes of channels: results of fprop are
// made plane by plane, and dgrad sums over the planes of y_bar.

#include "conv/planes_target.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {
namespace {

// The filter as [plane][tap_h][tap_w][channel], filled up to whole vectors.
template <typename T>
class PlaneFilter {
 public:
  PlaneFilter(const Product& product, int64_t channels, int64_t planes)
      : pitch_(round_up(channels, kLane)),
        plane_(product.taps() * pitch_),
        values_(planes * plane_) {
    float* to = values_.data();
    for (int64_t plane = 0; plane < planes; ++plane) {
      for (int64_t tap = 0; tap < product.taps(); ++tap, to += pitch_) {
        const T* from = static_cast<const T*>(product.filter) + plane +
                        product.h.filter_tap(0, tap / product.w.taps) * product.filter_h +
                        product.w.filter_tap(0, tap % product.w.taps) * product.filter_w;
        for (int64_t c = 0; c < pitch_; ++c) {
          to[c] = c < channels ? static_cast<float>(from[c * planes]) : 0;
        }
      }
    }
  }

  int64_t pitch() const { return pitch_; }
  const float* plane(int64_t i) const { return values_.data() + i * plane_; }

 private:
  int64_t pitch_;
  int64_t plane_;
  Scratch<float> values_;
};

// Neighbouring windows, a row of taps, a vector or two of channels.
struct WindowSum {
  const float* row;  // window r's tap v is r * step + v * tap_step further
  int64_t step, tap_step;
  const float* filter;  // tap v is v * pitch further
  int64_t pitch;
  int64_t taps;

  // To sums [kCount][2 * kLane].
  template <int kCount, int kVectors>
  __attribute__((noinline)) void add(float* sums) const {
    Vec<float> totals[kCount][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 2
      for (int i = 0; i < kVectors; ++i) totals[r][i] = load(sums + (2 * r + i) * kLane);
    }
    const float* from = row;
    const float* factors = filter;
    for (int64_t v = 0; v < taps; ++v, from += tap_step, factors += pitch) {
#pragma GCC unroll 2
      for (int i = 0; i < kVectors; ++i) {
        const Vec<float> factor = load(factors + i * kLane);
#pragma GCC unroll 8
        for (int r = 0; r < kCount; ++r) totals[r][i] += load(from + r * step + i * kLane) * factor;
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 2
      for (int i = 0; i < kVectors; ++i) store<float>(sums + (2 * r + i) * kLane, totals[r][i]);
    }
  }
};

template <typename T>
class DepthwiseWorker {
 public:
  DepthwiseWorker(const Product& product, int64_t channels, int64_t in_planes, int64_t out_planes,
                  const DepthwisePieces& pieces, const PlaneFilter<T>& filter)
      : product_(product),
        in_planes_(in_planes),
        out_planes_(out_planes),
        filter_(filter),
        rows_(product, channels, in_planes, pieces) {}

  void operator()(int64_t row, int64_t first, int64_t end, int64_t first_channel, int64_t count) {
    const Axis& h = product_.h;
    const Axis& w = product_.w;
    rows_.find(row, first, end, first_channel, count);
    taps_h_ = h.taps_inside(row % h.windows);
    const int64_t out_row =
        row / h.windows * h.out_size + row % h.windows * h.out_stride + h.out_offset;
    T* out = static_cast<T*>(product_.result) +
             (out_row * w.out_size + w.out_offset) * product_.result_pixel;
    for (int64_t plane = 0; plane < out_planes_; ++plane) {
      const Place place = {first_channel, plane, out};
      for (int64_t c = 0; c < count; c += 2 * kLane) {
        for (int64_t j = first; j < end;) {
          j += sum_tile(place, j, end, c, std::min(count - c, 2 * kLane));
        }
      }
    }
  }

 private:
  static constexpr int kWindows = JAXDIRECT_VECTOR_BYTES == 64 ? 8 : 4;

  struct Place {
    int64_t first_channel, plane;
    T* out;
  };

  // Windows from j on, as many as one tile has; returns how many.
  int64_t sum_tile(const Place& place, int64_t j, int64_t end, int64_t c, int64_t columns) const {
    const Axis& w = product_.w;
    const Taps all = {0, w.taps};
    const bool whole =
        j + kWindows <= end && w.taps_inside(j) == all && w.taps_inside(j + kWindows - 1) == all;
    const Taps taps_w = whole ? all : w.taps_inside(j);
    WindowSum sum;
    sum.step = w.stride * rows_.pixel();
    sum.tap_step = w.dilation * rows_.pixel();
    sum.pitch = filter_.pitch();
    sum.taps = taps_w.end - taps_w.begin;
    float values[kWindows * 2 * kLane] = {};
    for (int64_t in = 0; in < in_planes_; ++in) {
      const float* filter = filter_.plane(place.plane + in) + place.first_channel + c;
      for (int64_t u = taps_h_.begin; u < taps_h_.end; ++u) {
        sum.filter = filter + (u * w.taps + taps_w.begin) * filter_.pitch();
        sum.row =
            rows_.row(u) + rows_.column(j, taps_w.begin) * rows_.pixel() + in * rows_.plane() + c;
        if (columns > kLane) {
          whole ? sum.add<kWindows, 2>(values) : sum.add<1, 2>(values);
        } else {
          whole ? sum.add<kWindows, 1>(values) : sum.add<1, 1>(values);
        }
      }
    }
    const int64_t count = whole ? kWindows : 1;
    for (int64_t r = 0; r < count; ++r) put(place, j + r, c, columns, values + r * 2 * kLane);
    return count;
  }

  void put(const Place& place, int64_t window, int64_t c, int64_t columns,
           const float* values) const {
    T* to = place.out + window * product_.w.out_stride * product_.result_pixel +
            (place.first_channel + c) * out_planes_ + place.plane;
    if (out_planes_ == 1) return narrow_values(to, values, columns);
    for (int64_t i = 0; i < columns; ++i) to[i * out_planes_] = T(values[i]);
  }

  const Product& product_;
  int64_t in_planes_;
  int64_t out_planes_;
  const PlaneFilter<T>& filter_;
  RowPlanes<T> rows_;
  Taps taps_h_;
};

template <typename T>
void depthwise(const Executor& executor, const Product& product, int64_t channels,
               int64_t in_planes, int64_t out_planes) {
  const DepthwisePieces pieces(product, channels);
  const PlaneFilter<T> filter(product, channels, in_planes * out_planes);
  const int64_t count = pieces.count(product.rows());
  parallel_for(executor, count, ceil_div(count, 16 * executor.num_threads),
               [&](int64_t begin, int64_t end) {
                 DepthwiseWorker<T> work(product, channels, in_planes, out_planes, pieces, filter);
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t row = i / pieces.chunks / pieces.across;
                   const int64_t j = i / pieces.chunks % pieces.across * pieces.width;
                   const int64_t channel = i % pieces.chunks * pieces.chunk;
                   work(row, j, std::min(j + pieces.width, product.w.windows), channel,
                        std::min(pieces.chunk, channels - channel));
                 }
               });
}

}  // namespace

// `product` is that of one group, `channels` of which are done.
void depthwise(const Executor& executor, const Product& product, int64_t channels,
               int64_t in_planes, int64_t out_planes) {
  with_type(product.type, [&]<typename T>() {
    depthwise<T>(executor, product, channels, in_planes, out_planes);
  });
}

}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
