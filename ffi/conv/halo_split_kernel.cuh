#pragma once

// halo_kernel.cuh for float32 accuracy: each value is the sum of three bf16 parts, and six of the
// nine products of parts are summed (the other three are below float32's last bit).
//
//   x w = x0 w0 + [x0 w1 + x1 w0 + x0 w2 + x2 w0 + x1 w1]
//
// x is split in registers, after ldmatrix; the filter comes packed (pack_filter). Tensor cores
// truncate when they add, so the leading product's sum is taken up into float32 registers every
// 128 values of depth; the corrections, 2^-8 of it and less, have accumulators of their own.
// Where a part overflows or an operand is infinite or NaN, the corrections are NaN and dropped:
// the leading product alone then has the right infinity or NaN.

#include "conv/float_parts.cuh"
#include "conv/halo_pipeline.cuh"
#include "conv/halo_store.cuh"
#include "conv/wgmma.cuh"

namespace jaxdirect::conv {

inline constexpr int kSplitDepth = 32;     // of a chunk
inline constexpr int kSplitRowBytes = 64;  // of a packed filter's row
inline constexpr int kPromotionSlabs = 4;  // 128 values of depth

#if JAXDIRECT_HOPPER

struct SplitOperand {
  uint32_t part[3][4];
};

// Loads 64 x 16 values at `address` and the next 32 bytes.
__device__ __forceinline__ void load_split(SplitOperand& operand, uint32_t address, int step) {
  uint32_t low[4], high[4];
  load_matrices(low, address ^ step * 64);
  load_matrices(high, address ^ (step * 64 + 32));
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    split_pair<3, 4>(__uint_as_float(low[row]), __uint_as_float(low[row + 2]),
                     &operand.part[0][row]);
    split_pair<3, 4>(__uint_as_float(high[row]), __uint_as_float(high[row + 2]),
                     &operand.part[0][row + 2]);
  }
}

// One warpgroup has 64 rows by kColumns.
template <int kColumns>
__device__ __forceinline__ void multiply_split_tiles(const HaloProblem& p, const HaloTiling& t,
                                                     const Rings& rings, int chunks, float* out) {
  using B = __nv_bfloat16;
  constexpr int kPartBytes = kColumns * kSplitRowBytes;
  const uint64_t layout = operand_layout_64(8 * kSplitRowBytes);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_row = warp * 16;
  const int pixel = halo_pixel(p, t, first_row + lane % 16);

  const int slabs = chunks * p.taps_h * p.taps_w;  // of a tile: a chunk and a tap each
  RingPlace halo, filter;
  const int tiles = t.blocks();
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    float sums[kColumns / 2], leading[kColumns / 2], corrections[kColumns / 2];
#pragma unroll
    for (float& sum : sums) sum = 0;
    SplitOperand a[2];
    TapWalk walk(p, t);
    HeldStages held;
    const auto promote = [&] {
      settle(leading);
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) sums[i] += leading[i];
    };
    barrier_wait(rings.halo_full(halo.stage), halo.parity);
    uint32_t address = operand_row(rings.halo_at(halo.stage), pixel, lane);
    load_split(a[0], address, 0);
    for (int slab = 0; slab < slabs; ++slab) {
      if (slab > 0 && slab % kPromotionSlabs == 0) {
        product_wait<0>();
        promote();
      }
      barrier_wait(rings.filter_full(filter.stage), filter.parity);
      const uint32_t stage = rings.filter_at(filter.stage);
      HeldStages done{filter.stage, -1};
      filter.advance(t.filter_stages);
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        uint64_t b[3];
#pragma unroll
        for (int part = 0; part < 3; ++part) {
          b[part] = operand_at(layout, stage + part * kPartBytes + s * 32);
        }
        product_fence();
        multiply<B, kColumns, false>(corrections, a[s].part[2], b[0], slab + s > 0);
        multiply<B, kColumns, false>(corrections, a[s].part[0], b[2], true);
        multiply<B, kColumns, false>(corrections, a[s].part[1], b[1], true);
        multiply<B, kColumns, false>(corrections, a[s].part[1], b[0], true);
        multiply<B, kColumns, false>(corrections, a[s].part[0], b[1], true);
        multiply<B, kColumns, false>(leading, a[s].part[0], b[0],
                                     s > 0 || slab % kPromotionSlabs != 0);
        product_commit();
        product_wait<1>();  // the other operand is free
        if (s == 0) {
          held.release(rings, lane);  // of the slab before
          load_split(a[1], address, 1);
        } else {
          if (walk.advance()) next_halo(t, rings, lane, slab + 1 < slabs, halo);
          address = operand_row(rings.halo_at(halo.stage), pixel + walk.shift(), lane);
          load_split(a[0], address, 0);
        }
      }
      held = done;
    }
    product_wait<0>();
    held.release(rings, lane);
    promote();
    settle(corrections);
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      if (corrections[i] == corrections[i]) sums[i] += corrections[i];
    }
    const TilePlace place(t, tile);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t to = stored_pixel(p, t, place, first_row + lane / 4 + 8 * half);
      store_row<kColumns>(sums, half, to < 0 ? nullptr : out + to * p.out_channels + place.k,
                          p.out_channels - place.k);
    }
  }
}

#endif  // JAXDIRECT_HOPPER

template <int kColumns>
__global__ void __launch_bounds__(kThreads, 1)
    halo_conv_split(const __grid_constant__ CUtensorMap x,
                    const __grid_constant__ CUtensorMap filter, float* out,
                    const __grid_constant__ HaloProblem p, const __grid_constant__ HaloTiling t) {
#if JAXDIRECT_HOPPER
  extern __shared__ char shared[];
  const Rings rings(t, shared);
  const int chunks = (p.in_channels + kSplitDepth - 1) / kSplitDepth;
  if (threadIdx.x == 0) rings.initialise(t.halo_stages + t.filter_stages);
  __syncthreads();
  if (warpgroup() >= kConsumers) {
    give_registers<24>();
    if (threadIdx.x == 128 * kConsumers) {
      fetch_halos(x, p, t, rings, chunks, kSplitDepth);
    } else if (threadIdx.x == 128 * kConsumers + 32) {
      fetch_filters(p, t, rings, chunks,
                    [&](uint32_t to, uint32_t barrier, int chunk, int k, int tap) {
                      copy_tensor(to, &filter, barrier, 0, k, (tap * chunks + chunk) * 3);
                    });
    }
  } else {
    take_registers<240>();
    multiply_split_tiles<kColumns>(p, t, rings, chunks, out);
  }
#endif
}

}  // namespace jaxdirect::conv
