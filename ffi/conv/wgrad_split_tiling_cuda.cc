#include <algorithm>
#include <array>
#include <set>

#include "conv/wgrad.h"

namespace jaxdirect::conv {
namespace {

constexpr int kSharedBytes = 227 * 1024 - 2048;  // beside the kernel's own
constexpr int kMaxSteps = 32;
constexpr int kMaxPixels = 256;
// Of a slice, at most: tensor cores truncate when they add, and with three parts float32 rounds.
constexpr int kSlicePixels = 1 << 15;
constexpr int64_t kMostLeastSlices = 1 << 12;
constexpr int64_t kSliceBytes = 64 << 20;  // of all slices' sums, where that leaves enough of them

int ceil_div(int a, int b) { return (a + b - 1) / b; }
int round_up(int a, int b) { return ceil_div(a, b) * b; }

bool complete(const Shape& s, WgradTiling* t) {
  if (!group_taps(s, t)) return false;
  t->runs = (t->flat ? 1 : t->tile_height) * t->line_runs();
  if (t->steps() > kMaxSteps) return false;
  t->raw_bytes = round_up(t->halo_pixels() * kWgradBlock * 4, 1024);
  // A line's last run may end up to seven pixels behind the halo.
  t->part_bytes = round_up((t->halo_pixels() + kRun - 1) * kWgradBlock * 2, 1024);
  t->halo_bytes = t->parts * t->part_bytes;
  t->y_rows = round_up(t->tile_pixels() + 1, kRun);
  t->y_bytes = t->y_rows * t->row_blocks * kWgradBlock * 4;
  set_blocks(s, t);
  for (const auto& [stages, raw_stages] : {std::pair(3, 2), {2, 2}, {2, 1}}) {
    t->stages = stages;
    t->raw_stages = raw_stages;
    if (t->shared_bytes() <= kSharedBytes) return true;
  }
  return false;
}

// Clock ticks of one item of each group, over all pixels.
std::array<double, kWgradTaps> group_costs(const WgradTiling& t) {
  const double split = t.halo_pixels() * (t.parts == 3 ? 24.0 : 16.0);
  const double loads = (t.halo_pixels() * kWgradBlock * 4 + t.y_bytes) / 24.0;
  const double stall = 100 + (t.raw_stages == 1 ? 200 : 0) + (split + loads) / 10;
  std::array<double, kWgradTaps> costs;
  for (int g = 0; g < t.groups; ++g) {
    const double products =
        t.steps() * t.group[g].count * t.row_blocks * (t.parts == 3 ? 6 * 38 : 3 * 36);
    costs[g] = t.tiles() * (std::max({products, split, loads}) + stall);
  }
  return costs;
}

// Extents that divide `whole` most evenly, and multiples of a run, up to `most`.
std::set<int> extents(int whole, int most, bool runs) {
  std::set<int> found;
  for (int parts = 1; parts <= whole; ++parts) found.insert(ceil_div(whole, parts));
  for (int extent = kRun; runs && extent < whole; extent += kRun) found.insert(extent);
  found.erase(found.upper_bound(most), found.end());
  return found;
}

}  // namespace

bool tile_split(const Shape& s, WgradTiling* best) {
  const int parts = best->parts;
  const int out_height = static_cast<int>(s.out_height), out_width = static_cast<int>(s.out_width);
  const int batch = static_cast<int>(std::min<int64_t>(s.batch, kMaxPixels));
  double best_cost = 0;
  bool found = false;
  const auto consider = [&](WgradTiling t) {
    if (!complete(s, &t)) return;
    const auto costs = group_costs(t);
    double cost = 0;
    for (int g = 0; g < t.groups; ++g) cost += costs[g] * t.chunks * t.column_blocks;
    if (found && cost >= best_cost) return;
    found = true;
    best_cost = cost;
    *best = t;
  };
  for (const int width : extents(out_width, kMaxPixels, true)) {
    for (const int height : extents(out_height, kMaxPixels / width, false)) {
      const int most = std::min(batch, kMaxPixels / (width * height));
      for (int images = 1; images <= most; ++images) {
        for (int row_blocks = 1; row_blocks <= (s.out_channels > kWgradBlock ? 2 : 1);
             ++row_blocks) {
          for (const bool flat : {false, true}) {
            WgradTiling t;
            t.parts = parts;
            t.tile_images = images;
            t.tile_height = height;
            t.tile_width = width;
            t.row_blocks = row_blocks;
            t.flat = flat;
            consider(t);
          }
        }
      }
    }
  }
  if (!found) return false;
  const int64_t pixels = int64_t{best->tiles()} * best->tile_pixels();
  const int64_t least = std::min<int64_t>(
      {(pixels + kSlicePixels - 1) / kSlicePixels, best->tiles(), kMostLeastSlices});
  const int64_t most = std::clamp<int64_t>(kSliceBytes / (s.filter_size() * 4), 1, best->tiles());
  choose_slices(s, group_costs(*best).data(), static_cast<int>(least), static_cast<int>(most),
                best);
  return true;
}

}  // namespace jaxdirect::conv
