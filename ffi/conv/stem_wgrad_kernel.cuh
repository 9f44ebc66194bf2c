#pragma once

// The filter's gradient for images with few channels, on tensor cores; see stem_wgrad.h for the
// work of a thread block.
//
//   sums[(u, j), k] = sum over a slice's pixels of patch[pixel, u, j] * y_bar[pixel, k]
//
// Depth is pixels, 16 a step: two groups of eight neighbours in a row of the image. The left
// operand comes from the patch (stem_patch.cuh) by transposing matrix loads: a matrix is eight
// pixels by eight neighbouring values of a row of x, 16 aligned bytes in one of the patch's copies.
// As groups start at multiples of eight pixels, a lane's copy and its place there never change.
// The right one is y_bar, channels contiguous, in the swizzle of the copy engine. Pixels past the
// image's edge are zeros of both.
//
// float32 values are two or three bf16 parts, as in halo_split_kernel.cuh: x0 y0 is the leading
// product, the corrections x0 y1 + x1 y0 (+ x0 y2 + x2 y0 + x1 y1) have accumulators of their own.
// Tensor cores truncate, so leading sums are taken up into float32 registers every 128 pixels
// (three parts) or every tile (two, if registers suffice; else a slice has few tiles).
//
// Two warpgroups multiply: rows of their own, or the same rows and every other step. The rest fill
// stages in turns: y_bar by the copy engine, or, if it is to be split, by way of a buffer.
// Bytes: x * column_items + y_bar * row_items, the repeats from L2; floor: max(y_bar + x,
// operations).

#include "conv/halo_pipeline.cuh"
#include "conv/stem_wgrad_fill.cuh"
#include "conv/wgmma.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// One warpgroup's products: kTiles times 64 rows by kColumns.
template <typename T, int kPlanes, int kColumns, int kTiles>
class StemProducts {
  static constexpr StemWgradVariant kVariant = {kPlanes, kColumns, kTiles};
  static constexpr int kRowBytes = kVariant.row_bytes();
  // Leading sums, then corrections, then what was taken up.
  static constexpr int kSets = kVariant.sets();
  // Slots take turns: one is multiplied while another is loaded.
  static constexpr int kUnroll = kTiles == 1 || (kTiles == 2 && kPlanes == 1) ? 2 : 1;
  static constexpr int kSlots = kTiles * kUnroll;

