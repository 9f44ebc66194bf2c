#pragma once

// halo_kernel.cuh with the roles exchanged: output channels are rows, pixels are columns.
//
//   y[k, pixel] = sum over chunks, taps, channels of filter[tap, channel, k] * halo[pixel + tap,
//   channel]
//
// For tiles of 28 rows of 8 pixels, which are 224 columns: the right operand's groups of eight are
// a tile's rows, so the halo is read through the descriptor, moved by the tap. The left operand, 64
// output channels, comes by ldmatrix, and serves 224 columns instead of 64: shared memory feeds a
// product of 112 ticks with 9 KB, where halo_kernel.cuh needs 4 KB for 32 ticks.
//
// A block takes 64 channels by two neighbouring such tiles, a warpgroup each, that share a halo.

#include "conv/halo_pipeline.cuh"
#include "conv/halo_store.cuh"
#include "conv/wgmma.cuh"

namespace jaxdirect::conv {

inline constexpr int kRunsOfTile = 28;
inline constexpr int kTileColumns = 8 * kRunsOfTile;

#if JAXDIRECT_HOPPER

// The accumulators of a warp, 16 channels by 224 pixels, to memory: 16 bytes a lane.
template <typename T>
__device__ __forceinline__ void store_columns(const float (&sums)[kTileColumns / 2],
                                              const HaloProblem& p, const TilePlace& place,
                                              int first_w, int k, T* out) {
  const int lane = threadIdx.x % 32, quad = lane % 4;
#pragma unroll
  for (int pair = 0; pair < kRunsOfTile / 2; ++pair) {
    uint32_t v[4];  // two runs, each of two blocks of eight channels
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int first = 4 * (2 * pair + i / 2) + 2 * (i % 2);
      v[i] = transpose_block(pack_pair(sums[first], sums[first + 1], T()));
    }
    transpose_quad(v, quad);
    const int h = place.h + 2 * pair + quad / 2, w = first_w + lane / 4, at_k = k + 8 * (quad % 2);
    if (h < p.out_height && w < p.out_width && at_k < p.out_channels) {
      const int64_t row = int64_t{place.n} * p.store_height + h * p.store_step_h + p.store_first_h;
      const int64_t pixel = row * p.store_width + w * p.store_step_w + p.store_first_w;
      *reinterpret_cast<uint4*>(out + pixel * p.out_channels + at_k) =
          make_uint4(v[0], v[1], v[2], v[3]);
    }
  }
}

template <typename T, bool kColumnMajor>
__device__ __forceinline__ void multiply_columns(const HaloProblem& p, const HaloTiling& t,
                                                 const Rings& rings, int chunks, T* out) {
  constexpr int kSteps = kChunkBytes / 32;
  const uint64_t layout = operand_layout(t.halo_width * kSwizzleRow, 16);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, group = warpgroup();
  const int tile_column = 8 * group;
  // A lane's row in the filter's stage. [depth, 64 channels]: matrices 1 and 3 hold the upper eight
  // channels, 2 and 3 the upper eight of depth. [channels, depth]: rows are channels.
  const int row = kColumnMajor ? lane / 16 * 8 + lane % 8 : 16 * warp + lane % 16;
  const int piece = kColumnMajor ? 2 * warp + lane / 8 % 2 : lane / 16;
  const uint32_t filter_lane = row * kSwizzleRow + (piece ^ row % 8) * 16;
  const int slabs = chunks * p.taps_h * p.taps_w;
  const auto load = [&](uint32_t (&a)[4], uint32_t stage, int step) {
    if constexpr (kColumnMajor) {
      load_transposed(a, stage + filter_lane + step * 16 * kSwizzleRow);
    } else {
      load_matrices(a, (stage + filter_lane) ^ step * 32);
    }
  };

  RingPlace halo, filter;
  const int tiles = t.blocks();
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    float sums[kTileColumns / 2];
    uint32_t a[kSteps][4];
    TapWalk walk(p, t);
    HeldStages held;
    barrier_wait(rings.halo_full(halo.stage), halo.parity);
    barrier_wait(rings.filter_full(filter.stage), filter.parity);
    load(a[0], rings.filter_at(filter.stage), 0);
    for (int slab = 0; slab < slabs; ++slab) {
      const uint32_t stage = rings.filter_at(filter.stage);
      const uint32_t window =
          rings.halo_at(halo.stage) + (walk.shift() + tile_column) * kSwizzleRow;
      HeldStages done{filter.stage, -1};
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        product_fence();
        multiply<T, kTileColumns, false>(sums, a[s], operand_at(layout, window + s * 32),
                                         slab + s > 0);
        product_commit();
        if (s + 1 < kSteps) {
          load(a[s + 1], stage, s + 1);
        } else if (slab + 1 < slabs) {
          if (walk.advance()) {
            done.halo = halo.stage;
            halo.advance(t.halo_stages);
            barrier_wait(rings.halo_full(halo.stage), halo.parity);
          }
          filter.advance(t.filter_stages);
          barrier_wait(rings.filter_full(filter.stage), filter.parity);
          load(a[0], rings.filter_at(filter.stage), 0);
        }
        product_wait<2>();
        if (s == 1) held.release(rings, lane);
      }
      held = done;
    }
    product_wait<0>();
    held.halo = halo.stage;
    held.release(rings, lane);
    halo.advance(t.halo_stages);
    filter.advance(t.filter_stages);
    settle(sums);
    const TilePlace place(t, tile);
    store_columns(sums, p, place, place.w + tile_column, place.k + warp * 16, out);
  }
}

#endif  // JAXDIRECT_HOPPER

template <typename T, bool kColumnMajor>
__global__ void __launch_bounds__(kThreads, 1)
    halo_conv_columns(const __grid_constant__ CUtensorMap x,
                      const __grid_constant__ CUtensorMap filter, T* out,
                      const __grid_constant__ HaloProblem p, const __grid_constant__ HaloTiling t) {
#if JAXDIRECT_HOPPER
  extern __shared__ char shared[];
  const Rings rings(t, shared);
  const int chunk_values = kChunkBytes / static_cast<int>(sizeof(T));
  const int chunks = (p.in_channels + chunk_values - 1) / chunk_values;
  if (threadIdx.x == 0) rings.initialise(t.halo_stages + t.filter_stages);
  __syncthreads();
  if (warpgroup() >= kConsumers) {
    give_registers<40>();
    if (threadIdx.x == 128 * kConsumers) {
      fetch_halos(x, p, t, rings, chunks, chunk_values);
    } else if (threadIdx.x == 128 * kConsumers + 32) {
      fetch_filters(p, t, rings, chunks,
                    [&](uint32_t to, uint32_t barrier, int chunk, int k, int tap) {
                      const int depth = chunk * chunk_values;
                      copy_tensor(to, &filter, barrier, kColumnMajor ? k : depth,
                                  kColumnMajor ? depth : k, tap);
                    });
    }
  } else {
    take_registers<232>();
    multiply_columns<T, kColumnMajor>(p, t, rings, chunks, out);
  }
#endif
}

}  // namespace jaxdirect::conv
