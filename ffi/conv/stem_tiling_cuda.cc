#include <algorithm>
#include <set>

#include "common/integers.h"
#include "conv/stem_fprop.h"

namespace jaxdirect::conv {
namespace {

constexpr int kMultiprocessors = 132;
constexpr int kSharedBytes = 227 * 1024;
constexpr int kMostRowBlocks = 16;
constexpr int kMostFilter = 16;       // rows or columns
constexpr double kBytesPerTick = 18;  // of HBM, for one multiprocessor

int divide_up(int64_t a, int64_t b) { return static_cast<int>(ceil_div(a, b)); }

// In how many turns a warp's lanes read a slot of 8 pixels: words of one bank take a turn each.
int bank_turns(const StemProblem& p, const StemPatch& patch, int value_bytes, int interleave) {
  std::set<int> words[32];
  for (int g = 0; g < 8; ++g) {
    const int value = g * interleave * p.step_values();
    const int copy = patch.copies > 1 ? value % 2 : 0;
    const int first = ((value - copy) * value_bytes + copy * patch.copy_bytes) / 4;
    for (int l = 0; l < 4; ++l) words[(first + l) % 32].insert(first + l);
  }
  size_t most = 0;
  for (const auto& bank : words) most = std::max(most, bank.size());
  return static_cast<int>(most);
}

bool complete(const StemProblem& p, const StemVariant& v, StemTiling* t) {
  const StemPatch& patch = t->patch;
  t->columns = v.columns;
  t->parts = v.parts;
  t->staging_bytes = v.out_bytes == 2 ? 4 * v.consumers * 16 * staging_row_bytes(v.columns) : 0;
  const int warps = (4 - v.consumers) * 4;  // that fetch
  const bool is_float = v.out_bytes == 4;
  t->raw_bytes = is_float ? patch.raw_bytes(warps) : 0;
  t->row_blocks = divide_up(patch.tile_height * patch.tile_width, 64);
  t->blocks_h = divide_up(p.out_height, patch.tile_height);
  t->blocks_w = divide_up(p.out_width, patch.tile_width);
  t->blocks_k = divide_up(p.out_channels, v.columns);
  t->tiles = int64_t{p.batch} * t->blocks_h * t->blocks_w;
  for (t->stages = 3; t->stages > 1 && t->shared_bytes() > kSharedBytes; --t->stages) {
  }
  if (t->shared_bytes() > kSharedBytes) return false;
  const int turns[2] = {bank_turns(p, patch, v.value_bytes, 1),
                        bank_turns(p, patch, v.value_bytes, 2)};
  t->interleave = turns[1] < turns[0] ? 2 : 1;
  const double a_turns = v.parts * 16.0 * turns[t->interleave - 1];
  const double products = v.products * v.columns / 2.0;
  const double reads = a_turns + v.products * v.columns / 4.0;
  const double block = t->steps * std::max(products, reads) + 150;  // 64 pixels
  double fill = 0, contention = 0;                                  // for instructions
  if (is_float) {
    fill = 300 + patch.segment_turns(warps) * 7 * (v.parts == 1 ? 40.0 : 60 + 9.0 * patch.copies);
  } else {  // rounds of loads that wait for memory, and the work on what came
    const double work = 4 * (80 + 40 * patch.copies);
    const int rounds = divide_up(patch.rows * patch.units, warps * 32 * 4);
    fill = 100 + rounds * (800 + work);
    contention = rounds * work / 2;
  }
  const int pixels = patch.tile_height * patch.tile_width;
  const double memory = pixels * v.columns * v.out_bytes / kBytesPerTick;
  // How long a stage is held: warpgroups take turns at blocks of pixels, whatever their tile.
  const double held = std::max(t->row_blocks, v.consumers) * block;
  const double multiply = t->row_blocks * block + contention;
  const double tile = std::max({multiply, memory, fill, (held + fill) / t->stages}) + 50;
  const int64_t per_column = std::max(1, kMultiprocessors / t->blocks_k);
  t->cost = static_cast<double>(ceil_div(t->tiles, per_column)) * tile + 6000;
  return true;
}

}  // namespace

bool as_stem(const Shape& s, StemProblem* problem) {
  const bool is_small = s.filter_height <= kMostFilter && s.filter_width <= kMostFilter &&
                        s.stride_h <= 8 && s.stride_w <= 8;
  const bool is_dense = s.groups == 1 && s.dilation_h == 1 && s.dilation_w == 1;
  if (s.channels < 1 || s.channels > kStemChannels || s.out_channels % 8 != 0 || !is_small ||
      !is_dense || s.height * s.width * s.channels >= int64_t{1} << 31 || s.x_size() == 0 ||
      s.y_size() == 0 || s.filter_size() == 0) {
    return false;
  }
  *problem = {static_cast<int>(s.batch),        static_cast<int>(s.height),
              static_cast<int>(s.width),        static_cast<int>(s.channels),
              static_cast<int>(s.out_height),   static_cast<int>(s.out_width),
              static_cast<int>(s.out_channels), static_cast<int>(s.filter_height),
              static_cast<int>(s.filter_width), static_cast<int>(s.stride_h),
              static_cast<int>(s.stride_w),     static_cast<int>(s.pad_h),
              static_cast<int>(s.pad_w)};
  return true;
}

bool tile_stem(const StemProblem& p, const StemVariant& v, StemTiling* best) {
  const int slot_values = 4 / v.value_bytes;
  StemTiling t;
  t.row_slots = p.window_values() / slot_values;
  t.half_slots = p.window_values() % slot_values;
  const int row_slots = t.row_slots + t.half_slots;
  t.steps = divide_up(row_slots * p.filter_height, 2 * kStemSlots) * 2;
  const bool is_odd = slot_values == 2 && p.step_values() % 2 != 0;
  const int widest = divide_up(p.out_width, 8) * 8;
  bool found = false;
  for (int width = 8; width <= std::min(widest, 64 * kMostRowBlocks); width += 8) {
    if (width > 8 && divide_up(p.out_width, width) == divide_up(p.out_width, width - 8)) {
      continue;
    }
    const int most = std::min(p.out_height, 64 * kMostRowBlocks / width);
    for (int height = 1; height <= most; ++height) {
      t.patch = StemPatch(p, height, width, row_slots * slot_values, is_odd ? 2 : 1, 1, v.parts,
                          v.value_bytes);
      if (!complete(p, v, &t)) continue;
      if (found && t.cost >= best->cost) continue;
      *best = t;
      found = true;
    }
  }
  return found;
}

}  // namespace jaxdirect::conv