 public:
  __device__ __forceinline__ StemProducts(const StemProblem& p, const StemWgradTiling& t, int group,
                                          uint32_t zeros)
      : lane_(threadIdx.x % 32), zeros_(zeros) {
    const StemWgradWork work(t);
    const int value = lane_ % 8 * p.step_values(), copy = value % 8 / t.patch.copy_step;
    lane_offset_ = t.patch.copy_at[copy] + (value - copy * t.patch.copy_step) * 2;
    const int first_block = own_block(t, work, group);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      // Rows that do not exist: any do.
      int block = first_block + i * kStemTileBlocks + lane_ / 8 % 2;
      if (block >= work.end_block) block = work.first_block;
      offset_[i] =
          (block / t.run_blocks - work.first_row) * t.patch.row_bytes + block % t.run_blocks * 16;
    }
    layout_ = kRowBytes == 128 ? operand_layout(8 * 128, t.steps * 16 * 128)
                               : operand_layout_64(8 * 64, t.steps * 16 * 64);
#pragma unroll
    for (auto& set : sums_) {
#pragma unroll
      for (auto& tile : set) {
#pragma unroll
        for (float& sum : tile) sum = 0;
      }
    }
  }

  // A stage's steps: `steps` from `first` on, every `stride`th; `places` as place_groups has them.
  __device__ __forceinline__ void multiply_tile(const uint32_t* places, uint32_t y, uint32_t patch,
                                                int valid_height, int valid_width, int first,
                                                int stride, int steps, int y_plane_bytes,
                                                int patch_plane_bytes) {
    const uint32_t* entries = places + 2 * first + lane_ / 16;
    const auto locate = [&](uint32_t entry) -> uint32_t {
      const int row = entry >> 16 & 0xff, column = (entry >> 24) * kStemGroup + lane_ % 8;
      const bool is_inside = row < valid_height && column < valid_width;
      return is_inside ? patch + lane_offset_ + ((entry & 0xffff) << 4) : 0;
    };
    uint32_t a[kSlots][kPlanes][4], at[kUnroll], entry[kUnroll];
    const auto load = [&](int slot, uint32_t from) {
      const uint32_t address = from != 0 ? from + offset_[slot % kTiles] : zeros_;
      const uint32_t step = from != 0 ? patch_plane_bytes : 0;
#pragma unroll
      for (int plane = 0; plane < kPlanes; ++plane) {
        load_transposed(a[slot][plane], address + plane * step);
      }
    };
#pragma unroll
    for (int r = 0; r < kUnroll; ++r) {
      at[r] = locate(entries[2 * stride * r]);
      entry[r] = entries[2 * stride * (kUnroll + r)];
    }
#pragma unroll
    for (int slot = 0; slot < kSlots - 1; ++slot) load(slot, at[slot / kTiles]);
    uint32_t b = y + first * 16 * kRowBytes;
    for (int i = 0; i < steps; i += kUnroll) {
      if constexpr (kPlanes == 3) {
        if (i > 0 && i % kStemWgradPromotion == 0) take_up();
      }
      const uint32_t last = at[kUnroll - 1];
#pragma unroll
      for (int r = 0; r < kUnroll; ++r) {
        at[r] = locate(entry[r]);
        entry[r] = entries[2 * stride * (i + 2 * kUnroll + r)];
      }
      const bool begins =
          kVariant.takes_up() && (kPlanes == 3 ? i % kStemWgradPromotion == 0 : i == 0);
#pragma unroll
      for (int slot = 0; slot < kSlots; ++slot) {
        const int r = slot / kTiles;
        product_fence();
        multiply_slot(a[slot], slot % kTiles, b + r * stride * 16 * kRowBytes, y_plane_bytes,
                      r > 0 || !begins);
        product_commit();
        product_wait<1>();  // the slot before is free
        if (slot == 0) {
          load(kSlots - 1, last);
        } else {
          load(slot - 1, at[(slot - 1) / kTiles]);
        }
      }
      b += kUnroll * stride * 16 * kRowBytes;
    }
    take_up();
  }

  // The sums to a slice of the workspace, [R * S * C, K].
  __device__ __forceinline__ void store(const StemProblem& p, const StemWgradTiling& t, int group,
                                        float* partial) {
    const StemWgradWork work(t);
    const int slice = t.shares_pixels ? work.slice * kStemWarpgroups + group : work.slice;
    const int first_block = own_block(t, work, group);
    float* to = partial + int64_t{slice} * p.filter_height * p.window_values() * p.out_channels;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int block = first_block + i * kStemTileBlocks + half;
        const int u = block / t.run_blocks, j = block % t.run_blocks * 8 + lane_ / 4;
        if (block >= work.end_block || j >= p.window_values()) continue;
        float* row = to + int64_t{u * p.window_values() + j} * p.out_channels;
#pragma unroll
        for (int c = 0; c < kColumns / 8; ++c) {
          const int k = work.first_column + c * 8 + lane_ % 4 * 2, from = c * 4 + half * 2;
          if (k >= p.out_channels) continue;
          *reinterpret_cast<float2*>(row + k) = make_float2(total(i, from), total(i, from + 1));
        }
      }
    }
  }

 private:
  // The first block of the warp's first 16 rows.
  static __device__ __forceinline__ int own_block(const StemWgradTiling& t,
                                                  const StemWgradWork& work, int group) {
    const int before = t.shares_pixels ? 0 : group * t.tiles_of[0] * kStemTileBlocks;
    return work.first_block + before + threadIdx.x / 32 % 4 * 2;
  }

  __device__ __forceinline__ void multiply_slot(const uint32_t (&a)[kPlanes][4], int tile,
                                                uint32_t y, int y_plane_bytes, bool adds) {
    uint64_t b[kPlanes];
#pragma unroll
    for (int plane = 0; plane < kPlanes; ++plane) {
      b[plane] = operand_at(layout_, y + plane * y_plane_bytes);
    }
    if constexpr (kPlanes == 1) {
      multiply<T, kColumns, true>(sums_[0][tile], a[0], b[0], true);
    } else {
      if constexpr (kPlanes == 3) {
        multiply<T, kColumns, true>(sums_[1][tile], a[2], b[0], true);
        multiply<T, kColumns, true>(sums_[1][tile], a[0], b[2], true);
        multiply<T, kColumns, true>(sums_[1][tile], a[1], b[1], true);
      }
      multiply<T, kColumns, true>(sums_[1][tile], a[1], b[0], true);
      multiply<T, kColumns, true>(sums_[1][tile], a[0], b[1], true);
      multiply<T, kColumns, true>(sums_[0][tile], a[0], b[0], adds);
    }
  }

  // Waits for all products; leading sums begin anew.
  __device__ __forceinline__ void take_up() {
    product_wait<0>();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      settle(sums_[0][tile]);
      if constexpr (kPlanes > 1) settle(sums_[1][tile]);
      if constexpr (kVariant.takes_up()) {
#pragma unroll
        for (int i = 0; i < kColumns / 2; ++i) sums_[2][tile][i] += sums_[0][tile][i];
      }
    }
  }

  __device__ __forceinline__ float total(int tile, int i) const {
    if constexpr (kPlanes == 1) return sums_[0][tile][i];
    const float correction = sums_[kSets / 2][tile][i], sum = sums_[kSets / 3 * 2][tile][i];
    return correction == correction ? sum + correction : sum;
  }

  const int lane_;
  const uint32_t zeros_;
  uint32_t lane_offset_, offset_[kTiles];
  uint64_t layout_;
  float sums_[kSets][kTiles][kColumns / 2];
};

