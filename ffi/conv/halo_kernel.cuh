#pragma once

// Convolution over halo tiles on tensor cores; see halo.h for the tiles.
//
//   y[pixel, k] = sum over chunks, taps, channels of halo[pixel + tap, channel] * filter[tap,
//   channel, k]
//
// A block of three warpgroups takes tiles one after another. Two multiply: each owns
// 64 * kRowBlocks pixels by kColumns output channels in registers. Rows of the left operand are
// pixels, loaded by ldmatrix from wherever the window is (any stride, dilation, image edge), so a
// tile has as many useful rows as pixels. Filters stream through a ring of stages, 128 bytes of
// depth by kColumns each, the right operand straight from shared memory. The third group's two
// threads keep both rings full.
//
// Bytes: a halo once a tile instead of once a tap; floor: max(operations / tensor cores, x + y).
// Shared memory feeds products with 128 bytes a tick: the right operand takes kColumns / 4 ticks of
// each kColumns / 2 that a 64-row product lasts, ldmatrix 16.

#include "conv/halo_pipeline.cuh"
#include "conv/halo_store.cuh"
#include "conv/wgmma.cuh"

namespace jaxdirect::conv {

// The type in memory, of which the tensor cores take T.
template <typename T>
struct StoredAs {
  using Type = T;
};
template <>
struct StoredAs<Tf32> {
  using Type = float;
};

#if JAXDIRECT_HOPPER

// Float32 bits to the nearest TF32.
template <typename T>
__device__ __forceinline__ void round_operand(uint32_t (&a)[4]) {
  if constexpr (std::is_same_v<T, Tf32>) {
#pragma unroll
    for (uint32_t& bits : a) asm("cvt.rna.tf32.f32 %0, %0;" : "+r"(bits));
  }
}

// Starts the copies of one stage of filters, in its form: see FilterForm.
template <typename T, int kColumns, bool kColumnMajor>
struct FilterCopy {
  const CUtensorMap& filter;
  int chunks, chunk_values;

  __device__ void operator()(uint32_t to, uint32_t barrier, int chunk, int k, int tap) const {
    if constexpr (kColumnMajor) {
#pragma unroll
      for (int block = 0; block < kColumns / 64; ++block) {
        copy_tensor(to + block * 64 * kSwizzleRow, &filter, barrier, k + 64 * block,
                    chunk * chunk_values, tap);
      }
    } else if constexpr (std::is_same_v<T, Tf32>) {  // packed
      copy_tensor(to, &filter, barrier, 0, k, tap * chunks + chunk);
    } else {
      copy_tensor(to, &filter, barrier, chunk * chunk_values, k, tap);
    }
  }
};

template <typename T, int kRowBlocks, int kColumns, bool kColumnMajor>
__device__ __forceinline__ void multiply_tiles(const HaloProblem& p, const HaloTiling& t,
                                               const Rings& rings, int chunks,
                                               typename StoredAs<T>::Type* out) {
  // Each has operands of its own, and two products may still run when the next ones are loaded.
  constexpr int kSteps = kChunkBytes / 32;
  constexpr int kStepBytes = kColumnMajor ? 16 * kSwizzleRow : 32;  // of depth, in a filter stage
  const uint64_t layout = operand_layout(8 * kSwizzleRow, kColumnMajor ? 64 * kSwizzleRow : 16);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first_row = (warp / 4 * kRowBlocks * 4 + warp % 4) * 16;

  int pixel[kRowBlocks];
#pragma unroll
  for (int b = 0; b < kRowBlocks; ++b) pixel[b] = halo_pixel(p, t, first_row + 64 * b + lane % 16);

  const int slabs = chunks * p.taps_h * p.taps_w;  // of a tile: a chunk and a tap each
  RingPlace halo, filter;
  const int tiles = t.blocks();
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    float sums[kRowBlocks][kColumns / 2];
    uint32_t address[kRowBlocks], a[kSteps][kRowBlocks][4];
    TapWalk walk(p, t);
    HeldStages held;
    const auto begin_slab = [&] {
#pragma unroll
      for (int b = 0; b < kRowBlocks; ++b) {
        address[b] = operand_row(rings.halo_at(halo.stage), pixel[b] + walk.shift(), lane);
        load_matrices(a[0][b], address[b]);
      }
    };
    barrier_wait(rings.halo_full(halo.stage), halo.parity);
    begin_slab();
    for (int slab = 0; slab < slabs; ++slab) {
      barrier_wait(rings.filter_full(filter.stage), filter.parity);
      const uint32_t stage = rings.filter_at(filter.stage);
      HeldStages done{filter.stage, -1};
      filter.advance(t.filter_stages);
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
#pragma unroll
        for (int b = 0; b < kRowBlocks; ++b) round_operand<T>(a[s][b]);
        product_fence();
#pragma unroll
        for (int b = 0; b < kRowBlocks; ++b) {
          multiply<T, kColumns, kColumnMajor>(
              sums[b], a[s][b], operand_at(layout, stage + s * kStepBytes), slab + s > 0);
        }
        product_commit();
        if (s + 1 < kSteps) {
#pragma unroll
          for (int b = 0; b < kRowBlocks; ++b) {
            load_matrices(a[s + 1][b], address[b] ^ (s + 1) * 32);
          }
        } else {  // the next slab's first, so that products never wait for it
          if (walk.advance()) next_halo(t, rings, lane, slab + 1 < slabs, halo);
          begin_slab();
        }
        product_wait<2>();
        if (s == 1) held.release(rings, lane);  // of the slab before
      }
      held = done;
    }
    product_wait<0>();
    held.release(rings, lane);
    const TilePlace place(t, tile);
#pragma unroll
    for (int b = 0; b < kRowBlocks; ++b) {
      settle(sums[b]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = first_row + 64 * b + lane / 4 + 8 * half;
        const int64_t to = stored_pixel(p, t, place, row);
        store_row<kColumns>(sums[b], half, to < 0 ? nullptr : out + to * p.out_channels + place.k,
                            p.out_channels - place.k);
      }
    }
  }
}

#endif  // JAXDIRECT_HOPPER

template <typename T, int kRowBlocks, int kColumns, bool kColumnMajor>
__global__ void __launch_bounds__(kThreads, 1)
    halo_conv(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap filter,
              typename StoredAs<T>::Type* out, const __grid_constant__ HaloProblem p,
              const __grid_constant__ HaloTiling t) {
#if JAXDIRECT_HOPPER
  extern __shared__ char shared[];
  const Rings rings(t, shared);
  const int chunk_values = kChunkBytes / static_cast<int>(sizeof(typename StoredAs<T>::Type));
  const int chunks = (p.in_channels + chunk_values - 1) / chunk_values;
  if (threadIdx.x == 0) rings.initialise(t.halo_stages + t.filter_stages);
  __syncthreads();
  if (warpgroup() >= kConsumers) {
    give_registers<40>();
    if (threadIdx.x == 128 * kConsumers) {
      fetch_halos(x, p, t, rings, chunks, chunk_values);
    } else if (threadIdx.x == 128 * kConsumers + 32) {
      fetch_filters(p, t, rings, chunks,
                    FilterCopy<T, kColumns, kColumnMajor>{filter, chunks, chunk_values});
    }
  } else {
    take_registers<232>();
    multiply_tiles<T, kRowBlocks, kColumns, kColumnMajor>(p, t, rings, chunks, out);
  }
#endif
}

}  // namespace jaxdirect::conv
