#include <algorithm>
#include <cmath>

#include "conv/halo.h"

namespace jaxdirect::conv {
namespace {

constexpr int kMaxBox = 256;  // the copy engine's, per axis
constexpr int kMinFilterStages = 3;
constexpr int kMaxFilterStages = 8;
constexpr double kBytesPerTick = 28;  // that one multiprocessor gets from L2

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Sides worth trying: those that cut `extent` into equal parts with the least rest.
bool is_fair_cut(int side, int extent) {
  return side == 1 || ceil_div(extent, side) < ceil_div(extent, side - 1);
}

// Fills in what follows from the tile's sides; false if shared memory does not hold it.
bool complete(const HaloProblem& problem, const HaloVariant& variant, const Multiprocessors& gpu,
              HaloTiling* t) {
  t->rows = variant.rows;
  t->columns = variant.columns;
  t->halo_height =
      (t->tile_height - 1) * problem.stride_h + (problem.taps_h - 1) * problem.tap_step_h + 1;
  t->halo_width =
      (t->tile_width - 1) * problem.stride_w + (problem.taps_w - 1) * problem.tap_step_w + 1;
  if (t->halo_height > kMaxBox || t->halo_width > kMaxBox || t->tile_images > kMaxBox) {
    return false;
  }
  const int64_t halo_pixels = int64_t{1} * t->tile_images * t->halo_height * t->halo_width;
  if (halo_pixels * kChunkBytes > gpu.shared_bytes) return false;
  t->halo_bytes = ceil_div(static_cast<int>(halo_pixels) * kChunkBytes, 1024) * 1024;
  t->filter_bytes =
      kChunkBytes / variant.value_bytes * variant.columns * variant.filter_value_bytes;
  t->blocks_n = ceil_div(problem.batch, t->tile_images);
  t->blocks_h = ceil_div(problem.out_height, t->tile_height);
  t->blocks_w = ceil_div(problem.out_width, t->tile_width);
  t->blocks_k = ceil_div(problem.out_channels, variant.columns);
  for (t->halo_stages = 2; t->halo_stages >= 1; --t->halo_stages) {
    t->filter_stages = kMaxFilterStages;
    while (t->filter_stages > kMinFilterStages && t->shared_bytes() > gpu.shared_bytes) {
      --t->filter_stages;
    }
    if (t->shared_bytes() <= gpu.shared_bytes) return true;
  }
  return false;
}

// How many rows of eight that ldmatrix reads at once lie in the same banks, 1 at best, on average.
double bank_conflicts(const HaloProblem& problem, const HaloTiling& t) {
  int groups = 0, passes = 0;
  for (int first = 0; first + 8 <= t.tile_pixels(); first += 8, ++groups) {
    int rows[8] = {};
    for (int pixel = first; pixel < first + 8; ++pixel) {
      const int w = pixel % t.tile_width, h = pixel / t.tile_width % t.tile_height;
      const int n = pixel / t.tile_width / t.tile_height;
      ++rows[((n * t.halo_height + h * problem.stride_h) * t.halo_width + w * problem.stride_w) %
             8];
    }
    passes += *std::max_element(rows, rows + 8);
  }
  return groups == 0 ? 1 : static_cast<double>(passes) / groups;
}

// The slowest multiprocessor's time: what a tile takes (products or loads), times its tiles.
double cost_of(const HaloProblem& problem, const HaloVariant& variant, const Multiprocessors& gpu,
               const HaloTiling& t) {
  const int depth_bytes = problem.in_channels * variant.value_bytes;
  const int chunks = ceil_div(depth_bytes, kChunkBytes);
  const int taps = problem.taps_h * problem.taps_w;
  const double steps = ceil_div(depth_bytes, 32) * static_cast<double>(taps);
  const double conflicts = variant.tile_height > 0 ? 0 : bank_conflicts(problem, t) - 1;
  const double products = steps * (variant.rows / 64) * (variant.ticks + 6 * conflicts);
  const double loads =
      chunks * (t.halo_bytes + taps * static_cast<double>(t.filter_bytes)) / kBytesPerTick;
  // One stage cannot be filled while it is read.
  const double exposed = t.halo_stages == 1 ? chunks * t.halo_bytes / kBytesPerTick : 0;
  const double store = t.tile_pixels() * variant.columns * variant.value_bytes / kBytesPerTick;
  const double tile = std::max(products + exposed, loads) + 0.1 * loads + 0.7 * store + 600;
  const double waves = std::ceil(static_cast<double>(t.blocks()) / gpu.count);
  // Between whole waves and an even share: blocks that run alone run faster.
  const double share = static_cast<double>(t.blocks()) / gpu.count;
  return tile * (0.8 * waves + 0.2 * std::max(share, 1.0));
}

}  // namespace

bool tile_halo(const HaloProblem& problem, const HaloVariant& variant, const Multiprocessors& gpu,
               HaloTiling* best) {
  if (variant.tile_height > 0) {
    *best = HaloTiling();
    best->tile_height = variant.tile_height;
    best->tile_width = variant.tile_width;
    if (problem.stride_h != 1 || problem.stride_w != 1 || !complete(problem, variant, gpu, best)) {
      return false;
    }
    best->cost = cost_of(problem, variant, gpu, *best);
    return true;
  }
  bool found = false;
  const int most_height = std::min(problem.out_height, variant.rows);
  for (int height = 1; height <= most_height; ++height) {
    if (!is_fair_cut(height, problem.out_height)) continue;
    const int most_width = std::min(problem.out_width, variant.rows / height);
    for (int width = 1; width <= most_width; ++width) {
      if (!is_fair_cut(width, problem.out_width)) continue;
      const int most_images = std::min(problem.batch, variant.rows / (height * width));
      for (int images = most_images; images >= 1; --images) {
        if (!is_fair_cut(images, problem.batch) && images != most_images) continue;
        HaloTiling tiling;
        tiling.tile_images = images;
        tiling.tile_height = height;
        tiling.tile_width = width;
        if (!complete(problem, variant, gpu, &tiling)) continue;
        tiling.cost = cost_of(problem, variant, gpu, tiling);
        if (!found || tiling.cost < best->cost) *best = tiling;
        found = true;
      }
    }
  }
  return found;
}

}  // namespace jaxdirect::conv
