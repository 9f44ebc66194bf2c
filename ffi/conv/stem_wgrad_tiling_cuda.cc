#include <algorithm>

#include "common/integers.h"
#include "conv/stem_wgrad.h"

namespace jaxdirect::conv {
namespace {

// The workspace's size may not depend on the machine that a program is traced on.
constexpr int kMultiprocessors = 132;
constexpr int kSharedBytes = 227 * 1024 - 1024;        // beside the kernel's own
constexpr int kMostWidth = 256;                        // of a copy engine's box
constexpr double kMemoryBytes = 18, kCacheBytes = 28;  // a tick and multiprocessor
constexpr double kLatency = 800;                       // ticks until L2 answers, under load

int divide_up(int64_t a, int64_t b) { return static_cast<int>(ceil_div(a, b)); }

int common_divisor(int a, int b) { return b == 0 ? a : common_divisor(b, a % b); }

// Where the eight rows of a matrix lie, 16 bytes each: the same banks take them in turns.
class MatrixBanks {
 public:
  MatrixBanks(const StemProblem& p, const StemPatch& patch) : copies_(patch.copies) {
    for (int pixel = 0; pixel < kStemGroup; ++pixel) {
      const int value = pixel * p.step_values(), copy = value % 8 / patch.copy_step;
      ++rows_[copy][(value - copy * patch.copy_step) / 8 % 8];
    }
  }

  // The fewest turns, and for them the banks that copies start at.
  int turns() {
    int most = 1;
    while (!place(0, most)) ++most;
    return most;
  }

  int first(int copy) const { return first_[copy]; }

 private:
  bool place(int copy, int most) {
    if (copy == copies_) return true;
    for (first_[copy] = 0; first_[copy] < 8; ++first_[copy]) {
      bool fits = true;
      for (int bank = 0; bank < 8; ++bank) {
        used_[(bank + first_[copy]) % 8] += rows_[copy][bank];
        fits &= used_[(bank + first_[copy]) % 8] <= most;
      }
      if (fits && place(copy + 1, most)) return true;
      for (int bank = 0; bank < 8; ++bank) used_[(bank + first_[copy]) % 8] -= rows_[copy][bank];
    }
    return false;
  }

