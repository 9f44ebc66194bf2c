// Products of windows and filters for one instruction set; see product.h and each_target.h.
// No include guard.
//
// A band of windows is put in order for some channels at a time, so that it stays in the second-
// level cache; blocks of the filter's panels stay in the first. kRows windows by one panel are in
// registers over a block's depth; blocks' sums are added up, which rounds less than one long sum. A
// band has all its columns or a share of them; either way a result is summed in one order, by one
// thread.

#include "conv/filter_target.h"

namespace jaxdirect::conv::JAXDIRECT_TARGET {
namespace {

inline constexpr int64_t kMostDepth = 320;  // a block of a panel: 40 KB
inline constexpr int64_t kMostWindows = 512;

struct ProductPlan {
  ProductPlan(const Executor& executor, const Product& product, bool in_place)
      : in_place(in_place),
        panels(ceil_div(product.columns(), kPanel)),
        chunk(in_place ? std::max<int64_t>(product.channels, 1) : chunk_of(product)),
        blocks(cut_depth(product, chunk, kMostDepth)),
        bands(product, in_place ? 1 : chunk, kMostWindows, kWindowBytes / 4) {
    // Few bands: each packs its panels itself, and they are shared out by panels too.
    packed = bands.count > executor.num_threads;
    const int64_t items = 4 * executor.num_threads;
    panel_items = std::clamp<int64_t>(packed ? items / bands.count : executor.num_threads, 1,
                                      std::max<int64_t>(panels, 1));
  }

  // Channels that are put in order together.
  static int64_t chunk_of(const Product& product) {
    constexpr int64_t kMostValues = 640;
    return even_piece(product.channels, kMostValues / std::max<int64_t>(product.taps(), 1), 16);
  }

  bool in_place;
  int64_t panels;
  int64_t chunk;
  std::vector<DepthBlock> blocks;
  Bands bands;
  bool packed;
  int64_t panel_items;  // shares of the panels
};

// Whether the windows are pixels of the image, which then are read where they lie.
template <typename T>
bool is_in_place(const Product& product) {
  const auto inside = [](const Axis& axis) {
    return axis.windows > 0 && axis.pad <= 0 &&
           (axis.windows - 1) * axis.stride - axis.pad < axis.in_size;
  };
  return std::is_same_v<T, float> && product.taps() == 1 && inside(product.h) && inside(product.w);
}

// The part of the depth where windows have other values than zeros: `count` runs.
struct Runs {
  int64_t first, length, step, count;
};

// kRows windows by a block of a panel.
struct Rows {
  const float* const* windows;
  Runs runs;
  int64_t begin, count;  // of the depth, which `right` has
  const float* right;
  float* sums;  // [kRows][kPanel]; with `add` those of the blocks before
  bool add;
  float* to = nullptr;  // else sums
};

template <int kVectors>
void multiply_rows(const Rows& work) {
  Tile<kRows, kVectors> tile;
  tile.clear();
  const float* rows[kRows];
  std::copy_n(work.windows, kRows, rows);
  for (int64_t run = 0; run < work.runs.count; ++run) {
    const int64_t at = work.runs.first + run * work.runs.step;
    const int64_t begin = std::max(at, work.begin);
    const int64_t end = std::min(at + work.runs.length, work.begin + work.count);
    const float* right = work.right + (begin - work.begin) * kPanel;
    for (int64_t k = begin; k < end; ++k, right += kPanel) {
      tile.add([&](int r) { return rows[r][k]; }, right);
    }
  }
  if (work.add) tile.add_from(work.sums);
  tile.store_to(work.to == nullptr ? work.sums : work.to);
}

// One thread's work.
template <typename T>
class ProductWorker {
 public:
  ProductWorker(const Product& product, const ProductPlan& plan, const float* packed)
      : product_(product),
        plan_(plan),
        packed_(packed),
        order_(product),
        pack_(product),
        room_(round_up(plan.bands.width * plan.bands.height, kRows)),
        values_(plan.in_place
                    ? 0
                    : order_.row_values(plan.bands.width, plan.chunk) * plan.bands.height),
        block_(packed == nullptr ? kPanel * kMostDepth : 0),
        sums_(plan.blocks.size() > 1 ? room_ * kPanel * ceil_div(plan.panels, plan.panel_items)
                                     : 0),
        windows_(room_),
        columns_(plan.bands.width),
        groups_(room_ / kRows) {}

