// wgrad for one instruction set; see each_target.h. No include guard.
//
// A tile of filters, some channels by some columns with all taps, is summed over the windows of
// some image rows (a split): windows are put in order band by band, columns of y_bar are packed in
// panels of kPanel, and kLongRows neighbouring numbers of the windows by one panel are in registers
// over a band. The cut into tiles and splits depends on the shapes alone; splits are added in
// order.

#include "conv/windows_target.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {
namespace {

struct WgradPlan {
  explicit WgradPlan(const Product& product)
      : columns(even_piece(product.out_channels, kMostColumns, kPanel)),
        chunk(chunk_of(product, columns)),
        column_tiles(ceil_div(product.out_channels, columns)),
        channel_tiles(ceil_div(product.channels, chunk)) {
    const int64_t tiles = column_tiles * channel_tiles;
    const double tile_terms = static_cast<double>(product.rows() * product.w.windows) *
                              static_cast<double>(chunk * product.taps() * columns);
    constexpr double kLeastTerms = 1 << 22;  // worth a split
    const int64_t most = std::max<int64_t>(static_cast<int64_t>(tile_terms / kLeastTerms), 1);
    const int64_t rows = std::max<int64_t>(product.rows(), 1);
    split_rows = ceil_div(rows, std::min({ceil_div(kItems, tiles), most, rows}));
    splits = ceil_div(rows, split_rows);
  }

  static int64_t chunk_of(const Product& product, int64_t columns) {
    constexpr int64_t kTileValues = 1 << 16;  // 256 KB of sums
    return even_piece(product.channels, kTileValues / (product.taps() * columns), 16);
  }

  static constexpr int64_t kItems = 32;
  static constexpr int64_t kMostColumns = 96;
  int64_t columns, chunk;  // of a tile
  int64_t column_tiles, channel_tiles;
  int64_t split_rows, splits;
};

// kLongRows numbers of `count` windows by a panel.
template <int kVectors>
void add_windows(const float* base, const int64_t* starts, const float* right, int64_t count,
                 bool first, float* to) {
  Tile<kLongRows, kVectors> tile;
  tile.clear();
  for (int64_t i = 0; i < count; ++i, right += kPanel) {
    const float* left = base + starts[i];
    tile.add([&](int r) { return left[r]; }, right);
  }
  if (!first) tile.add_from(to);
  tile.store_to(to);
}

// One thread's work. Sums of a tile are [panel][depth][kPanel], filled up to whole kLongRows.
template <typename T>
class WgradWorker {
 public:
  WgradWorker(const Product& product, const WgradPlan& plan)
      : product_(product),
        order_(product),
        most_depth_(round_up(product.taps() * plan.chunk, kLongRows)),
        panels_(ceil_div(plan.columns, kPanel)),
        bands_(product, plan.chunk, kMostWindows, kWindowBytes / 4),
        windows_(order_.row_values(bands_.width, plan.chunk) * bands_.height + kLongRows),
        right_(bands_.width * bands_.height * kPanel * panels_),
        sums_(most_depth_ * kPanel * panels_),
        starts_(bands_.width * bands_.height) {}

  // Rows [first, end) of the windows, channels and columns of a tile.
  void operator()(int64_t first_row, int64_t end_row, int64_t first_channel, int64_t channels,
                  int64_t first_column, int64_t columns) {
    depth_ = product_.taps() * channels;
    const int64_t panels = ceil_div(columns, kPanel);
    bool first = true;
    for (int64_t row = first_row; row < end_row; row += bands_.height) {
      for (int64_t j = 0; j < product_.w.windows; j += bands_.width) {
        const Band band = {row, std::min(row + bands_.height, end_row), j,
                           std::min(j + bands_.width, product_.w.windows)};
        order_(band, first_channel, channels, windows_.data());
        pack(band, first_column, columns);
        find_windows(band, channels);
        for (int64_t panel = 0; panel < panels; ++panel) {
          const int64_t left = columns - panel * kPanel;
          multiply_panel(band.windows(), panel, left > kLane, first);
        }
        first = false;
      }
    }
  }

  // Row (tap, channel) of the sums of a panel.
  const float* sums(int64_t panel, int64_t at) const {
    return sums_.data() + (panel * most_depth_ + at) * kPanel;
  }

 private:
  static constexpr int64_t kMostWindows = 256;

  void find_windows(const Band& band, int64_t channels) {
    const Slots slots(product_.w, band.width());
    const int64_t column = product_.h.taps * channels;
    int64_t at = 0;
    for (int64_t row = 0; row < band.end_row - band.first_row; ++row) {
      for (int64_t j = 0; j < band.width(); ++j) {
        starts_[at++] = (row * slots.count() + slots.of_window(j)) * column;
      }
    }
  }

