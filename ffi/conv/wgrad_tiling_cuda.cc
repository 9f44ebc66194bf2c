#include <algorithm>
#include <array>
#include <set>
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
constexpr int kMaxPixels = 256;     // of a tile
constexpr int kMaxSlices = 0xffff;  // of all groups: an axis of the grid

int ceil_div(int a, int b) { return (a + b - 1) / b; }
int round_up(int a, int b) { return ceil_div(a, b) * b; }

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
  const int most =
      (t->columns > kWgradBlock ? kWgradTapsOf96 : kWgradTapsAtOnce) * (t->row_blocks == 1 ? 2 : 1);
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
                               static_cast<uint8_t>(from), static_cast<uint8_t>(to - from), 1};
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
      t->tap[i] = {static_cast<uint8_t>(taps[i].number),
                   static_cast<uint16_t>(shift * t->tile_images)};
    }
  }
  return (t->halo_height - 1) * s.stride_h < kMaxBox && (t->halo_width - 1) * s.stride_w < kMaxBox;
}

void set_blocks(const Shape& s, WgradTiling* t) {
  t->blocks_n = ceil_div(static_cast<int>(s.batch), t->tile_images);
  t->blocks_h = ceil_div(static_cast<int>(s.out_height), t->tile_height);
  t->blocks_w = ceil_div(static_cast<int>(s.out_width), t->tile_width);
  t->chunks = ceil_div(static_cast<int>(s.channels), t->columns);
  t->column_blocks = ceil_div(static_cast<int>(s.out_channels), kWgradBlock * t->row_blocks);
}

void choose_slices(const Shape& s, const double* group_cost, int least, int most, WgradTiling* t) {
  constexpr int kMoreWaves = 3;
  // Ticks of a block's beginning, with its first tile from memory, and of its end.
  const double ends = 7000 + (t->halo_bytes + t->y_bytes) / 20.0;
  const int items = t->chunks * t->column_blocks;
  most = std::max(least, std::min({most, t->tiles(), 4 * kMultiprocessors}));
  // Ticks to write and to add the sums of one slice of one tap.
  const double sums = static_cast<double>(s.channels * s.out_channels) * 8 / 2500;
  std::vector<int> slices(t->groups, least);
  const auto block_cost = [&](int g) {
    return group_cost[g] * ceil_div(t->tiles(), slices[g]) / t->tiles();
  };
  const auto slowest = [&] {
    int at = 0;
    for (int g = 1; g < t->groups; ++g) {
      if (block_cost(g) > block_cost(at)) at = g;
    }
    return at;
  };
  int blocks = t->groups * least * items;
  t->cost = 0;
  for (int waves = ceil_div(blocks, kMultiprocessors), last = waves + kMoreWaves; waves <= last;
       ++waves) {
    // The slowest blocks get shorter while there is room; more waves begin where fewer ended.
    bool room = true;
    while (room && blocks + items <= waves * kMultiprocessors) {
      const int g = slowest();
      room = slices[g] < most;
      if (!room) break;
      ++slices[g];
      blocks += items;
    }
    double cost = waves * (block_cost(slowest()) + ends);
    for (int g = 0; g < t->groups; ++g) cost += sums * slices[g] * t->group[g].count;
    if (t->cost == 0 || cost < t->cost) {
      t->cost = cost;
      t->slices = *std::max_element(slices.begin(), slices.end());
      for (int g = 0; g < t->groups; ++g) t->group[g].slices = static_cast<uint16_t>(slices[g]);
    }
    if (!room) break;
  }
}

namespace {

bool complete(const Shape& s, WgradTiling* t) {
  t->runs = t->tile_pixels() / kRun;
  if (!group_taps(s, t) || t->steps() > kMaxSteps) return false;
  const int row_bytes = 128;
  t->halo_bytes = round_up(t->halo_pixels() * row_bytes, 1024) * t->x_blocks();
  t->y_bytes = t->steps() * 2 * kRun * row_bytes * t->row_blocks;
  set_blocks(s, t);
  for (t->stages = 4; t->stages > 2 && t->shared_bytes() > kSharedBytes; --t->stages) {
  }
  return t->shared_bytes() <= kSharedBytes;
}

// Clock ticks of all products and loads of one item of each group, over all pixels.
std::array<double, kWgradTaps> group_costs(const WgradTiling& t) {
  const double bytes = t.halo_bytes * (t.columns / 64.0) / t.x_blocks() + t.y_bytes;
  const double loads = bytes / 24;
  // A stage that becomes free is wanted again when the others are used up.
  const double latency = (1200 + bytes / 40) / (t.stages - 1);
  std::array<double, kWgradTaps> costs;
  for (int g = 0; g < t.groups; ++g) {
    const double products = t.steps() * t.group[g].count * t.row_blocks * (t.columns / 2) * 1.04;
    costs[g] = t.tiles() * (std::max({products, loads, latency}) + loads / 10 + 150);
  }
  return costs;
}

// Extents that divide `whole` most evenly, up to `most`.
std::set<int> extents(int whole, int most) {
  std::set<int> found;
  for (int parts = 1; parts <= whole; ++parts) found.insert(ceil_div(whole, parts));
  found.erase(found.upper_bound(most), found.end());
  return found;
}

bool tile_16_bits(const Shape& s, WgradTiling* best) {
  bool found = false;
  const auto consider = [&](WgradTiling t) {
    if (!complete(s, &t)) return;
    choose_slices(s, group_costs(t).data(), 1, t.tiles(), &t);
    if (found && t.cost >= best->cost) return;
    *best = t;
    found = true;
  };
  // The sides of a tile, of an item that is given.
  const auto consider_sides = [&](WgradTiling t, int images, int width) {
    t.tile_images = images;
    t.tile_width = width;
    for (const int height :
         extents(static_cast<int>(s.out_height), kMaxPixels / (width * images))) {
      t.tile_height = height;
      consider(t);
    }
  };
  for (const int columns : {kWgradBlock, 96}) {
    for (int row_blocks = 1; row_blocks <= (s.out_channels > kWgradBlock ? 2 : 1); ++row_blocks) {
      WgradTiling item;
      item.columns = columns;
      item.row_blocks = row_blocks;
      for (int images = 1; images < 2 * s.batch && images <= 64; images *= 2) {
        const int whole_runs = kRun / std::min(images, kRun);  // in a row of the tile
        std::set<int> widths;
        for (const int width : extents(static_cast<int>(s.out_width), kMaxPixels)) {
          widths.insert(round_up(width, whole_runs));
        }
        for (const int width : widths) consider_sides(item, images, width);
      }
    }
  }
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
  const bool found = parts == 1 ? tile_16_bits(s, best) : tile_split(s, best);
  return found && best->slices_of_all() <= kMaxSlices;
}

}  // namespace jaxdirect::conv
