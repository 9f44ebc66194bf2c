#pragma once

// Convolution of images with few channels (a network's first layer), as the GPU's kernels see it.
//
// A pixel of x has 1 to 8 channels, too few for a row of a matrix product's operand. But for one
// row u of the filter all of a window's values are neighbours in a row of x:
//
//   y[n, p, q, k] = sum over u, j of x_row(p * stride_h + u)[q * stride_w * C + j] * filter[u, j,
//   k]
//
// with j = v * C + c. So a tile's rows of x come into shared memory as they are, without gaps
// (its patch), and windows are read from there where they overlap: the window order of Im2win.

#include <compare>
#include <cstdint>

#include "conv/conv.h"

namespace jaxdirect::conv {

inline constexpr int kStemChannels = 8;  // of x, at most
inline constexpr int kStemCopies = 8;    // of a patch, at most

// Of a row of float32 x, which a warp fetches at once, 16 bytes a lane (stem_rows.cuh).
inline constexpr int kStemSegmentBytes = 512;

// Lanes that place their own. Copies that are no multiple of four values apart take from the next
// lane, which the last has not.
constexpr int stem_segment_lanes(int copies, int copy_step) {
  return copies > 1 && copy_step % 4 != 0 ? 31 : 32;
}

// Extents, strides and low padding of a convolution with one group and without dilation.
struct StemProblem {
  int batch = 0, height = 0, width = 0, channels = 0;
  int out_height = 0, out_width = 0, out_channels = 0;
  int filter_height = 1, filter_width = 1;
  int stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;

  constexpr int window_values() const { return filter_width * channels; }  // of one filter row
  constexpr int step_values() const { return stride_w * channels; }        // of x to the next pixel

  auto operator<=>(const StemProblem&) const = default;
};

// Whether the convolution is one for these kernels, and what they see.
bool as_stem(const Shape& shape, StemProblem* problem);

// What of x lies in shared memory for a tile of tile_height x tile_width output pixels. A copy is
// all rows, each from its value number `copy * copy_step` on, so that any window's first value is
// aligned in one of them; a plane is one bf16 part of float32 values, or the values themselves.
struct StemPatch {
  int tile_height = 1, tile_width = 8;
  int values = 8;           // of a row that windows read
  int rows = 1, units = 1;  // a unit is 8 values of a row
  int row_bytes = 16;
  int copies = 1, copy_step = 1;
  int planes = 1;
  int copy_bytes = 0;             // rows * row_bytes, or more
  int copy_at[kStemCopies] = {};  // byte of each copy in a plane

  constexpr int unit_bytes() const { return row_bytes / units; }
  constexpr int plane_bytes() const { return copies * copy_bytes; }
  constexpr int bytes() const { return planes * plane_bytes(); }

  // Of a row of float32 x.
  constexpr int segments() const {
    const int of_one = stem_segment_lanes(copies, copy_step) * 4;
    return (values + of_one - 1) / of_one;
  }
  // Segments of each of `warps`, at most, and the buffer of all.
  constexpr int segment_turns(int warps) const { return (rows * segments() + warps - 1) / warps; }
  constexpr int raw_bytes(int warps) const {
    return segment_turns(warps) * warps * kStemSegmentBytes;
  }

  // `run` values of a window's row are read from its first on; value_bytes are of shared memory's.
  StemPatch() = default;
  constexpr StemPatch(const StemProblem& p, int tile_height, int tile_width, int run, int copies,
                      int copy_step, int planes, int value_bytes)
      : tile_height(tile_height),
        tile_width(tile_width),
        values((tile_width - 1) * p.step_values() + run),
        rows((tile_height - 1) * p.stride_h + p.filter_height),
        units((values + 7) / 8),
        row_bytes(units * 8 * value_bytes),
        copies(copies),
        copy_step(copy_step),
        planes(planes),
        copy_bytes(rows * row_bytes) {
    for (int copy = 0; copy < copies; ++copy) copy_at[copy] = copy * copy_bytes;
  }
};

}  // namespace jaxdirect::conv
