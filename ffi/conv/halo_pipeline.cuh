#pragma once

// What every kernel over halo tiles shares: the tiles' places, the two rings of stages in shared
// memory and the warps that fill them.

#include "conv/halo.h"
#include "conv/hopper.cuh"

namespace jaxdirect::conv {

inline constexpr int kConsumers = 2;                     // warpgroups that multiply
inline constexpr int kThreads = 128 * (kConsumers + 1);  // and one that fetches
inline constexpr int kConsumerWarps = 4 * kConsumers;

#if JAXDIRECT_HOPPER

// First output pixel and channel of a tile. Tiles of the same pixels follow one another, so that
// their input is read from L2.
struct TilePlace {
  int n, h, w, k;

  TilePlace() = default;
  __device__ TilePlace(const HaloTiling& t, int tile) {
    k = tile % t.blocks_k * t.columns;
    tile /= t.blocks_k;
    w = tile % t.blocks_w * t.tile_width;
    tile /= t.blocks_w;
    h = tile % t.blocks_h * t.tile_height;
    n = tile / t.blocks_h * t.tile_images;
  }
};

// A place in a ring of stages, and the parity of its barriers there.
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;

  __device__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Stages and barriers in shared memory: halos, filters, what waits to be stored, then a full and an
// empty barrier each.
struct Rings {
  uint32_t halo, filter, barriers;
  int halo_bytes, filter_bytes, halo_stages;

  __device__ Rings(const HaloTiling& t, const void* shared) {
    halo = (shared_address(shared) + 1023) / 1024 * 1024;
    halo_bytes = t.halo_bytes;
    filter_bytes = t.filter_bytes;
    halo_stages = t.halo_stages;
    filter = halo + t.halo_stages * t.halo_bytes;
    barriers = filter + t.filter_stages * t.filter_bytes + t.store_bytes;
  }

  __device__ uint32_t halo_at(int stage) const { return halo + stage * halo_bytes; }
  __device__ uint32_t filter_at(int stage) const { return filter + stage * filter_bytes; }
  __device__ uint32_t halo_full(int stage) const { return barriers + 16 * stage; }
  __device__ uint32_t halo_empty(int stage) const { return halo_full(stage) + 8; }
  __device__ uint32_t filter_full(int stage) const { return halo_full(halo_stages + stage); }
  __device__ uint32_t filter_empty(int stage) const { return filter_full(stage) + 8; }

  // By one thread; the block synchronises afterwards. Each stage is read by that many warps.
  __device__ void initialise(int stages, int warps = kConsumerWarps) const {
    for (int i = 0; i < stages; ++i) {
      barrier_init(halo_full(i), 1);
      barrier_init(halo_empty(i), warps);
    }
    barrier_init_fence();
  }
};

// One thread: every chunk of a tile's halo, as stages become free.
__device__ inline void fetch_halo(const CUtensorMap& x, const HaloProblem& p, const HaloTiling& t,
                                  const Rings& rings, const TilePlace& at, int chunks,
                                  int chunk_values, RingPlace& place) {
  const uint32_t bytes = t.plane_pixels() * kChunkBytes;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    barrier_wait(rings.halo_empty(place.stage), place.parity ^ 1);
    barrier_expect(rings.halo_full(place.stage), bytes * t.planes);
    for (int plane = 0; plane < t.planes; ++plane) {
      copy_tensor(rings.halo_at(place.stage) + plane * t.plane_bytes(), &x,
                  rings.halo_full(place.stage), chunk * chunk_values, at.n,
                  at.w * p.stride_w + p.origin_w + plane, at.h * p.stride_h + p.origin_h);
    }
    place.advance(t.halo_stages);
  }
}

// The halos of all tiles of the block.
__device__ inline void fetch_halos(const CUtensorMap& x, const HaloProblem& p, const HaloTiling& t,
                                   const Rings& rings, int chunks, int chunk_values) {
  const int tiles = t.blocks();
  RingPlace place;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    fetch_halo(x, p, t, rings, TilePlace(t, tile), chunks, chunk_values, place);
  }
}

