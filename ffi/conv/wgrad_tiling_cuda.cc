#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "conv/wgrad.h"

namespace jaxdirect::conv {
namespace {

// The workspace's size may not depend on the machine that a program is traced on.
constexpr int kMultiprocessors = 132;
constexpr int kSharedBytes = 227 * 1024 - 512;  // beside the kernel's own
constexpr int kMaxBox = 256;
constexpr int kMaxSteps = 32;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

}  // namespace

// Taps by the grid that their pixels lie on, in groups of nearly equal size.
bool group_taps(const Shape& s, WgradTiling* t) {
  struct Tap {
    int number, grid_h, grid_w, row, column;
  };
  std::vector<Tap> taps;
  for (int u = 0; u < s.filter_height; ++u) {
    for (int v = 0; v < s.filter_width; ++v) {
      const int h = static_cast<int>(u * s.dilation_h), w = static_cast<int>(v * s.dilation_w);
      const int stride_h = static_cast<int>(s.stride_h), stride_w = static_cast<int>(s.stride_w);
      taps.push_back({u * static_cast<int>(s.filter_width) + v, h % stride_h, w % stride_w,
                      h / stride_h, w / stride_w});
    }
  }
  std::stable_sort(taps.begin(), taps.end(), [](const Tap& a, const Tap& b) {
    return std::pair(a.grid_h, a.grid_w) < std::pair(b.grid_h, b.grid_w);
  });
  const int most = kWgradTapsAtOnce * (t->row_blocks == 1 ? 2 : 1);
  t->taps = static_cast<int>(taps.size());
  t->groups = 0;
  int reach_h = 0, reach_w = 0;
  std::vector<std::pair<int, int>> first_pixel;  // row and column of each group's first tap
  for (size_t begin = 0; begin < taps.size();) {
    size_t end = begin;
    while (end < taps.size() && taps[end].grid_h == taps[begin].grid_h &&
           taps[end].grid_w == taps[begin].grid_w) {
      ++end;
    }
    const int on_grid = static_cast<int>(end - begin);
    const int parts = ceil_div(on_grid, most);
    for (int part = 0; part < parts; ++part) {
      const int from = static_cast<int>(begin) + on_grid * part / parts;
      const int to = static_cast<int>(begin) + on_grid * (part + 1) / parts;
      int row = taps[from].row, column = taps[from].column;
      for (int i = from; i < to; ++i) {
        row = std::min(row, taps[i].row);
        column = std::min(column, taps[i].column);
      }
      for (int i = from; i < to; ++i) {
        reach_h = std::max(reach_h, taps[i].row - row);
        reach_w = std::max(reach_w, taps[i].column - column);
      }
      t->group[t->groups++] = {static_cast<int16_t>(row * s.stride_h + taps[from].grid_h),
                               static_cast<int16_t>(column * s.stride_w + taps[from].grid_w),
                               static_cast<uint8_t>(from), static_cast<uint8_t>(to - from)};
      first_pixel.emplace_back(row, column);
    }
    begin = end;
  }
  t->halo_height = t->tile_height + reach_h;
  t->halo_width = t->tile_width + reach_w;
  const int64_t pixels = int64_t{t->tile_images} * t->halo_height * t->halo_width;
  if (pixels >= 1 << 15) return false;
  for (int g = 0; g < t->groups; ++g) {
    const auto [row, column] = first_pixel[g];
    for (int i = t->group[g].first; i < t->group[g].first + t->group[g].count; ++i) {
      const int shift = (taps[i].row - row) * t->halo_width + taps[i].column - column;
      t->tap[i] = {static_cast<uint8_t>(taps[i].number), static_cast<uint16_t>(shift)};
    }
  }
  return (t->halo_height - 1) * s.stride_h < kMaxBox && (t->halo_width - 1) * s.stride_w < kMaxBox;
}

void set_blocks(const Shape& s, WgradTiling* t) {
  t->blocks_n = ceil_div(static_cast<int>(s.batch), t->tile_images);
  t->blocks_h = ceil_div(static_cast<int>(s.out_height), t->tile_height);
  t->blocks_w = ceil_div(static_cast<int>(s.out_width), t->tile_width);
  t->chunks = ceil_div(static_cast<int>(s.channels), kWgradBlock);
  t->column_blocks = ceil_div(static_cast<int>(s.out_channels), kWgradBlock * t->row_blocks);
}

void choose_slices(const Shape& s, double item, double unevenness, int least, int most,
                   WgradTiling* t) {
  const double sums = static_cast<double>(s.filter_size()) * 8 / 2000;  // ticks to add one slice
  most = std::max(least, std::min({most, t->tiles(), 4 * kMultiprocessors}));
  t->slices = 0;
  for (int slices = least; slices <= most; ++slices) {
    const double waves = ceil_div(t->items() * slices, kMultiprocessors);
    const double tiles = static_cast<double>(ceil_div(t->tiles(), slices)) / t->tiles();
    const double cost = (waves + unevenness - 1) * item * tiles + waves * 3000 + sums * slices;
    if (t->slices > 0 && cost >= t->cost) continue;
    t->cost = cost;
    t->slices = slices;
  }
}

namespace {

bool complete(const Shape& s, WgradTiling* t) {
  t->runs = t->tile_pixels() / kRun;
  if (!group_taps(s, t) || t->steps() > kMaxSteps) return false;
  const int row_bytes = 128;
  t->halo_bytes = ceil_div(t->halo_pixels() * row_bytes, 1024) * 1024;
  t->y_bytes = t->steps() * 2 * kRun * row_bytes * t->row_blocks;
  set_blocks(s, t);
  for (t->stages = 4; t->stages > 2 && t->shared_bytes() > kSharedBytes; --t->stages) {
  }
  return t->shared_bytes() <= kSharedBytes;
}

// Clock ticks of all products and loads of one item, over all pixels.
double item_cost(const WgradTiling& t) {
  const double taps = static_cast<double>(t.taps) / t.groups;
  const double per_group = t.row_blocks == 2 ? taps * 2 : taps;
  const double products = t.steps() * per_group * 34;
  const double loads = (t.halo_bytes + t.y_bytes) / 28.0;
  return t.tiles() * (std::max(products, loads) + 100);
}

bool tile_16_bits(const Shape& s, WgradTiling* best) {
  bool found = false;
  double best_cost = 0;
  const int out_height = static_cast<int>(s.out_height);
  const int widest = ceil_div(static_cast<int>(s.out_width), kRun) * kRun;
  for (int width = kRun; width <= std::min(widest, 128); width += kRun) {
    for (int height = 1; height <= std::min(out_height, 256 / width); ++height) {
      if (height > 1 && ceil_div(out_height, height) == ceil_div(out_height, height - 1)) continue;
      for (int images = 1; images <= s.batch && images * height * width <= 256; ++images) {
        WgradTiling t;
        t.tile_images = images;
        t.tile_height = height;
        t.tile_width = width;
        t.row_blocks = s.out_channels > kWgradBlock ? 2 : 1;
        if (!complete(s, &t)) continue;
        const double cost = item_cost(t);
        if (found && cost >= best_cost) continue;
        best_cost = cost;
        *best = t;
        found = true;
      }
    }
  }
  if (found) choose_slices(s, best_cost, 1, 1, best->tiles(), best);
  return found;
}

}  // namespace

bool tile_wgrad(const Shape& s, int parts, WgradProblem* problem, WgradTiling* best) {
  const int values = parts == 1 ? 8 : 4;  // of 16 bytes
  if (s.groups != 1 || s.channels % values != 0 || s.out_channels % values != 0 ||
      s.filter_height * s.filter_width > kWgradTaps || s.stride_h > 8 || s.stride_w > 8 ||
      s.filter_height * s.dilation_h > 1024 || s.filter_width * s.dilation_w > 1024) {
    return false;
  }
  *problem = {static_cast<int>(s.batch),        static_cast<int>(s.height),
              static_cast<int>(s.width),        static_cast<int>(s.channels),
              static_cast<int>(s.out_height),   static_cast<int>(s.out_width),
              static_cast<int>(s.out_channels), static_cast<int>(s.stride_h),
              static_cast<int>(s.stride_w),     static_cast<int>(s.pad_h),
              static_cast<int>(s.pad_w)};
  best->parts = parts;
  return parts == 1 ? tile_16_bits(s, best) : tile_split(s, best);
}

}  // namespace jaxdirect::conv