  const int copies_;
  int rows_[kStemCopies][8] = {}, used_[8] = {}, first_[kStemCopies] = {};
};

// Rows for the warpgroups; false if they do not fit. Warpgroups that run fewer waste the rest.
bool share_rows(const StemWgradVariant& v, StemWgradTiling* t) {
  const int tiles = divide_up(t->item_blocks, kStemTileBlocks);
  const int first = t->shares_pixels ? tiles : divide_up(tiles, 2);
  const int second = t->shares_pixels ? tiles : tiles - first;
  const int fewest = std::max(v.tiles - 1, 1);
  t->tiles_of[0] = std::max(first, fewest);
  t->tiles_of[1] = std::max(second, fewest);
  return second > 0 && t->tiles_of[0] <= v.tiles && t->tiles_of[1] <= v.tiles;
}

// Rows of the filter that a thread block's rows of the product belong to, at most.
int filter_rows(const StemWgradTiling& t) {
  int most = 1;
  for (int first = 0; first < t.blocks; first += t.item_blocks) {
    const int last = std::min(first + t.item_blocks, t.blocks) - 1;
    most = std::max(most, last / t.run_blocks - first / t.run_blocks + 1);
  }
  return most;
}

bool place_tile(const StemProblem& p, int height, int width, StemWgradTiling* t) {
  StemProblem part = p;
  part.filter_height = filter_rows(*t);
  const int copy_step = common_divisor(p.step_values(), 8);
  t->patch = StemPatch(part, height, width, t->run_blocks * 8, 8 / copy_step, copy_step,
                       t->variant.planes, 2);
  MatrixBanks banks(p, t->patch);
  t->turns = banks.turns();
  t->patch.copy_bytes = static_cast<int>(round_up(t->patch.copy_bytes + 7 * 16, 128));
  for (int copy = 0; copy < t->patch.copies; ++copy) {
    t->patch.copy_at[copy] = copy * t->patch.copy_bytes + banks.first(copy) * 16;
  }
  t->groups = height * (width / kStemGroup);
  const int unit = t->shares_pixels ? 2 * kStemWarpgroups : 2;
  t->steps = divide_up(t->groups, 2 * unit) * unit;
  if (t->steps > kStemMostSteps || height >= static_cast<int>(kStemNoRow) ||
      t->patch.copy_bytes / 16 > 0xffff) {
    return false;
  }
  const StemWgradVariant& v = t->variant;
  t->y_bytes =
      static_cast<int>(round_up(t->steps * 2 * kStemGroup * v.columns * 2, 1024)) * v.planes;
  t->patch_bytes = static_cast<int>(round_up(t->patch.bytes(), 1024));
  t->raw_y_bytes = v.planes == 1 ? 0 : t->groups * kStemGroup * v.columns * 4;
  t->raw_x_bytes = v.planes == 1 ? 0 : t->patch.raw_bytes(v.fill_threads() / 32);
  t->blocks_h = divide_up(p.out_height, height);
  t->blocks_w = divide_up(p.out_width, width);
  if (int64_t{p.batch} * t->blocks_h * t->blocks_w > 1 << 30) return false;
  t->tiles = p.batch * t->blocks_h * t->blocks_w;
  for (t->stages = kStemMostStages; t->stages > 2 && t->shared_bytes() > kSharedBytes;
       --t->stages) {
  }
  return t->shared_bytes() <= kSharedBytes;
}

// Clock ticks of a tile for one thread block: for products, and for a producer to fill its stage.
struct TileCost {
  double multiply, fill;
};

// Ticks of tensor cores, which few columns do not keep busy, and of their operands' reads.
double products_cost(const StemWgradTiling& t, int products, double writes) {
  const StemWgradVariant& v = t.variant;
  const int runs = t.steps * (t.shares_pixels ? t.tiles_of[0] : t.tiles_of[0] + t.tiles_of[1]);
  const double tensor = products * std::max(v.columns / 2.0, 29.0);
  const double reads = v.planes * 16.0 * t.turns + products * v.columns / 4.0;
  return std::max(runs * tensor, runs * reads + writes);
}

TileCost cost_of_16_bits(const StemWgradTiling& t) {
  // Instructions of a thread that fills, each seven ticks after the one before, and waits for x.
  const int wanted = 8 + ((t.patch.copies - 1) * t.patch.copy_step + 1) / 2 * 2;
  const int words = wanted / 2 + 1;
  const int rounds = divide_up(t.patch.rows * t.patch.units, t.variant.fill_threads());
  const double copies = t.patch.copies * (t.patch.copy_step == 1 ? 3 : 1.5);
  const double instructions = 160 + rounds * (25 + 4 * words + 0.5 * wanted + copies);
  const double waits = divide_up(rounds * (words + 4), kStemFillRegisters) * kLatency;
  const double writes = (t.y_bytes + t.patch_bytes) / 128.0;
  return {1.2 * products_cost(t, 1, writes) + 400, waits + 7 * instructions};
}

TileCost cost_of_floats(const StemWgradTiling& t) {
  const StemWgradVariant& v = t.variant;
  const int warps = v.fill_threads() / 32, segments = t.patch.rows * t.patch.segments();
  const int quads = t.groups * kStemGroup * v.columns / 4;
  const double copies = 2.0 * v.planes * t.patch.copies;
  // What shared memory is asked for beside operands, 128 bytes a tick: x and y_bar on their way.
  const double writes = t.y_bytes / 128.0 + segments * (16 + copies) + quads / 8.0;
  const double instructions = 150 + t.patch.segment_turns(warps) * (55 + 14 * v.planes + copies) +
                              divide_up(quads, v.fill_threads()) * (v.planes == 2 ? 18 : 28);
  return {1.1 * products_cost(t, v.planes == 2 ? 3 : 6, writes) + 300,
          (v.is_wide() ? 5.5 : 7) * instructions + 200};
}

double tile_cost(const StemWgradTiling& t, int value_bytes) {
  const bool is_split = t.variant.planes > 1;
  const TileCost cost = is_split ? cost_of_floats(t) : cost_of_16_bits(t);
  const double loads = t.groups * kStemGroup * t.variant.columns * value_bytes / kCacheBytes;
  const double turn = (is_split ? 1 : 0.8) * cost.fill + cost.multiply;  // of a stage
  return std::max({cost.multiply, cost.fill / kStemProducers, loads, turn / t.stages});
}

bool choose_slices(const StemProblem& p, int value_bytes, StemWgradTiling* t) {
  const double tile = tile_cost(*t, value_bytes);
  const double filter = 1.0 * p.filter_height * p.window_values() * p.out_channels;
  const double y = 1.0 * p.batch * p.out_height * p.out_width * p.out_channels;
  const double x = 1.0 * p.batch * p.height * p.width * p.channels;
  const double memory = (x + y) * value_bytes / kMemoryBytes / kMultiprocessors;
  const int most = std::min(t->tiles, 4 * kMultiprocessors);
  bool found = false;
  for (int slices = 1; slices <= most; ++slices) {
    const int depth = divide_up(t->tiles, slices) * t->steps;
    const bool is_exact = t->variant.planes == 1 || t->variant.takes_up();
    if (!is_exact && depth > kStemMostDepth) continue;
    const double waves = divide_up(int64_t{t->items()} * slices, kMultiprocessors);
    const double products = waves * (divide_up(t->tiles, slices) * tile + 3000);
    const double sums = filter * 8 / 2000 * slices * (t->shares_pixels ? 2 : 1);
    const double cost = std::max(products, memory + 3000) + 0.1 * products + sums;
    if (found && cost >= t->cost) continue;
    t->cost = cost;
    t->slices = slices;
    found = true;
  }
  return found;
}

}  // namespace

bool tile_stem_wgrad(const StemProblem& p, const StemWgradVariant& v, int value_bytes,
                     StemWgradTiling* best) {
  StemWgradTiling t;
  t.variant = v;
  t.run_blocks = divide_up(p.window_values(), 8);
  t.blocks = t.run_blocks * p.filter_height;
  t.column_items = divide_up(p.out_channels, v.columns);
  bool found = false;
  const int widest = std::min(divide_up(p.out_width, kStemGroup) * kStemGroup, kMostWidth);
  for (int items = 1; items <= std::min(t.blocks, 8); ++items) {
    t.item_blocks = divide_up(t.blocks, items);
    t.row_items = divide_up(t.blocks, t.item_blocks);
    for (const bool shares : {false, true}) {
      t.shares_pixels = shares;
      if (!share_rows(v, &t)) continue;
      for (int width = kStemGroup; width <= widest; width += kStemGroup) {
        const int columns = divide_up(p.out_width, width);
        if (width > kStemGroup && columns == divide_up(p.out_width, width - kStemGroup)) continue;
        for (int height = 1; height <= std::min(p.out_height, 254); ++height) {
          if (height > 1 &&
              divide_up(p.out_height, height) == divide_up(p.out_height, height - 1)) {
            continue;
          }
          if (!place_tile(p, height, width, &t)) break;
          if (!choose_slices(p, value_bytes, &t) || (found && t.cost >= best->cost)) continue;
          *best = t;
          found = true;
        }
      }
    }
  }
  return found;
}

}  // namespace jaxdirect::conv
