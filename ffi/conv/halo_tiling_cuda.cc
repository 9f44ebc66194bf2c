#include <algorithm>
#include <cmath>

#include "conv/halo.h"

namespace jaxdirect::conv {
namespace {

// The copy engine's, per axis: what a copy spans, and steps between what it takes.
constexpr int kMaxBox = 256;
constexpr int kMaxStep = 8;
constexpr int kStoreBytes = 2 * 2 * 64 * kChunkBytes;  // two places for each warpgroup
constexpr int kMaxHaloStages = 8;
constexpr int kMinFilterStages = 3;
constexpr int kMaxFilterStages = 8;
// Fitted to an H200's times of 728 pairs of a tiling and a layer; 11 % off (rms).
constexpr double kBytesPerTick = 43;  // that one multiprocessor gets from L2
constexpr double kStoredBytesPerTick = 24;
constexpr double kTileTicks = 1000;  // between one tile's products and the next's
constexpr double kStartTicks = 8000;
constexpr double kFewStages = 1.08;  // times products

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Sides worth trying: those that cut `extent` into equal parts with the least rest.
bool is_fair_cut(int side, int extent) {
  return side == 1 || ceil_div(extent, side) < ceil_div(extent, side - 1);
}

int chunks_of(const HaloProblem& problem, const HaloVariant& variant) {
  return ceil_div(problem.in_channels * variant.value_bytes, kChunkBytes);
}

// The whole filter, and as many halos as there is room for: two at least, for two warpgroups.
bool place_resident(const HaloProblem& problem, const HaloVariant& variant,
                    const Multiprocessors& gpu, HaloTiling* t) {
  t->resident = true;
  t->filter_stages = chunks_of(problem, variant) * problem.taps_h * problem.taps_w;
  if (t->blocks_k > 8 || int64_t{t->filter_stages} * t->filter_bytes > gpu.shared_bytes)
    return false;
  t->halo_stages = kMaxHaloStages;
  while (t->halo_stages > 1 && t->shared_bytes() > gpu.shared_bytes) --t->halo_stages;
  return t->halo_stages > 1;
}

// Fills in what follows from the tile's sides; false if shared memory does not hold it.
bool complete(const HaloProblem& problem, const HaloVariant& variant, const Multiprocessors& gpu,
              HaloTiling* t) {
  t->rows = variant.rows;
  t->columns = variant.columns;
  const auto reach = [](int64_t tile, int64_t stride, int64_t taps, int64_t step) {
    return (tile - 1) * stride + (taps - 1) * step + 1;
  };
  const int64_t height =
      reach(t->tile_height, problem.stride_h, problem.taps_h, problem.tap_step_h);
  const int64_t width = reach(t->tile_width, problem.stride_w, problem.taps_w, problem.tap_step_w);
  if (t->planes > kMaxStep || height > kMaxBox || width > kMaxBox || t->tile_images > kMaxBox) {
    return false;
  }
  t->halo_height = static_cast<int>(height);
  t->halo_width = ceil_div(static_cast<int>(width), t->planes);
  if (t->halo_width * t->planes > kMaxBox) return false;
  const int64_t halo_pixels = int64_t{1} * t->tile_images * t->halo_height * t->halo_width;
  if (halo_pixels * t->planes * kChunkBytes > gpu.shared_bytes) return false;
  t->halo_bytes = t->planes * t->plane_bytes();
  t->filter_bytes =
      kChunkBytes / variant.value_bytes * variant.columns * variant.filter_value_bytes;
  if (variant.reading != HaloVariant::kMatrixLoads) t->store_bytes = kStoreBytes;
  t->blocks_n = ceil_div(problem.batch, t->tile_images);
  t->blocks_h = ceil_div(problem.out_height, t->tile_height);
  t->blocks_w = ceil_div(problem.out_width, t->tile_width);
  t->blocks_k = ceil_div(problem.out_channels, variant.columns);
  if (variant.reading == HaloVariant::kResidentFilter)
    return place_resident(problem, variant, gpu, t);
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
      const int n = pixel % t.tile_images, w = pixel / t.tile_images % t.tile_width;
      const int h = pixel / t.tile_images / t.tile_width;
      ++rows[((h * problem.stride_h * t.halo_width + w * problem.stride_w) * t.tile_images + n) %
             8];
    }
    passes += *std::max_element(rows, rows + 8);
  }
  return groups == 0 ? 1 : static_cast<double>(passes) / groups;
}

