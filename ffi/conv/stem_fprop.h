#pragma once

// The forward pass of stem.h: how it is cut into tiles, and its launch.

#include <cuda_runtime_api.h>

#include <optional>

#include "common/status.h"
#include "conv/stem.h"

namespace jaxdirect::conv {

inline constexpr int kStemThreads = 512;  // warpgroups that multiply, and that fetch
inline constexpr int kStemSlots = 8;      // of 4 bytes: a step's depth

// Depth is cut into slots of values that lie together in a window's row, of which the tensor cores
// take 4 bytes: two 16-bit values or one TF32 value, eight slots a step. Those of which all
// belongs to the window come first, then each row's last value if it is alone (half a slot).
struct StemTiling {
  StemPatch patch;
  int columns = 64;       // output channels of a thread block
  int row_slots = 1;      // whole ones of a row of the filter
  int half_slots = 0;     // 0 or 1 of each row
  int steps = 2;          // even
  int row_blocks = 1;     // of 64 pixels in a tile
  int interleave = 1;     // 2: rows g and g + 8 of a warp's 16 are neighbouring pixels
  int parts = 1;          // of float32 values
  int staging_bytes = 0;  // of all warps
  int raw_bytes = 0;      // of float32 x on its way
  int stages = 2;
  int blocks_h = 1, blocks_w = 1, blocks_k = 1;
  int64_t tiles = 1;  // of all images
  double cost = 0;    // expected time, in clock ticks of one multiprocessor

  // The first step that has other than whole slots, and even.
  constexpr int masked_step(const StemProblem& p) const {
    return row_slots * p.filter_height / kStemSlots / 2 * 2;
  }
  // 128-byte rows of depth, a row a column.
  constexpr int filter_part_bytes() const { return (steps + 3) / 4 * columns * 128; }
  constexpr int filter_bytes() const { return parts * filter_part_bytes(); }
  constexpr int patch_bytes() const { return (patch.bytes() + 127) / 128 * 128; }
  constexpr int slot_bytes() const { return (steps + 2) * 4 * 16; }
  constexpr int pixel_bytes() const { return row_blocks * 64 * 8; }
  constexpr int shared_bytes() const {
    return 1024 + filter_bytes() + stages * patch_bytes() + slot_bytes() + pixel_bytes() +
           staging_bytes + raw_bytes + 64;
  }
};

// What a kernel's variant takes: output channels of a thread block, bytes of a value of x in shared
// memory and of y, parts of a value and products of parts a step, warpgroups that multiply.
struct StemVariant {
  int columns;
  int value_bytes;
  int out_bytes;
  int parts;
  int products;
  int consumers;
};

// Where a warp's 16 rows of results of `columns` 16-bit values wait for their stores.
constexpr int staging_row_bytes(int columns) { return columns * 2 + 16; }

// The cheapest tiling of one variant; false if none fits.
bool tile_stem(const StemProblem& problem, const StemVariant& variant, StemTiling* tiling);

Plan plan_stem_fprop(const Shape& shape, FloatType type, Precision precision);
// Nothing if there is no kernel.
std::optional<Status> stem_fprop(cudaStream_t stream, const Args& args);

}  // namespace jaxdirect::conv
