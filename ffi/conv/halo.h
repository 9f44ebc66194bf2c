#pragma once

// Convolution over halo tiles, as the GPU's kernel sees it (halo_kernel.cuh): what is asked, and
// how it is cut into tiles.
//
// A tile is a box of output pixels, images x rows x columns. The input pixels that any of its
// windows touch (its halo) come into shared memory once for each chunk of channels, and every tap
// of the filter reads them there, shifted: the window order of Im2win, in shared memory. A halo's
// pixels lie there row by row; of each place the images' pixels one after another.

#include <compare>
#include <cstdint>

namespace jaxdirect::conv {

inline constexpr int kChunkBytes = 128;  // of one pixel's channels in shared memory

// Output channels that the copy engine stores at a time, of a tile with so many.
constexpr int stored_width(int columns, int value_bytes) {
  return columns % 64 == 0 && value_bytes == 2 ? 64 : 32;
}

// A convolution with stride over `in`; dgrad is one over y_bar, or one for each phase of a stride.
struct HaloProblem {
  int batch = 0;
  int in_height = 0, in_width = 0, in_channels = 0;
  int out_height = 0, out_width = 0, out_channels = 0;  // of this problem's outputs
  int stride_h = 1, stride_w = 1;
  int origin_h = 0, origin_w = 0;  // input pixel of the first tap of output pixel (0, 0)
  int taps_h = 1, taps_w = 1;
  int tap_step_h = 1, tap_step_w = 1;  // input pixels between taps
  // The filter's tap (i, j) is number first + i * filter_step_h + j * filter_step_w.
  int filter_taps = 1;
  int first_filter_tap = 0;
  int filter_step_h = 0, filter_step_w = 1;
  // Output pixel (p, q) is stored at (p * store_step_h + store_first_h, ...) of an image of
  // store_height x store_width.
  int store_height = 0, store_width = 0;
  int store_step_h = 1, store_step_w = 1;
  int store_first_h = 0, store_first_w = 0;

  auto operator<=>(const HaloProblem&) const = default;
};

// How a kernel cuts it. Sizes in pixels unless they say bytes.
struct HaloTiling {
  int tile_images = 1, tile_height = 1, tile_width = 1;
  int halo_height = 1, halo_width = 1;
  int blocks_n = 1, blocks_h = 1, blocks_w = 1, blocks_k = 1;  // of the grid of tiles
  // Where products read the halo through descriptors (halo_direct_kernel.cuh): a product's 64 rows
  // are a box too, and its groups of eight rows lie that many halo pixels apart.
  int product_height = 0, product_width = 0, group_step = 0;
  // Columns of the image that a stride separates lie in planes of their own, and `halo_width` is
  // that of one.
  int planes = 1;
  bool resident =
      false;        // the filter stays in shared memory; the warpgroups have tiles of their own
  int rows = 0;     // accumulator rows of a tile, at least its pixels
  int columns = 0;  // output channels of a tile
  int halo_stages = 1, filter_stages = 1;
  int halo_bytes = 0;    // of one stage
  int filter_bytes = 0;  // of one stage
  int store_bytes = 0;   // of results on their way
  double cost = 0;       // expected time, in clock ticks of one multiprocessor

  constexpr int plane_pixels() const { return tile_images * halo_height * halo_width; }
  // Planes start where the swizzle does.
  constexpr int plane_bytes() const { return (plane_pixels() * kChunkBytes + 1023) / 1024 * 1024; }
  constexpr int tile_pixels() const { return tile_images * tile_height * tile_width; }
  constexpr int64_t blocks() const {
    return int64_t{1} * blocks_n * blocks_h * blocks_w * blocks_k;
  }
  // Thread blocks that have work. Those of a resident filter have one range of channels and two
  // tiles at a time.
  constexpr int block_step() const { return resident ? blocks_k : 1; }
  constexpr int64_t thread_blocks() const {
    return resident ? (blocks() / blocks_k + 1) / 2 * blocks_k : blocks();
  }
  constexpr int shared_bytes() const {
    return halo_stages * halo_bytes + filter_stages * filter_bytes + store_bytes + 1024 + 256;
  }
};

// What a kernel's variant takes: rows (pixels) and columns (output channels) of its tile, bytes of
// a value, and the ticks of one 64-row product over 32 bytes of depth.
struct HaloVariant {
  int rows;
  int columns;
  int value_bytes;
  int filter_value_bytes;  // times parts
  double ticks;
  // kMatrixLoads: halo_kernel.cuh, halo_split_kernel.cuh. The others: halo_direct_kernel.cuh.
  enum Reading { kMatrixLoads, kDescriptors, kResidentFilter } reading = kMatrixLoads;
};

struct Multiprocessors {
  int count = 132;
  int shared_bytes = 227 * 1024;
};

// The cheapest tiling of one variant; false if none fits.
bool tile_halo(const HaloProblem& problem, const HaloVariant& variant, const Multiprocessors& gpu,
               HaloTiling* tiling);

}  // namespace jaxdirect::conv