// Ticks of what a tile takes: its products, loads and stores.
struct TileTicks {
  double products, halos, filters, store;
};

TileTicks ticks_of(const HaloProblem& problem, const HaloVariant& variant, const HaloTiling& t) {
  const int chunks = chunks_of(problem, variant), taps = problem.taps_h * problem.taps_w;
  // The second half of a chunk can be left out by descriptors alone.
  const int half_chunks = ceil_div(problem.in_channels * variant.value_bytes, kChunkBytes / 2);
  const bool loads = variant.reading == HaloVariant::kMatrixLoads;
  const double steps = taps * (loads ? 4.0 * chunks : 2.0 * half_chunks);
  const double conflicts = loads ? bank_conflicts(problem, t) - 1 : 0;
  return {.products = steps * (variant.rows / 64) * (variant.ticks + 6 * conflicts),
          .halos = static_cast<double>(chunks) * t.halo_bytes / kBytesPerTick,
          .filters = chunks * taps * static_cast<double>(t.filter_bytes) / kBytesPerTick,
          .store = t.tile_pixels() * variant.columns * variant.value_bytes / kStoredBytesPerTick};
}

// The slowest multiprocessor's time.
double cost_of(const HaloProblem& problem, const HaloVariant& variant, const Multiprocessors& gpu,
               const HaloTiling& t) {
  const TileTicks ticks = ticks_of(problem, variant, t);
  const double loads = ticks.halos + ticks.filters;
  const double share = static_cast<double>(t.blocks()) / gpu.count;
  if (t.resident) {  // one warpgroup stores while the other multiplies
    const int blocks_at_once = gpu.count / t.blocks_k * t.blocks_k;
    return std::ceil(static_cast<double>(t.blocks()) / blocks_at_once) *
               std::max(ticks.products + kTileTicks, ticks.halos + ticks.store) +
           loads + kStartTicks;
  }
  double products = ticks.products;
  if (t.filter_stages == kMinFilterStages) products *= kFewStages;
  // One stage cannot be filled while it is read.
  if (t.halo_stages == 1) products += ticks.halos;
  return std::ceil(share) * (std::max(products, loads) + ticks.store + kTileTicks) + kStartTicks;
}

// Products' boxes of 64 pixels, of which a tile is made, whose windows lie where descriptors reach
// them: runs of a row, or eight rows of one group each.
bool tile_direct(const HaloProblem& problem, const HaloVariant& variant, const Multiprocessors& gpu,
                 HaloTiling* best) {
  bool found = false;
  const int products = variant.rows / 64;
  for (int images = 1; images <= 64 && images < 2 * problem.batch; images *= 2) {
    for (const int height : {1, 8}) {
      if (height == 8 && images > 8) continue;
      const int width = 64 / images / height;
      for (int across = 1; across <= products; ++across) {
        if (products % across != 0) continue;
        HaloTiling tiling;
        tiling.product_height = height;
        tiling.product_width = width;
        tiling.tile_images = images;
        tiling.tile_height = height * products / across;
        tiling.tile_width = width * across;
        tiling.planes = problem.stride_w;
        if (!complete(problem, variant, gpu, &tiling)) continue;
        tiling.group_step = height == 1 ? 8 : problem.stride_h * tiling.halo_width * images;
        tiling.cost = cost_of(problem, variant, gpu, tiling);
        if (!found || tiling.cost < best->cost) *best = tiling;
        found = true;
      }
    }
  }
  return found;
}

}  // namespace

bool tile_halo(const HaloProblem& problem, const HaloVariant& variant, const Multiprocessors& gpu,
               HaloTiling* best) {
  if (variant.reading != HaloVariant::kMatrixLoads) {
    return tile_direct(problem, variant, gpu, best);
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