  void operator()(const Band& band, int64_t first_panel, int64_t end_panel) {
    first_panel_ = first_panel;
    find_windows(band);
    const auto count = static_cast<int64_t>(plan_.blocks.size());
    int64_t ordered = -1;
    for (int64_t i = 0; i < count; ++i) {
      const DepthBlock& block = plan_.blocks[i];
      if (!plan_.in_place && block.first_channel != ordered) {
        ordered = block.first_channel;
        order_(band, ordered, block.channels, values_.data());
      }
      for (int64_t panel = first_panel; panel < end_panel; ++panel) {
        multiply(block, panel, i == 0, i + 1 == count);
      }
    }
  }

 private:
  struct Window {
    int64_t start = 0;  // of its values, counted in rows of taps or, in place, in numbers
    T* to = nullptr;    // where phase 0, channel 0 goes; null for a window that only fills up
    int64_t h = 0, w = 0;
    Taps taps_h, taps_w;  // inside of the image
  };

  struct Group {
    Taps h, w;
  };

  bool is_inside(const Window& window) const {
    const auto all = [](Taps taps, int64_t count) { return taps.end - taps.begin == count; };
    return all(window.taps_h, product_.h.taps) && all(window.taps_w, product_.w.taps);
  }

  // Windows inside of the image come first, then those that lack the same taps together.
  void find_windows(const Band& band) {
    const Axis& h = product_.h;
    const Axis& w = product_.w;
    const Slots slots(w, band.width());
    used_ = 0;
    int64_t end = band.windows();
    for (int64_t j = 0; j < band.width(); ++j) {
      const int64_t at = (band.first_window + j) * w.stride - w.pad;
      columns_[j].start = plan_.in_place ? at * product_.image_pixel : slots.of_window(j) * h.taps;
      columns_[j].w = (band.first_window + j) * w.out_stride + w.out_offset;
      columns_[j].taps_w = w.taps_inside(band.first_window + j);
    }
    for (int64_t row = band.first_row; row < band.end_row; ++row) {
      const int64_t n = row / h.windows;
      const int64_t i = row % h.windows;
      const int64_t out_h = i * h.out_stride + h.out_offset;
      const Taps taps_h = h.taps_inside(i);
      T* to = static_cast<T*>(product_.result) +
              (n * h.out_size + out_h) * w.out_size * product_.result_pixel;
      const int64_t start =
          plan_.in_place ? (n * h.in_size + i * h.stride - h.pad) * w.in_size * product_.image_pixel
                         : (row - band.first_row) * slots.count() * h.taps;
      for (int64_t j = 0; j < band.width(); ++j) {
        Window window = columns_[j];
        window.start += start;
        window.to = to + window.w * product_.result_pixel;
        window.h = out_h;
        window.taps_h = taps_h;
        windows_[is_inside(window) ? used_++ : --end] = window;
      }
    }
    const auto key = [](const Window& window) {
      return std::tuple(window.taps_h.begin, window.taps_h.end, window.taps_w.begin,
                        window.taps_w.end, window.start);
    };
    std::sort(windows_.begin() + end, windows_.begin() + band.windows(),
              [&](const Window& a, const Window& b) { return key(a) < key(b); });
    used_ = band.windows();
    for (int64_t i = used_; i < round_up(used_, kRows); ++i) {
      windows_[i] = windows_[used_ - 1];
      windows_[i].to = nullptr;
    }
    for (int64_t i = 0; i < used_; i += kRows) groups_[i / kRows] = taps_of(i);
  }

  // The taps that any of kRows windows has.
  Group taps_of(int64_t window) const {
    Group taps = {windows_[window].taps_h, windows_[window].taps_w};
    for (int r = 1; r < kRows; ++r) {
      const Window& other = windows_[window + r];
      taps.h = {std::min(taps.h.begin, other.taps_h.begin), std::max(taps.h.end, other.taps_h.end)};
      taps.w = {std::min(taps.w.begin, other.taps_w.begin), std::max(taps.w.end, other.taps_w.end)};
    }
    return taps;
  }

  Runs runs_of(const Group& taps, int64_t channels) const {
    const auto& [h, w] = taps;
    const int64_t column = product_.h.taps * channels;
    if (h.end - h.begin == product_.h.taps) {
      return {w.begin * column, (w.end - w.begin) * column, 0, 1};
    }
    return {w.begin * column + h.begin * channels, (h.end - h.begin) * channels, column,
            w.end - w.begin};
  }