  // y_bar of the band: [panel][window][kPanel].
  void pack(const Band& band, int64_t first_column, int64_t columns) {
    const int64_t count = band.windows();
    for (int64_t c = 0; c < columns; c += kPanel) {
      const int64_t width = std::min(kPanel, columns - c);
      float* to = right_.data() + c * count;
      if (width < kPanel) zero_values(to, count * kPanel);
      for (int64_t row = band.first_row; row < band.end_row; ++row) {
        const T* from = static_cast<const T*>(product_.result) + first_column + c +
                        (row * product_.w.windows + band.first_window) * product_.result_pixel;
        for (int64_t j = 0; j < band.width(); ++j, to += kPanel, from += product_.result_pixel) {
          copy_values(to, from, width);
        }
      }
    }
  }

  void multiply_panel(int64_t count, int64_t panel, bool wide, bool first) {
    const float* right = right_.data() + panel * count * kPanel;
    for (int64_t at = 0; at < depth_; at += kLongRows) {
      float* to = sums_.data() + (panel * most_depth_ + at) * kPanel;
      if (wide) {
        add_windows<2>(windows_.data() + at, starts_.data(), right, count, first, to);
      } else {
        add_windows<1>(windows_.data() + at, starts_.data(), right, count, first, to);
      }
    }
  }

  const Product& product_;
  WindowOrder<T> order_;
  int64_t most_depth_;
  int64_t panels_;
  int64_t depth_ = 0;
  Bands bands_;
  Scratch<float> windows_;
  Scratch<float> right_;
  Scratch<float> sums_;
  std::vector<int64_t> starts_;
};

// Copies a tile's sums, whose depth is [tap_w][tap_h][channel], to [tap_h][tap_w][channel][column].
template <typename U, typename T>
void put_tile(const Product& product, const WgradWorker<T>& worker, int64_t first_channel,
              int64_t channels, int64_t first_column, int64_t columns, U* filter, int64_t filter_h,
              int64_t filter_w, int64_t filter_in) {
  int64_t at = 0;
  for (int64_t v = 0; v < product.w.taps; ++v) {
    for (int64_t u = 0; u < product.h.taps; ++u) {
      for (int64_t c = 0; c < channels; ++c, ++at) {
        U* to =
            filter + u * filter_h + v * filter_w + (first_channel + c) * filter_in + first_column;
        for (int64_t k = 0; k < columns; k += kPanel) {
          narrow_values(to + k, worker.sums(k / kPanel, at), std::min(kPanel, columns - k));
        }
      }
    }
  }
}

// parts [split][tap_h][tap_w][channel][column].
template <typename T>
void add_parts(const Executor& executor, const Product& product, int64_t splits, const float* parts,
               T* filter) {
  const int64_t size = product.depth() * product.out_channels;
  parallel_for(executor, product.depth(), ceil_div(product.depth(), 64),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) {
                   const float* from = parts + row * product.out_channels;
                   T* to = filter + row * product.filter_in;
                   for (int64_t k = 0; k < product.out_channels; k += kLane) {
                     const int64_t left = std::min(kLane, product.out_channels - k);
                     Vec<float> total = load_part(from + k, left);
                     for (int64_t split = 1; split < splits; ++split) {
                       total += load_part(from + split * size + k, left);
                     }
                     store_part<T>(to + k, total, left);
                   }
                 }
               });
}

// `product` is fprop's, with y_bar for its result.
template <typename T>
void wgrad(const Executor& executor, const Product& product, T* filter) {
  const WgradPlan plan(product);
  const int64_t size = product.depth() * product.out_channels;
  const Scratch<float> parts(plan.splits > 1 ? plan.splits * size : 0);
  const int64_t tiles = plan.column_tiles * plan.channel_tiles;
  parallel_for(executor, tiles * plan.splits, 1, [&](int64_t begin, int64_t end) {
    WgradWorker<T> work(product, plan);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t split = i / tiles;
      const int64_t row = split * plan.split_rows;
      const int64_t channel = i % plan.channel_tiles * plan.chunk;
      const int64_t channels = std::min(plan.chunk, product.channels - channel);
      const int64_t column = i % tiles / plan.channel_tiles * plan.columns;
      const int64_t columns = std::min(plan.columns, product.out_channels - column);
      work(row, std::min(row + plan.split_rows, product.rows()), channel, channels, column,
           columns);
      if (plan.splits == 1) {
        put_tile<T>(product, work, channel, channels, column, columns, filter, product.filter_h,
                    product.filter_w, product.filter_in);
      } else {
        const int64_t pixel = product.channels * product.out_channels;
        put_tile<float>(product, work, channel, channels, column, columns,
                        parts.data() + split * size, product.w.taps * pixel, pixel,
                        product.out_channels);
      }
    }
  });
  if (plan.splits > 1) add_parts(executor, product, plan.splits, parts.data(), filter);
}

}  // namespace

void wgrad(const Executor& executor, const Product& product, void* filter) {
  with_type(product.type,
            [&]<typename T>() { wgrad<T>(executor, product, static_cast<T*>(filter)); });
}

}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