// One warpgroup over the tiles of its slice.
template <typename T, int kPlanes, int kColumns, int kTiles>
__device__ __forceinline__ void multiply_patches(const StemProblem& p, const StemWgradTiling& t,
                                                 const StemWgradStages& stages,
                                                 const uint32_t* places, uint32_t zeros, int group,
                                                 float* partial) {
  StemProducts<T, kPlanes, kColumns, kTiles> products(p, t, group, zeros);
  const int stride = t.shares_pixels ? kStemWarpgroups : 1;
  const int first = t.shares_pixels ? group : 0, steps = t.steps / stride;
  RingPlace place;
  const StemWgradWork work(t);
  StemPlace at(t, work.first_tile);
  for (int tile = work.first_tile; tile < work.end_tile; ++tile, at.advance(t)) {
    barrier_wait(stages.full(place.stage), place.parity);
    products.multiply_tile(places, stages.y(place.stage), stages.patch(place.stage),
                           p.out_height - at.h, p.out_width - at.w, first, stride, steps,
                           t.y_bytes / kPlanes, t.patch.plane_bytes());
    barrier_arrive(stages.empty(place.stage));
    place.advance(t.stages);
  }
  products.store(p, t, group, partial);
}

#endif  // JAXDIRECT_HOPPER

template <typename T, int kPlanes, int kColumns, int kTiles>
__global__ void __launch_bounds__((StemWgradVariant{kPlanes, kColumns, kTiles}.threads()), 1)
    stem_wgrad_slices(const __grid_constant__ CUtensorMap y_map, const void* x, float* partial,
                      const __grid_constant__ StemProblem p,
                      const __grid_constant__ StemWgradTiling t) {
#if JAXDIRECT_HOPPER
  constexpr StemWgradVariant kVariant = {kPlanes, kColumns, kTiles};
  extern __shared__ char shared[];
  __shared__ uint32_t places[2 * (kStemMostSteps + kStemSpareSteps)];
  __shared__ __align__(16) uint32_t zeros[4];
  __shared__ uint64_t barriers[2 * kStemMostStages + kStemProducers];
  const StemWgradStages stages(t, shared, barriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < t.stages; ++i) {
      barrier_init(stages.full(i), kVariant.fill_threads() + (kPlanes == 1 ? 1 : 0));
      barrier_init(stages.empty(i), 128 * kStemWarpgroups);
    }
    for (int i = 0; i < kStemProducers; ++i) barrier_init(stages.raw_y_full(i), 1);
    barrier_init_fence();
  }
  if (threadIdx.x < 4) zeros[threadIdx.x] = 0;
  place_groups(p, t, places);
  clear_spare_rows<kVariant.row_bytes()>(t, stages);
  __syncthreads();
  const int group = warpgroup();
  const uint32_t zero = shared_address(zeros);
  const auto multiply_as = [&](auto tiles) {
    multiply_patches<T, kPlanes, kColumns, decltype(tiles)::value>(p, t, stages, places, zero,
                                                                   group, partial);
  };
  // Registers of a thread, of 128 (wide) or 96 for each.
  constexpr int kOwn = kVariant.is_wide() ? 200 : 144, kFilling = kVariant.is_wide() ? 56 : 64;
  if (group >= kStemWarpgroups) {
    give_registers<kFilling>();
    constexpr int kWarps = kVariant.fill_threads() / 32;
    const int warp =
        __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0) - 4 * kStemWarpgroups;
    fill_stages<kVariant>(y_map, x, p, t, stages, warp / kWarps, warp % kWarps);
    return;
  }
  take_registers<kOwn>();
  if (t.tiles_of[group] == kTiles) {
    multiply_as(Constant<kTiles>());
  } else {
    multiply_as(Constant<(kTiles > 1 ? kTiles - 1 : 1)>());
  }
#endif
}

}  // namespace jaxdirect::conv