  void multiply(const DepthBlock& block, int64_t panel, bool first, bool last) {
    const float* right;
    if (packed_ == nullptr) {
      pack_(block, panel, block_.data());
      right = block_.data();
    } else {
      right = packed_ + (block.start * plan_.panels + panel * block.count) * kPanel;
    }
    const int64_t columns = std::min(kPanel, product_.columns() - panel * kPanel);
    const float* base = values_.data();
    int64_t scale = block.channels;
    if constexpr (std::is_same_v<T, float>) {
      if (plan_.in_place) {
        base = static_cast<const float*>(product_.image);
        scale = 1;
      }
    }
    float* sums = sums_.data() + (panel - first_panel_) * room_ * kPanel;
    for (int64_t i = 0; i < used_; i += kRows, sums += kRows * kPanel) {
      const float* rows[kRows];
      for (int r = 0; r < kRows; ++r) {
        rows[r] = base + block.first_channel * plan_.in_place + windows_[i + r].start * scale;
      }
      Rows work = {
          rows,  runs_of(groups_[i / kRows], block.channels), block.begin, block.count, right, sums,
          !first};
      float values[kRows * kPanel];
      if (last) work.to = values;
      if (columns > kLane) {
        multiply_rows<2>(work);
      } else {
        multiply_rows<1>(work);
      }
      if (last) put_rows(values, i, panel, columns);
    }
  }

  // Puts kRows finished windows where they go.
  void put_rows(const float* values, int64_t window, int64_t panel, int64_t columns) {
    if (product_.phases() > 1) return scatter(values, window, panel, columns);
    for (int r = 0; r < kRows; ++r, values += kPanel) {
      T* to = windows_[window + r].to;
      if (to != nullptr) narrow_values(to + panel * kPanel, values, columns);
    }
  }

  // Columns are [phase_h][phase_w][channel]; windows at the edges have phases outside.
  void scatter(const float* values, int64_t window, int64_t panel, int64_t columns) {
    const Axis& h = product_.h;
    const Axis& w = product_.w;
    for (int r = 0; r < kRows; ++r, values += kPanel) {
      const Window& target = windows_[window + r];
      if (target.to == nullptr) continue;
      for (int64_t c = 0; c < columns;) {
        const int64_t phase = (panel * kPanel + c) / product_.out_channels;
        const int64_t channel = (panel * kPanel + c) % product_.out_channels;
        const int64_t count = std::min(product_.out_channels - channel, columns - c);
        const int64_t down = phase / w.phases;
        const int64_t right = phase % w.phases;
        if (in_range(target.h + down, h.out_size) && in_range(target.w + right, w.out_size)) {
          T* to = target.to + (down * w.out_size + right) * product_.result_pixel + channel;
          for (int64_t i = 0; i < count; ++i) to[i] = T(values[c + i]);
        }
        c += count;
      }
    }
  }

  static bool in_range(int64_t at, int64_t size) { return at >= 0 && at < size; }

  const Product& product_;
  const ProductPlan& plan_;
  const float* packed_;
  WindowOrder<T> order_;
  FilterPacker<T> pack_;
  int64_t room_;
  int64_t used_ = 0;
  int64_t first_panel_ = 0;
  Scratch<float> values_;
  Scratch<float> block_;
  Scratch<float> sums_;
  std::vector<Window> windows_;
  std::vector<Window> columns_;  // what the windows of a column share
  std::vector<Group> groups_;
};

template <typename T>
void multiply(const Executor& executor, const Product& product) {
  const ProductPlan plan(executor, product, is_in_place<T>(product));
  const auto num_blocks = static_cast<int64_t>(plan.blocks.size());
  const Scratch<float> packed(plan.packed ? product.depth() * plan.panels * kPanel : 0);
  if (plan.packed) {
    const FilterPacker<T> pack(product);
    parallel_for(executor, num_blocks * plan.panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const DepthBlock& block = plan.blocks[i / plan.panels];
        const int64_t panel = i % plan.panels;
        pack(block, panel,
             packed.data() + (block.start * plan.panels + panel * block.count) * kPanel);
      }
    });
  }
  const int64_t share = ceil_div(plan.panels, plan.panel_items);
  const int64_t items = plan.bands.count * ceil_div(plan.panels, share);
  const int64_t grain = std::max<int64_t>(items / (16 * executor.num_threads), 1);
  parallel_for(executor, items, grain, [&](int64_t begin, int64_t end) {
    ProductWorker<T> work(product, plan, plan.packed ? packed.data() : nullptr);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i / plan.bands.count * share;
      work(plan.bands[i % plan.bands.count], first, std::min(first + share, plan.panels));
    }
  });
}

}  // namespace

void multiply(const Executor& executor, const Product& product) {
  with_type(product.type, [&]<typename T>() { multiply<T>(executor, product); });
}

}  // namespace jaxdirect::conv::JAXDIRECT_TARGET
