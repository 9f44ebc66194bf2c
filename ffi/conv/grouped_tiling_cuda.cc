#include <algorithm>
#include <cmath>
#include <vector>

#include "common/integers.h"
#include "conv/grouped.h"
#include "conv/halo_problems.h"

namespace jaxdirect::conv {
namespace {

// Of an H200; so that sums do not depend on the device, it is the same on every one.
constexpr int kProcessors = 132;
constexpr int kSharedBytes = 227 * 1024;
constexpr int kBlockBytes = 128;  // of a pixel, at most
constexpr int kMostResults = 512;
constexpr int kMostTaps = 1024;
constexpr double kMostPartialBytes = 128 << 20;  // written and read
constexpr int kMostBox = 256;                    // the copy engine's, of an axis
// Ticks: of a product of 16 x 8 over 32 bytes of depth; between a warp's instructions, as measured
// with eight and with sixteen warps; of a tile and of a launch beside all that; bytes that one
// processor gets in a tick from L2, and its share of the memory's.
constexpr double kProductTicks = 1.7, kInstructionTicks = 6.2, kTileTicks = 300;
constexpr double kLaunchTicks = 6000, kL2Bytes = 32, kMemoryBytes = 18;

// The units that the columns [from, to) of a block need.
void find_units(GroupedBlock* b, int bundle, int from, int to) {
  const int last = (std::min(to, b->out_channels()) - 1) / b->width;
  const int begin = from / b->width * b->depth, end = (last + 1) * b->depth;
  b->first[bundle] = begin / b->unit_channels;
  b->units[bundle] = static_cast<int>(ceil_div(end, b->unit_channels)) - b->first[bundle];
}

int rows_of(int columns) { return columns <= 2 ? 4 : 2; }

// Ticks of 16 pixels of all bundles at one tap.
double bundle_ticks(const GroupedBlock& b) {
  double ticks = 0;
  for (int i = 0; i < b.bundles; ++i) {
    const double shared = 4 + 2.0 * b.columns / rows_of(b.columns);
    ticks += b.units[i] / 2.0 * std::max(shared, kProductTicks * b.columns);
  }
  return ticks;
}

// The same for wgrad, of all taps; 0 if there are more products than the warps keep sums of.
double wgrad_bundle_ticks(const GroupedBlock& b, int taps) {
  double ticks = 0;
  int warps = 0;
  for (int i = 0; i < b.bundles; ++i) {
    const int pairs = (b.units[i] * taps + 1) / 2;
    const int parts = (pairs + kGroupedPairs - 1) / kGroupedPairs;
    ticks += pairs * std::max(4.0, kProductTicks * b.columns) + parts * 2 * b.columns;
    warps = std::max(warps, parts * b.bundles);
  }
  return warps > kGroupedWarps ? 0 : ticks;
}

// How many output channels share units: as many as make it cheapest; false if `ticks` of none.
template <typename Ticks>
bool bundle(GroupedBlock* b, const Ticks& ticks) {
  GroupedBlock best;
  double least = 0;
  for (b->columns = 1; b->columns <= 4; ++b->columns) {
    const int width = b->columns * kGroupedColumns;
    b->bundles = static_cast<int>(ceil_div(b->out_channels(), width));
    for (int i = 0; i < b->bundles; ++i) find_units(b, i, i * width, (i + 1) * width);
    const double cost = ticks(*b);
    if (cost == 0 || (least != 0 && cost >= least)) continue;
    best = *b;
    least = cost;
  }
  *b = best;
  return least != 0;
}

// Rows of 96 bytes, which have no swizzle, would put every other pixel in the same banks.
int read_bytes(int bytes) { return bytes == 96 ? 128 : bytes; }

// Which groups go together: whole units of both, and as many as a row takes.
bool block_groups(int64_t groups, int64_t depth, int64_t width, int bytes, int row_bytes,
                  GroupedBlock* block) {
  if (groups < 2 || groups * depth * bytes % kGroupedUnit != 0 ||
      groups * width * bytes % kGroupedUnit != 0 || std::max(depth, width) * bytes > row_bytes) {
    return false;
  }
  int64_t least = 0;
  for (int64_t q = 1; q <= groups && q * std::max(depth, width) * bytes <= row_bytes; ++q) {
    if (q * depth * bytes % kGroupedUnit != 0 || q * width * bytes % kGroupedUnit != 0) continue;
    const int64_t blocks = ceil_div(groups, q);
    if (least != 0 && blocks >= least) continue;
    least = blocks;
    block->groups = static_cast<int>(q);
  }
  if (least == 0) return false;
  block->blocks = static_cast<int>(least);
  block->depth = static_cast<int>(depth);
  block->width = static_cast<int>(width);
  block->unit_channels = kGroupedUnit / bytes;
  block->in_bytes = read_bytes(block->in_channels() * bytes);
  block->out_bytes = block->out_channels() * bytes;
  return true;
}

int whole(int64_t bytes) { return static_cast<int>(round_up(bytes, 1024)); }

// Fills in what follows from the tile's sides; false if it does not fit.
bool lay_out(const HaloProblem& p, int reach_h, int reach_w, int height, int width,
             GroupedTiling* t) {
  t->halo_height = (t->tile_height - 1) * t->step_h + reach_h;
  t->halo_width = (t->tile_width - 1) * t->step_w + reach_w;
  const int64_t halo = int64_t{1} * t->tile_images * t->halo_height * t->halo_width;
  if (t->tile_images > kMostBox || t->halo_height > kMostBox || t->halo_width > kMostBox ||
      t->tile_results() > kMostResults || halo * t->block.in_bytes > kSharedBytes) {
    return false;
  }
  t->tiles_n = static_cast<int>(ceil_div(p.batch, t->tile_images));
  t->tiles_h = static_cast<int>(ceil_div(height, t->tile_height));
  t->tiles_w = static_cast<int>(ceil_div(width, t->tile_width));
  return int64_t{1} * t->tiles_n * t->tiles_h * t->tiles_w < int64_t{1} << 30;
}

bool fits_processor(const GroupedTiling& t, int resident) {
  return (t.shared_bytes() + 1024) * resident <= kSharedBytes + 1024;
}

// Stages that fit beside another thread block, or alone.
bool choose_stages(GroupedTiling* t, int* resident) {
  for (*resident = 2; *resident >= 1; --*resident) {
    for (t->stages = 4; t->stages >= 2; --t->stages) {
      if (fits_processor(*t, *resident)) return true;
    }
  }
  return false;
}

void share_tiles(int resident, GroupedTiling* t) {
  t->slots = std::clamp(kProcessors * resident / t->block.blocks, 1, t->tiles());
}

// How often shared memory is read for eight results' pixels, which one access would bring if they
// lay in different banks: the mean over a tile.
double bank_conflicts(const GroupedTiling& t) {
  const int bytes = t.block.in_bytes;
  const int mask = bytes == 128 || bytes == 64 || bytes == 32 ? bytes - 16 : 0;
  int total = 0, accesses = 0;
  for (int first = 0; first < t.tile_results(); first += 8, ++accesses) {
    int counts[8] = {}, most = 0;
    for (int i = first; i < first + 8; ++i) {
      const int row = i / t.tile_width % t.tile_height, image = i / t.tile_width / t.tile_height;
      const int pixel =
          (image * t.halo_height + row * t.step_h) * t.halo_width + i % t.tile_width * t.step_w;
      const int address = pixel * bytes;
      most = std::max(most, ++counts[(address ^ (address >> 3 & mask)) / kGroupedUnit % 8]);
    }
    total += most;
  }
  return static_cast<double>(total) / accesses;
}

// What a tile costs.
struct TileWork {
  double shared = 0;        // ticks of shared memory and products
  double instructions = 0;  // of the warp that has the most
  double bytes = 0;         // through L2
  double fresh = 0;         // of the GPU's memory
};

// Ticks of the whole launch.
double launch_ticks(const GroupedTiling& t, int resident, const TileWork& work) {
  const double moved = std::max(work.bytes / kL2Bytes, work.fresh / kMemoryBytes);
  const double tile =
      std::max(work.instructions * kInstructionTicks, resident * std::max(work.shared, moved));
  const double each = static_cast<double>(ceil_div(t.tiles(), t.slots));
  const double rounds = std::max(1.0, double(t.block.blocks) * t.slots / (kProcessors * resident));
  return each * rounds * (tile + kTileTicks) + kLaunchTicks;
}

void set_phases(const std::vector<HaloProblem>& problems, GroupedTiling* t, int* reach_h,
                int* reach_w, int* height, int* width) {
  int last_h = 0, last_w = 0;
  bool any = false;
  *height = *width = 0;
  for (const HaloProblem& p : problems) {
    *height = std::max(*height, p.out_height);
    *width = std::max(*width, p.out_width);
    if (p.first_filter_tap >= p.filter_taps) continue;  // a phase that no tap reaches
    const int end_h = p.origin_h + (p.taps_h - 1) * p.tap_step_h;
    const int end_w = p.origin_w + (p.taps_w - 1) * p.tap_step_w;
    t->halo_first_h = any ? std::min(t->halo_first_h, p.origin_h) : p.origin_h;
    t->halo_first_w = any ? std::min(t->halo_first_w, p.origin_w) : p.origin_w;
    last_h = any ? std::max(last_h, end_h) : end_h;
    last_w = any ? std::max(last_w, end_w) : end_w;
    any = true;
  }
  *reach_h = last_h - t->halo_first_h + 1;
  *reach_w = last_w - t->halo_first_w + 1;
  t->phases = 0;
  for (const HaloProblem& p : problems) {
    GroupedPhase& phase = t->phase[t->phases++];
    phase.height = p.out_height;
    phase.width = p.out_width;
    if (p.first_filter_tap >= p.filter_taps) continue;
    phase.origin_h = p.origin_h - t->halo_first_h;
    phase.origin_w = p.origin_w - t->halo_first_w;
    phase.taps_h = p.taps_h;
    phase.taps_w = p.taps_w;
    phase.tap_step_h = p.tap_step_h;
    phase.tap_step_w = p.tap_step_w;
    phase.first_filter_tap = p.first_filter_tap;
    phase.filter_step_h = p.filter_step_h;
    phase.filter_step_w = p.filter_step_w;
  }
}

// Calls consider() for every shape of tile.
template <typename Consider>
void for_each_tile(GroupedTiling* t, int batch, int height, int width, const Consider& consider) {
  // Wider than an image, so that eight neighbours lie in different banks.
  const int widest = std::min(static_cast<int>(round_up(width, 8)), 64);
  for (int w = 1; w <= widest; ++w) {
    for (int h = 1; h <= std::min(height, 64) && h * w <= kMostResults; ++h) {
      const bool whole = h == height && w >= width;
      for (int n = 1; n <= (whole ? std::min(batch, kMostResults / (h * w)) : 1); ++n) {
        t->tile_images = n, t->tile_height = h, t->tile_width = w;
        consider();
      }
    }
  }
}

}  // namespace

bool tile_grouped(const Shape& s, FloatType type, bool transposed, GroupedTiling* tiling) {
  if (s.filter_height * s.filter_width > kMostTaps) return false;
  const int bytes = static_cast<int>(size_of(type));
  GroupedTiling t;
  const int64_t c = s.group_channels(), k = s.group_out_channels();
  if (!block_groups(s.groups, transposed ? k : c, transposed ? c : k, bytes, kBlockBytes,
                    &t.block)) {
    return false;
  }
  if (transposed &&
      std::min(s.stride_h, s.height) * std::min(s.stride_w, s.width) > kGroupedPhases) {
    return false;
  }
  bundle(&t.block, bundle_ticks);
  const auto problems = transposed ? dgrad_problems(s) : std::vector<HaloProblem>{fprop_problem(s)};
  const HaloProblem& problem = problems.front();
  int reach_h = 1, reach_w = 1, height = 0, width = 0;
  set_phases(problems, &t, &reach_h, &reach_w, &height, &width);
  t.batch = problem.batch;
  t.groups = static_cast<int>(s.groups);
  t.transposed = transposed;
  t.step_h = problem.stride_h;
  t.step_w = problem.stride_w;
  t.rows = rows_of(t.block.columns);
  int64_t steps = 0, taps = 0;
  for (int p = 0; p < t.phases; ++p) {
    for (int b = 0; b < t.block.bundles; ++b) {
      t.first_step[p][b] = static_cast<int>(steps);
      steps += t.steps(p, b);
    }
    taps += t.phase[p].taps();
  }
  if (steps * 256 * t.block.columns > kSharedBytes) return false;
  t.filter_bytes = static_cast<int>(steps * 256 * t.block.columns);
  t.unit_bytes = static_cast<int>(steps * 16);

  double pairs = 0;  // of the bundle that has the most
  for (int b = 0; b < t.block.bundles; ++b) {
    pairs = std::max(pairs, static_cast<double>(taps) * t.block.units[b] / 2);
  }

  bool found = false;
  for_each_tile(&t, static_cast<int>(s.batch), height, width, [&] {
    if (!lay_out(problem, reach_h, reach_w, height, width, &t)) return;
    t.stage_bytes = whole(t.halo_bytes());
    t.result_bytes = whole(int64_t{1} * t.padded_results() * t.block.out_bytes);
    int resident = 1;
    if (!choose_stages(&t, &resident)) return;
    share_tiles(resident, &t);
    const int set_step = kGroupedWarps / t.block.bundles;
    const double sets = t.row_sets();
    const double most = static_cast<double>(ceil_div(t.row_sets(), set_step));
    const int columns = t.block.columns;
    TileWork work;
    work.shared = static_cast<double>(taps) * sets * t.rows * bundle_ticks(t.block);
    work.instructions = most * (pairs * (3 + columns + t.rows * (4 + columns)) +
                                t.phases * (40 + t.rows * (6 + 8 * columns)));
    const double out = double(t.phases) * t.tile_results() * t.block.out_bytes;
    const double fresh = double(t.tile_results()) * t.step_h * t.step_w * t.block.in_bytes;
    work.bytes = t.halo_bytes() + out;
    work.fresh = fresh + out;
    t.cost = launch_ticks(t, resident, work);
    if (found && t.cost >= tiling->cost) return;
    work.shared *= bank_conflicts(t);
    t.cost = launch_ticks(t, resident, work);
    if (found && t.cost >= tiling->cost) return;
    found = true;
    *tiling = t;
  });
  return found;
}

bool tile_grouped_wgrad(const Shape& s, FloatType type, GroupedTiling* tiling) {
  if (size_of(type) != 2 || s.filter_height * s.filter_width > kMostTaps) return false;
  const int taps = static_cast<int>(s.filter_height * s.filter_width);
  GroupedTiling t;
  // Fewer groups together where a block's sums are too many for its warps.
  bool fits = false;
  for (int row = kBlockBytes; row >= kGroupedUnit && !fits; row /= 2) {
    t.block = GroupedBlock();
    fits = block_groups(s.groups, s.group_channels(), s.group_out_channels(), 2, row, &t.block) &&
           bundle(&t.block, [&](const GroupedBlock& b) { return wgrad_bundle_ticks(b, taps); });
  }
  if (!fits) return false;
  t.block.out_bytes = read_bytes(t.block.out_bytes);
  const HaloProblem problem = fprop_problem(s);
  int reach_h = 1, reach_w = 1, height = 0, width = 0;
  set_phases({problem}, &t, &reach_h, &reach_w, &height, &width);
  t.batch = problem.batch;
  t.groups = static_cast<int>(s.groups);
  t.step_h = problem.stride_h;
  t.step_w = problem.stride_w;
  t.rows = 1;
  t.result_buffers = 0;  // a stage has y_bar too
  t.parts = 1;
  for (int b = 0; b < t.block.bundles; ++b) {
    t.first_step[0][b] = t.unit_bytes / 16;
    t.unit_bytes += 16 * t.steps(0, b);
    t.parts = std::max(t.parts, static_cast<int>(ceil_div(t.steps(0, b), kGroupedPairs)));
  }
  t.shares = kGroupedWarps / (t.block.bundles * t.parts);
  const double ticks = wgrad_bundle_ticks(t.block, taps);
  const double partial_bytes = 8.0 * static_cast<double>(s.filter_size()) * t.shares;

  bool found = false;
  for_each_tile(&t, problem.batch, height, width, [&] {
    if (!lay_out(problem, reach_h, reach_w, height, width, &t)) return;
    t.result_bytes = whole(int64_t{1} * t.tile_results() * t.block.out_bytes);
    t.stage_bytes = whole(t.halo_bytes()) + t.result_bytes;
    for (int resident = t.block.columns <= kGroupedSharedColumns ? 2 : 1; resident >= 1;
         --resident) {
      for (t.stages = 4; t.stages > 2 && !fits_processor(t, resident);) --t.stages;
      if (!fits_processor(t, resident)) continue;
      share_tiles(resident, &t);
      if (partial_bytes * t.slots > kMostPartialBytes) continue;
      const double blocks = static_cast<double>(ceil_div(t.tile_results(), kGroupedRows));
      TileWork work;
      work.shared = blocks * ticks;
      work.instructions = std::ceil(blocks / t.shares) *
                          (40 + 3 * t.block.columns + kGroupedPairs * (4 + t.block.columns));
      const double out = double(t.tile_results()) * t.block.out_bytes;
      const double fresh = double(t.tile_results()) * t.step_h * t.step_w * t.block.in_bytes;
      work.bytes = t.halo_bytes() + out;
      work.fresh = fresh + out;
      const double sum = partial_bytes * t.slots / (kProcessors * kMemoryBytes) + kLaunchTicks / 2;
      t.cost = launch_ticks(t, resident, work) + sum;
      if (found && t.cost >= tiling->cost) continue;
      work.shared *= bank_conflicts(t);
      t.cost = launch_ticks(t, resident, work) + sum;
      if (found && t.cost >= tiling->cost) continue;
      found = true;
      *tiling = t;
    }
  });
  return found;
}

}  // namespace jaxdirect::conv
