#pragma once

// The filter's gradient for images with few channels on a GPU: what a thread block does
// (stem_wgrad_kernel.cuh), and how the work is cut.
//
//   filter_bar[u, j, k] = sum over output pixels of x_row(pixel, u)[j] * y_bar[pixel, k]
//
// with j = v * C + c, so that a filter row's values are neighbours in a row of x (stem.h). Eight of
// them are a block of rows of the product, in the order (u, j); j past the filter's width is
// computed and not stored. A thread block owns some of those blocks, some columns k and a slice of
// the output pixels, which it takes tile by tile; slices are summed afterwards, in order.

#include <cstdint>
#include <optional>

#include "conv/stem.h"

namespace jaxdirect::conv {

inline constexpr int kStemGroup = 8;           // neighbouring pixels; a step of depth is two groups
inline constexpr int kStemWarpgroups = 2;      // that multiply
inline constexpr int kStemProducers = 2;       // groups of warps that fill stages, in turns
inline constexpr int kStemFillRegisters = 24;  // for 16-bit values that a thread waits for
inline constexpr int kStemMostStages = 4;
inline constexpr int kStemMostSteps = 40;      // of a tile
inline constexpr int kStemSpareSteps = 8;      // that loads ahead may touch
inline constexpr int kStemMostDepth = 2048;    // steps of two parts' sums that are not taken up
inline constexpr int kStemWgradPromotion = 8;  // steps, after which three parts' sums are taken up
inline constexpr int kStemTileBlocks = 8;      // of 8 rows, in the 64 rows of a product
inline constexpr uint32_t kStemNoRow = 255;    // of a group that is not in the tile

// What a kernel takes: bf16 parts of a value (1: 16-bit types), columns k, and how many times 64
// rows a warpgroup multiplies; one fewer is possible too.
struct StemWgradVariant {
  int planes, columns, tiles;

  // Whether tensor cores' sums, which they truncate, go into float32 registers in between.
  constexpr bool takes_up() const { return planes == 3 || (planes == 2 && columns * tiles < 96); }
  // Leading sums, corrections, and what was taken up.
  constexpr int sets() const { return takes_up() ? 3 : planes == 1 ? 1 : 2; }
  // Sums that leave few registers for the threads that fill.
  constexpr bool is_wide() const { return sets() * tiles * columns / 2 > 112; }
  constexpr int fill_threads() const { return is_wide() ? 128 : 192; }  // of a producer
  constexpr int threads() const { return 128 * kStemWarpgroups + kStemProducers * fill_threads(); }
  constexpr int row_bytes() const { return columns % 64 == 0 ? 128 : 64; }  // of y_bar in a stage
};

struct StemWgradTiling {
  StemPatch patch;
  StemWgradVariant variant = {1, 64, 1};
  int run_blocks = 1;                    // blocks of a filter row
  int blocks = 1, item_blocks = 1;       // of all rows, of a thread block
  int row_items = 1, column_items = 1;   // of the grid
  int tiles_of[kStemWarpgroups] = {};    // 64-row tiles of each warpgroup
  bool shares_pixels = false;            // warpgroups have the same rows, every other step
  int blocks_h = 1, blocks_w = 1;        // of the grid of tiles of an image
  int tiles = 1;                         // of all images
  int groups = 1, steps = 2;             // of a tile; steps of all warpgroups, with spare ones
  int y_bytes = 0, patch_bytes = 0;      // of one stage, multiples of 1024
  int raw_y_bytes = 0, raw_x_bytes = 0;  // on their way to a producer: float32 y_bar, and x
  int turns = 1;                         // of the banks, to read a matrix of the patch
  int stages = 2, slices = 1;
  double cost = 0;  // expected, in clock ticks

  constexpr int items() const { return row_items * column_items; }
  constexpr int partial_sums() const { return slices * (shares_pixels ? kStemWarpgroups : 1); }
  constexpr int stage_bytes() const { return y_bytes + patch_bytes; }
  constexpr int shared_bytes() const {
    return stages * stage_bytes() + kStemProducers * (raw_y_bytes + raw_x_bytes) + 1024;
  }
};

// The cheapest tiling of one kernel; false if none fits.
bool tile_stem_wgrad(const StemProblem& problem, const StemWgradVariant& variant, int value_bytes,
                     StemWgradTiling* tiling);

Plan plan_stem_wgrad(const Shape& shape, FloatType type, Precision precision);

#ifdef JAXDIRECT_CUDA_MODULE
// Nothing if there is no kernel.
std::optional<Status> stem_wgrad(cudaStream_t stream, const Args& args);
#endif

}  // namespace jaxdirect::conv
