// Filters as panels of kPanel columns, [depth][kPanel], in the order of windows; see each_target.h.
// No include guard.

#include "conv/windows_target.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {
namespace {

// A part of the depth, [tap_w][tap_h][channel] of some channels, that is multiplied at a time.
struct DepthBlock {
  int64_t first_channel = 0, channels = 0;
  int64_t begin = 0, count = 0;  // within those channels' depth
  int64_t start = 0;             // of all
};

inline std::vector<DepthBlock> cut_depth(const Product& product, int64_t chunk, int64_t most) {
  std::vector<DepthBlock> blocks;
  DepthBlock block;
  for (int64_t c = 0; c < product.channels && product.taps() > 0; c += chunk) {
    block.first_channel = c;
    block.channels = std::min(chunk, product.channels - c);
    const int64_t depth = block.channels * product.taps();
    const int64_t piece = even_piece(depth, most, 8);
    for (block.begin = 0; block.begin < depth; block.begin += block.count) {
      block.count = std::min(piece, depth - block.begin);
      blocks.push_back(block);
      block.start += block.count;
    }
  }
  if (blocks.empty()) blocks.push_back(block);  // sums of nothing are zero
  return blocks;
}

template <typename T>
class FilterPacker {
 public:
  explicit FilterPacker(const Product& product) : product_(product) {}

  void operator()(const DepthBlock& block, int64_t panel, float* to) const {
    const int64_t first = panel * kPanel;
    const int64_t columns = std::min(kPanel, product_.columns() - first);
    if (columns < kPanel) std::memset(to, 0, static_cast<size_t>(block.count * kPanel) * 4);
    for (int64_t k = 0; k < block.count;) {
      const int64_t at = block.begin + k;
      const int64_t tap = at / block.channels;
      const int64_t channel = at % block.channels;
      const int64_t run = std::min(block.channels - channel, block.count - k);
      pack_run(tap, block.first_channel + channel, run, first, columns, to + k * kPanel);
      k += run;
    }
  }

 private:
  // Null for none.
  const T* find(int64_t tap, int64_t phase) const {
    const int64_t v = product_.w.filter_tap(phase % product_.w.phases, tap / product_.h.taps);
    const int64_t u = product_.h.filter_tap(phase / product_.w.phases, tap % product_.h.taps);
    if (u < 0 || v < 0) return nullptr;
    return static_cast<const T*>(product_.filter) + u * product_.filter_h + v * product_.filter_w;
  }

  // `run` channels of one tap.
  void pack_run(int64_t tap, int64_t channel, int64_t run, int64_t first, int64_t columns,
                float* to) const {
    for (int64_t c = 0; c < columns;) {
      const int64_t phase = (first + c) / product_.out_channels;
      const int64_t out = (first + c) % product_.out_channels;
      const int64_t count = std::min(product_.out_channels - out, columns - c);
      const T* from = find(tap, phase);
      if (from == nullptr) {
        for (int64_t i = 0; i < run; ++i) zero_values(to + i * kPanel + c, count);
      } else {
        from += channel * product_.filter_in + out * product_.filter_out;
        copy_block(from, run, count, to + c);
      }
      c += count;
    }
  }

  void copy_block(const T* from, int64_t run, int64_t count, float* to) const {
    if (product_.filter_out == 1) {
      for (int64_t i = 0; i < run; ++i) {
        copy_values(to + i * kPanel, from + i * product_.filter_in, count);
      }
      return;
    }
    int64_t c = 0;
    for (; c + kLane <= count; c += kLane) {
      int64_t i = 0;
      for (; i + kLane <= run; i += kLane) {
        swap_square(from + c * product_.filter_out + i, to + i * kPanel + c);
      }
      copy_each(from + c * product_.filter_out, i, run, kLane, to + c);
    }
    copy_each(from + c * product_.filter_out, 0, run, count - c, to + c);
  }

  // Rows of the filter, whose channels are neighbours, to columns of the panel.
  void swap_square(const T* from, float* to) const {
    Vec<float> rows[kLane];
#pragma GCC unroll 16
    for (int64_t c = 0; c < kLane; ++c) rows[c] = load(from + c * product_.filter_out);
    transpose<float>(rows);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLane; ++i) store<float>(to + i * kPanel, rows[i]);
  }

  void copy_each(const T* from, int64_t begin, int64_t end, int64_t count, float* to) const {
    for (int64_t c = 0; c < count; ++c) {
      const T* row = from + c * product_.filter_out;
      for (int64_t i = begin; i < end; ++i) to[i * kPanel + c] = static_cast<float>(row[i]);
    }
  }

  const Product& product_;
};

}  // namespace
}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
