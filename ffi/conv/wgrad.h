#pragma once

// The filter's gradient on a GPU: what is asked, as its kernel sees it (wgrad_kernel.cuh), and how
// it is cut into work for thread blocks.
//
//   filter_bar[tap, c, k] = sum over output pixels of x[pixel at tap, c] * y_bar[pixel, k]
//
// A thread block owns 64 or 96 channels c, 64 or 128 channels k, a group of taps and a slice of the
// output pixels, which it takes tile by tile; slices are summed afterwards, in order. float32
// values are split in bf16 parts on the way (wgrad_split_kernel.cuh): two where they may be rounded
// as TF32, three for float32 accuracy.
//
// In a tile the same pixel of its images comes first, then pixels of a row, then rows: a run of
// eight that lie next to each other in shared memory is then full also where images are small, and
// stays one when a tap moves it.

#include <cstdint>

#include "conv/conv.h"

namespace jaxdirect::conv {

inline constexpr int kWgradTaps = 128;      // of a filter, at most
inline constexpr int kWgradTapsAtOnce = 5;  // of a warpgroup, of 64 channels
inline constexpr int kWgradTapsOf96 = 4;    // the same of 96 channels
inline constexpr int kRun = 8;              // neighbouring pixels; a step of depth is two runs
inline constexpr int kWgradBlock = 64;      // channels in a row of shared memory
inline constexpr int kStoreBox = 32;        // channels c and k that one copy takes to memory

struct WgradProblem {
  int batch = 0, height = 0, width = 0, channels = 0;
  int out_height = 0, out_width = 0, out_channels = 0;
  int stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
};

// Taps whose pixels lie on one grid of the image: its origin, rows and columns from it on.
struct WgradGroup {
  int16_t origin_h, origin_w;  // input pixel of output pixel (0, 0)'s first tap, without padding
  uint8_t first, count;        // places in `taps`; `count` is of both warpgroups together
  uint16_t slices;             // of the output pixels
};

struct WgradTap {
  uint8_t number;  // of the filter
  uint16_t shift;  // in the halo, in pixels
};

struct WgradTiling {
  int tile_images = 1, tile_height = 1, tile_width = kRun;
  int halo_height = 1, halo_width = 1;
  int runs = 1;
  int blocks_n = 1, blocks_h = 1, blocks_w = 1;
  int row_blocks = 1;         // 64-channel blocks of k: 2, or 1 and the warpgroups share the taps
  int columns = kWgradBlock;  // channels c
  int stages = 2;
  int halo_bytes = 0, y_bytes = 0;  // of one stage; the halo in all its parts
  // Of float32 alone. Runs go along lines of the halo: along an image's rows one by one or, `flat`,
  // from row to row, over pixels between them that are no output's.
  int parts = 1;
  bool flat = false;
  int raw_stages = 0, raw_bytes = 0;  // halos to be split
  int part_bytes = 0;                 // of a halo
  int y_rows = 0;                     // of a block of 32 channels; one and more are zeros
  int chunks = 1, column_blocks = 1, groups = 1;  // c, k, taps
  int slices = 1;                                 // of the group that has most
  int taps = 1;
  double cost = 0;  // expected, in clock ticks
  WgradGroup group[kWgradTaps];
  WgradTap tap[kWgradTaps];

  constexpr int tile_pixels() const { return tile_images * tile_height * tile_width; }
  constexpr int halo_pixels() const { return tile_images * halo_height * halo_width; }
  // Two at least: a stage is given back in the first step of the next tile.
  constexpr int steps() const { return runs > 4 ? (runs + 1) / 2 : 2; }
  constexpr int line_runs() const {
    const int line = flat ? (tile_height - 1) * halo_width + tile_width : tile_width;
    return (line * tile_images + kRun - 1) / kRun;
  }
  constexpr int x_blocks() const { return (columns + kWgradBlock - 1) / kWgradBlock; }
  constexpr int tiles() const { return blocks_n * blocks_h * blocks_w; }
  constexpr int items() const { return chunks * column_blocks * groups; }
  constexpr int slices_of_all() const {
    int sum = 0;
    for (int g = 0; g < groups; ++g) sum += group[g].slices;
    return sum;
  }
  // Stages, and later two taps' sums of each of two warpgroups.
  constexpr int data_bytes() const {
    const int sums = 4 * columns * kWgradBlock * 4;
    const int pixels = stages * (halo_bytes + y_bytes) + raw_stages * raw_bytes;
    return pixels > sums ? pixels : sums;
  }
  constexpr int shared_bytes() const { return data_bytes() + 1024 + 1024; }
};

// Whether the kernel takes it; if so, how. `parts` of float32 values, or 1 for 16-bit values.
bool tile_wgrad(const Shape& shape, int parts, WgradProblem* problem, WgradTiling* tiling);

// The steps of that, for a tile that is given: taps in groups and the halo; the grid; the slices of
// every group, `least` to `most`, so that blocks take equally long. group_cost: clock ticks of one
// of the group's items over all pixels.
bool group_taps(const Shape& shape, WgradTiling* tiling);
void set_blocks(const Shape& shape, WgradTiling* tiling);
void choose_slices(const Shape& shape, const double* group_cost, int least, int most,
                   WgradTiling* tiling);
// The best tile of float32 values.
bool tile_split(const Shape& shape, WgradTiling* tiling);

}  // namespace jaxdirect::conv
