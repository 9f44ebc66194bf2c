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
    const Taps all = {0, w.taps};
    for (int64_t plane = 0; plane < out_planes_; ++plane) {
      for (int64_t c = 0; c < count; c += 2 * kLane) {
        const bool two = count - c > kLane;
        for (int64_t j = first; j < end;) {
          const bool four = j + kWindows <= end && w.taps_inside(j) == all &&
                            w.taps_inside(j + kWindows - 1) == all;
          Place place = {j, c, first_channel, plane, std::min(count - c, 2 * kLane), out};
          if (four && two) {
            sum_windows<kWindows, 2>(place, all);
          } else if (four) {
            sum_windows<kWindows, 1>(place, all);
          } else if (two) {
            sum_windows<1, 2>(place, w.taps_inside(j));
          } else {
            sum_windows<1, 1>(place, w.taps_inside(j));
          }
          j += four ? kWindows : 1;
        }
      }
    }
  }

 private:
  static constexpr int kWindows = JAXDIRECT_VECTOR_BYTES == 64 ? 8 : 4;

  struct Place {
    int64_t window, channel, first_channel, plane, columns;
    T* out;
  };

  template <int kCount, int kVectors>
  void sum_windows(const Place& place, Taps taps_w) const {
    Vec<float> sums[kCount][kVectors] = {};
    const int64_t step = product_.w.stride * rows_.pixel();
    const int64_t tap_step = product_.w.dilation * rows_.pixel();
    for (int64_t in = 0; in < in_planes_; ++in) {
      for (int64_t u = taps_h_.begin; u < taps_h_.end; ++u) {
        const float* factors = filter_.plane(place.plane + in) +
                               (u * product_.w.taps + taps_w.begin) * filter_.pitch() +
                               place.first_channel + place.channel;
        const float* from = rows_.row(u) +
                            rows_.column(place.window, taps_w.begin) * rows_.pixel() +
                            in * rows_.plane() + place.channel;
        for (int64_t v = taps_w.begin; v < taps_w.end; ++v) {
#pragma GCC unroll 2
          for (int i = 0; i < kVectors; ++i) {
            const Vec<float> factor = load(factors + i * kLane);
#pragma GCC unroll 8
            for (int r = 0; r < kCount; ++r) {
              sums[r][i] += load(from + r * step + i * kLane) * factor;
            }
          }
          from += tap_step;
          factors += filter_.pitch();
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 2
      for (int i = 0; i < kVectors; ++i) put(place, r, i, sums[r][i]);
    }
  }

  void put(const Place& place, int64_t r, int64_t i, Vec<float> sums) const {
    const int64_t left = std::min(place.columns - i * kLane, kLane);
    T* to = place.out + (place.window + r) * product_.w.out_stride * product_.result_pixel +
            (place.first_channel + place.channel + i * kLane) * out_planes_ + place.plane;
    if (out_planes_ > 1) {
      for (int64_t c = 0; c < left; ++c) to[c * out_planes_] = T(sums[c]);
    } else if (left == kLane) {
      store<T>(to, sums);
    } else {
      store_part<T>(to, sums, left);
    }
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
