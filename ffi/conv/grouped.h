#pragma once

// Convolution of several groups of few channels, as the GPU's kernels see it (grouped_kernel.cuh
// and grouped_wgrad_kernel.cuh): what is asked, and how it is cut.
//
// A group of 4 to 64 channels is too narrow for a warpgroup's product. Here a block of neighbouring
// groups, at most 128 bytes of each pixel, goes through shared memory together, and the small
// products of single warps (16 x 8 over 16 of depth) take from it what they need, in units: the 16
// bytes of a pixel at one tap. Eight output channels need the units of their own groups only, so
// that groups of 8, 16, 24, .. channels multiply no zeros; narrower groups share a unit, and the
// filter is 0 where a unit's channel is of another group. There an infinity or a NaN spreads to the
// groups that share its unit.

#include <cstdint>

#include "conv/conv.h"
#include "conv/halo.h"

namespace jaxdirect::conv {

inline constexpr int kGroupedWarps = 8;                           // that multiply
inline constexpr int kGroupedThreads = 32 * (kGroupedWarps + 1);  // and one that copies
inline constexpr int kGroupedPhases = 4;                          // of a strided dgrad, at most
inline constexpr int kGroupedBundles = 8;                         // of a block
inline constexpr int kGroupedColumns = 8;                         // output channels of a product
inline constexpr int kGroupedRows = 16;                           // pixels of a product
inline constexpr int kGroupedPairs = 5;                           // of units, a warp of wgrad has
// wgrad's sums of more columns leave no registers for another thread block beside.
inline constexpr int kGroupedSharedColumns = 2;
inline constexpr int kGroupedUnit = 16;  // bytes

// Neighbouring groups that go together, and their channels.
struct GroupedBlock {
  int groups = 0;                   // of a block
  int blocks = 0;                   // that hold all groups; the last may have fewer
  int depth = 0, width = 0;         // input and output channels of one group
  int unit_channels = 0;            // of 16 bytes
  int in_bytes = 0, out_bytes = 0;  // of a pixel in shared memory, at least its channels'
  // Products of `columns` neighbouring runs of 8 output channels share their units: the units of
  // one tap are `units` from `first` on.
  int columns = 0, bundles = 0;
  int first[kGroupedBundles] = {}, units[kGroupedBundles] = {};

  constexpr int in_channels() const { return groups * depth; }
  constexpr int out_channels() const { return groups * width; }
  constexpr int column_runs() const {
    return (out_channels() + kGroupedColumns - 1) / kGroupedColumns;
  }
};

// One phase of the results: which taps they read, from the first pixel of a tile's halo on.
struct GroupedPhase {
  int height = 0, width = 0;  // results
  int origin_h = 0, origin_w = 0;
  int taps_h = 0, taps_w = 0;
  int tap_step_h = 1, tap_step_w = 1;
  int first_filter_tap = 0, filter_step_h = 0, filter_step_w = 0;

  constexpr int taps() const { return taps_h * taps_w; }
};

// How a kernel cuts it. Tiles are boxes of results, the same for every phase.
struct GroupedTiling {
  GroupedBlock block;
  int batch = 0, groups = 0;
  int phases = 0;
  GroupedPhase phase[kGroupedPhases];
  bool transposed = false;                 // the filter's input channels are the results'
  int step_h = 1, step_w = 1;              // input pixels from one result to the next
  int halo_first_h = 0, halo_first_w = 0;  // input pixel of the first tile's halo
  int tile_images = 1, tile_height = 1, tile_width = 1;
  int halo_height = 1, halo_width = 1;
  int tiles_n = 1, tiles_h = 1, tiles_w = 1;
  int first_step[kGroupedPhases][kGroupedBundles] = {};  // in the filter and the list of units
  int rows = 0;                                          // of 16 results that a warp takes together
  int stages = 0;
  int result_buffers = 2;  // beside the stages
  int slots = 1;           // thread blocks that share the tiles of a block of groups
  // Of shared memory, in bytes.
  int stage_bytes = 0, result_bytes = 0, filter_bytes = 0, unit_bytes = 0;
  // wgrad: `parts` warps share a bundle's pairs of units, and `shares` such sets its pixels.
  int parts = 1, shares = 1;
  double cost = 0;  // expected time, in clock ticks

  constexpr int tile_results() const { return tile_images * tile_height * tile_width; }
  constexpr int tiles() const { return tiles_n * tiles_h * tiles_w; }
  // Of sets of `rows` x 16 results.
  constexpr int row_sets() const {
    const int set = kGroupedRows * rows;
    return (tile_results() + set - 1) / set;
  }
  constexpr int padded_results() const { return row_sets() * kGroupedRows * rows; }
  constexpr int halo_bytes() const {
    return tile_images * halo_height * halo_width * block.in_bytes;
  }
  constexpr int shared_bytes() const {
    return 2048 + stages * (stage_bytes + 16) + result_buffers * result_bytes + filter_bytes +
           unit_bytes + 8 * padded_results();
  }
  // Pairs of units of one phase of a bundle: a warp's products have 32 bytes of depth.
  constexpr int steps(int phase_of, int bundle) const {
    return (phase[phase_of].taps() * block.units[bundle] + 1) / 2;
  }
};

// False if the kernels do not take the convolution.
bool tile_grouped(const Shape& shape, FloatType type, bool transposed, GroupedTiling* tiling);
bool tile_grouped_wgrad(const Shape& shape, FloatType type, GroupedTiling* tiling);

// Plans without `covered` where the kernels do not take it.
Plan plan_grouped(const Shape& shape, FloatType type, Precision precision, bool transposed);
Plan plan_grouped_wgrad(const Shape& shape, FloatType type);

Status grouped_fprop(cudaStream_t stream, const Args& args);
Status grouped_dgrad(cudaStream_t stream, const Args& args);
Status grouped_wgrad(cudaStream_t stream, const Args& args);

}  // namespace jaxdirect::conv