// One thread: the filter's values for every chunk and tap. `copy(to, barrier, chunk, k, tap)`
// starts the copies of one stage.
template <typename Copy>
__device__ inline void fetch_filters(const HaloProblem& p, const HaloTiling& t, const Rings& rings,
                                     int chunks, const Copy& copy) {
  const int tiles = t.blocks();
  RingPlace place;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int k = TilePlace(t, tile).k;
    for (int chunk = 0; chunk < chunks; ++chunk) {
      for (int i = 0; i < p.taps_h; ++i) {
        for (int j = 0; j < p.taps_w; ++j) {
          const int tap = p.first_filter_tap + i * p.filter_step_h + j * p.filter_step_w;
          barrier_wait(rings.filter_empty(place.stage), place.parity ^ 1);
          barrier_expect(rings.filter_full(place.stage), t.filter_bytes);
          copy(rings.filter_at(place.stage), rings.filter_full(place.stage), chunk, k, tap);
          place.advance(t.filter_stages);
        }
      }
    }
  }
}

// Walks over the taps of a chunk, as a shift in halo pixels.
class TapWalk {
 public:
  __device__ TapWalk(const HaloProblem& p, const HaloTiling& t)
      : taps_(p.taps_h * p.taps_w),
        taps_w_(p.taps_w),
        step_(p.tap_step_w * t.tile_images),
        row_step_((p.tap_step_h * t.halo_width - (p.taps_w - 1) * p.tap_step_w) * t.tile_images) {}

  __device__ int shift() const { return shift_; }

  // Returns whether a new chunk begins.
  __device__ bool advance() {
    const bool row_ends = ++column_ == taps_w_;
    shift_ += row_ends ? row_step_ : step_;
    if (row_ends) column_ = 0;
    if (++tap_ < taps_) return false;
    tap_ = shift_ = 0;
    return true;
  }

 private:
  const int taps_, taps_w_, step_, row_step_;
  int tap_ = 0, column_ = 0, shift_ = 0;
};

// Stages that running products may still read, to be given back once those have ended.
struct HeldStages {
  int filter = -1, halo = -1;

  __device__ void release(const Rings& rings, int lane) {
    if (lane == 0 && filter >= 0) barrier_arrive(rings.filter_empty(filter));
    if (lane == 0 && halo >= 0) barrier_arrive(rings.halo_empty(halo));
    filter = halo = -1;
  }
};

// Gives back a halo of which all has been loaded into registers, before waiting for the next: there
// may be but one stage.
__device__ __forceinline__ void next_halo(const HaloTiling& t, const Rings& rings, int lane,
                                          bool wait, RingPlace& halo) {
  if (lane == 0) barrier_arrive(rings.halo_empty(halo.stage));
  halo.advance(t.halo_stages);
  if (wait) barrier_wait(rings.halo_full(halo.stage), halo.parity);
}

// Where a lane finds 16 bytes of its row of the left operand: half a step of depth is lane / 16.
__device__ __forceinline__ uint32_t operand_row(uint32_t halo, int pixel, int lane) {
  const uint32_t row = pixel;
  return halo + row * 128 + ((row % 8) ^ (lane / 16u)) * 16;
}

// The pixel of a tile that accumulator row `row` stands for.
struct TilePixel {
  int n, h, w;

  __device__ TilePixel(const HaloTiling& t, int row) {
    n = row % t.tile_images;
    row /= t.tile_images;
    w = row % t.tile_width;
    h = row / t.tile_width;
  }
};

// Number of its first window's first pixel in the halo; rows beyond the tile read its first.
__device__ inline int halo_pixel(const HaloProblem& p, const HaloTiling& t, int row) {
  if (row >= t.tile_pixels()) return 0;
  const TilePixel at(t, row);
  return (at.h * p.stride_h * t.halo_width + at.w * p.stride_w) * t.tile_images + at.n;
}

// Where a row's output channels start, as a pixel's number; -1 for rows that are no pixel.
__device__ inline int64_t stored_pixel(const HaloProblem& p, const HaloTiling& t,
                                       const TilePlace& place, int row) {
  if (row >= t.tile_pixels()) return -1;
  const TilePixel at(t, row);
  const int n = place.n + at.n, h = place.h + at.h, w = place.w + at.w;
  if (n >= p.batch || h >= p.out_height || w >= p.out_width) return -1;
  const int64_t image_row = int64_t{n} * p.store_height + h * p.store_step_h + p.store_first_h;
  return image_row * p.store_width + w * p.store_step_w + p.store_first_w;
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
