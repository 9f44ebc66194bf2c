#pragma once

// Convolution over halo tiles, both operands of the products read from shared memory through
// descriptors; see halo.h for the tiles.
//
//   y[pixel, k] = sum over chunks, taps, channels of halo[pixel + tap, channel] * filter[tap,
//   channel, k]
//
// A product's 64 rows are a box of output pixels whose first window's pixels lie, eight by eight,
// at a constant distance in the halo (HaloTiling::group_step): 64 / images pixels of a row, or
// eight rows of 8 / images pixels. A tap then only moves the descriptor's address. Against
// halo_kernel.cuh, no operand passes through registers, but fewer shapes are cut without rest.
//
// A block of three warpgroups: two multiply, kBlocks * 64 pixels by kColumns output channels each;
// two threads of the third fill the rings. Either both work on one tile and filters stream through
// a ring, or (kResident) the whole filter stays in shared memory and each has tiles of its own, so
// that one stores while the other multiplies.
//
// Bytes: a halo once a tile. Shared memory feeds 128 bytes a tick: a product of kColumns / 2 ticks
// reads 2 KB and kColumns * 32 bytes, so that 64 columns keep it busy and 128 leave a quarter.

#include "conv/halo_kernel.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// A warpgroup's way through its tiles: all of the block, or, of blocks with a resident filter (and
// hence one range of output channels), every other one.
template <bool kResident>
class DirectTiles {
 public:
  __device__ DirectTiles(const HaloTiling& t, int group) : t_(t), count_(t.blocks()) {
    if constexpr (kResident) {
      place_ = (2 * (blockIdx.x / t.blocks_k) + group) * t.blocks_k + blockIdx.x % t.blocks_k;
    } else {
      place_ = blockIdx.x;
    }
  }

  __device__ bool done() const { return place_ >= count_; }
  __device__ TilePlace place() const { return TilePlace(t_, place_); }
  __device__ void advance() { place_ += (kResident ? 2 : 1) * gridDim.x; }

 private:
  const HaloTiling& t_;
  const int count_;
  int place_;
};

// The warpgroups multiply in turn: side by side they would end, and store, at the same time. It
// also makes waiting for the ring safe, in which their tiles lie in turn: a barrier tells only
// whether the phase before the running one has ended, so that nobody may wait for a phase when the
// one before may not have begun.
class Turns {
 public:
  static constexpr int kWarps = kConsumerWarps / 2;

  __device__ Turns(const Rings& rings, int group)
      : mine_(rings.filter_full(1) + 8 * group),
        other_(rings.filter_full(1) + 8 * (1 - group)),
        parity_(group == 0) {}

  __device__ static void initialise(const Rings& rings) {
    barrier_init(rings.filter_full(1), kWarps);
    barrier_init(rings.filter_full(1) + 8, kWarps);
  }

  // The first warpgroup's first tile waits for nobody: the phase before the first has ended.
  __device__ void await() {
    barrier_wait(other_, parity_);
    parity_ ^= 1;
  }

  __device__ void pass(int lane) const {
    __syncwarp();
    if (lane == 0) barrier_arrive(mine_);
  }

 private:
  const uint32_t mine_, other_;
  uint32_t parity_;
};

// One thread: the halos of both warpgroups' tiles, in turn.
__device__ inline void fetch_halos_in_turn(const CUtensorMap& x, const HaloProblem& p,
                                           const HaloTiling& t, const Rings& rings, int chunks,
                                           int chunk_values) {
  RingPlace place;
  DirectTiles<true> first(t, 0), second(t, 1);
  for (; !first.done(); first.advance(), second.advance()) {
    fetch_halo(x, p, t, rings, first.place(), chunks, chunk_values, place);
    if (second.done()) break;
    fetch_halo(x, p, t, rings, second.place(), chunks, chunk_values, place);
  }
}

// One thread: the filter's values for the block's output channels, once.
template <typename Copy>
__device__ inline void fetch_resident_filter(const HaloProblem& p, const HaloTiling& t,
                                             const Rings& rings, int chunks, const Copy& copy) {
  const int k = blockIdx.x % t.blocks_k * t.columns;
  const uint32_t barrier = rings.filter_full(0);
  barrier_expect(barrier, chunks * p.taps_h * p.taps_w * t.filter_bytes);
  uint32_t to = rings.filter;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    for (int i = 0; i < p.taps_h; ++i) {
      for (int j = 0; j < p.taps_w; ++j, to += t.filter_bytes) {
        copy(to, barrier, chunk, k, p.first_filter_tap + i * p.filter_step_h + j * p.filter_step_w);
      }
    }
  }
}

// What one of a warpgroup's copies to y takes: 64 rows by that many columns. Rows lie in shared
// memory in the copy engine's swizzle of their width.
template <typename T, int kColumns>
struct StoredPiece {
  static constexpr int kValueBytes = sizeof(typename StoredAs<T>::Type);
  static constexpr int kWidth = stored_width(kColumns, kValueBytes);
  static constexpr int kRowBytes = kWidth * kValueBytes;
  static constexpr int kBytes = 64 * kRowBytes;

  // Of 16 bytes of a row, from the piece's start.
  __device__ static uint32_t at(int row, int chunk) {
    return row * kRowBytes + (chunk ^ (kRowBytes == 128 ? row % 8 : row / 2 % 4)) * 16;
  }

  // Sums of columns first to first + kWidth of a warpgroup's 64 rows to `piece`.
  __device__ static void write(const float (&sums)[kColumns / 2], int first, uint32_t piece) {
    const int lane = threadIdx.x % 32, first_row = threadIdx.x % 128 / 32 * 16;
    if constexpr (kValueBytes == 2) {
#pragma unroll
      for (int pair = 0; pair < kWidth / 16; ++pair) {  // of blocks of eight columns
        uint32_t v[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int from = first / 2 + 8 * pair + 4 * (i / 2) + 2 * (i % 2);
          v[i] = pack_pair(sums[from], sums[from + 1], T());
        }
        store_matrices(piece + at(first_row + lane % 16, 2 * pair + lane / 16), v[0], v[1], v[2],
                       v[3]);
      }
    } else {
#pragma unroll
      for (int block = 0; block < kWidth / 8; ++block) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int from = first / 2 + 4 * block + 2 * half;
          const uint32_t to =
              piece + lane % 2 * 8 + at(first_row + lane / 4 + 8 * half, 2 * block + lane % 4 / 2);
          store_pair(to, sums[from], sums[from + 1]);
        }
      }
    }
  }
};

// Stores a warpgroup's sums by way of two places in shared memory. Later stores and products
// need not wait for a copy to end, only for its reading.
template <typename T, int kBlocks, int kColumns>
__device__ __forceinline__ void store_direct(float (&sums)[kBlocks][kColumns / 2],
                                             const CUtensorMap& y, const HaloTiling& t,
                                             uint32_t places, uint32_t& turn,
                                             const TilePlace& place, int first_block, int across,
                                             int group) {
  using Piece = StoredPiece<T, kColumns>;
  constexpr int kPieces = kColumns / Piece::kWidth;
  const bool leader = threadIdx.x % 128 == 0;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    settle(sums[b]);
    const int h = place.h + (first_block + b) / across * t.product_height;
    const int w = place.w + (first_block + b) % across * t.product_width;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const uint32_t piece = places + turn * Piece::kBytes;
      turn ^= 1;
      if (leader) store_wait<1>();
      sync_threads(group + 1, 128);
      Piece::write(sums[b], i * Piece::kWidth, piece);
      copy_engine_fence();
      sync_threads(group + 1, 128);
      if (leader) {
        store_tensor(&y, piece, place.k + i * Piece::kWidth, place.n, w, h);
        store_commit();
      }
    }
  }
}

template <typename T, int kBlocks, int kColumns, bool kColumnMajor, bool kResident>
__device__ __forceinline__ void multiply_direct(const HaloProblem& p, const HaloTiling& t,
                                                const Rings& rings, int chunks,
                                                const CUtensorMap& y) {
  constexpr int kSteps = kChunkBytes / 32;
  constexpr int kStepBytes = kColumnMajor ? 16 * kSwizzleRow : 32;  // of depth, in a filter stage
  const int group = warpgroup(), lane = threadIdx.x % 32;
  const uint64_t halos = operand_at(operand_layout(t.group_step * kSwizzleRow, 16), rings.halo);
  const uint64_t filters = operand_at(
      operand_layout(8 * kSwizzleRow, kColumnMajor ? 64 * kSwizzleRow : 16), rings.filter);
  const uint32_t places =
      rings.filter + t.filter_stages * t.filter_bytes + group * t.store_bytes / kConsumers;
  const int across = t.tile_width / t.product_width;
  const int first_block = kResident ? 0 : group * kBlocks;
  uint32_t block_at[kBlocks];  // in the halo
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    const int h = (first_block + b) / across * t.product_height * p.stride_h;
    const int w = (first_block + b) % across * t.product_width;
    block_at[b] = (h * t.halo_width + w) * t.tile_images * kSwizzleRow;
  }
  const int chunk_values = kChunkBytes / static_cast<int>(sizeof(typename StoredAs<T>::Type));
  // The last chunk's second half may lie past the last channel.
  const bool half_chunk = (p.in_channels - 1) % chunk_values < chunk_values / 2;
  const uint32_t plane_bytes = t.plane_bytes();
  const int plane_step = p.tap_step_w % t.planes;
  const uint32_t pixel_step = p.tap_step_w / t.planes * t.tile_images * kSwizzleRow;
  const uint32_t row_bytes = p.tap_step_h * t.halo_width * t.tile_images * kSwizzleRow;

  RingPlace halo, filter;
  uint32_t turn = 0;  // of the places of stores
  Turns turns(rings, group);
  const auto skip_tile = [&] {  // the other warpgroup's
    for (int chunk = 0; chunk < chunks; ++chunk) halo.advance(t.halo_stages);
  };
  if constexpr (kResident) {
    if (group == 1) skip_tile();
    barrier_wait(rings.filter_full(0), 0);
  }
  for (DirectTiles<kResident> tiles(t, group); !tiles.done(); tiles.advance()) {
    float sums[kBlocks][kColumns / 2];
    TilePlace place;
    HeldStages held;
    bool add = false;
    uint64_t filter_stage = filters;
    if constexpr (kResident) turns.await();
    for (int chunk = 0; chunk < chunks; ++chunk) {
      barrier_wait(rings.halo_full(halo.stage), halo.parity);
      uint64_t window_row = operand_moved(halos, halo.stage * rings.halo_bytes);
      const bool half = half_chunk && chunk == chunks - 1;
      for (int i = 0; i < p.taps_h; ++i, window_row = operand_moved(window_row, row_bytes)) {
        // In the middle: the other then ends when this one is done with storing.
        if (kResident && chunk == chunks - 1 && i == p.taps_h / 2) turns.pass(lane);
        int plane = 0;
        uint64_t column = window_row;
        for (int j = 0; j < p.taps_w; ++j) {
          const uint64_t window = operand_moved(column, plane * plane_bytes);
          plane += plane_step;
          column = operand_moved(column, pixel_step);
          if (plane >= t.planes) {
            plane -= t.planes;
            column = operand_moved(column, t.tile_images * kSwizzleRow);
          }
          if constexpr (!kResident) {
            barrier_wait(rings.filter_full(filter.stage), filter.parity);
            filter_stage = operand_moved(filters, filter.stage * rings.filter_bytes);
          }
          // One group without branches, or the wait below would wait for all of it.
          const auto multiply_steps = [&]<int kCount>(std::integral_constant<int, kCount>) {
            product_fence();
#pragma unroll
            for (int s = 0; s < kCount; ++s) {
#pragma unroll
              for (int b = 0; b < kBlocks; ++b) {
                multiply<T, kColumns, kColumnMajor>(
                    sums[b], operand_moved(window, block_at[b] + s * 32),
                    operand_moved(filter_stage, s * kStepBytes), add || s > 0);
              }
            }
            product_commit();
          };
          if (half) {
            multiply_steps(std::integral_constant<int, kSteps / 2>());
          } else {
            multiply_steps(std::integral_constant<int, kSteps>());
          }
          if (!add) place = tiles.place();  // divisions, while products run
          add = true;
          if (!kResident || held.halo >= 0) {
            product_wait<1>();
            held.release(rings, lane);  // of the products before
          }
          if constexpr (kResident) {
            filter_stage = operand_moved(filter_stage, rings.filter_bytes);
          } else {
            held.filter = filter.stage;
            filter.advance(t.filter_stages);
          }
        }
      }
      held.halo = halo.stage;
      if (t.halo_stages == 1) {  // the next comes into the same place
        product_wait<0>();
        held.release(rings, lane);
      }
      halo.advance(t.halo_stages);
    }
    if constexpr (kResident) skip_tile();
    product_wait<0>();
    held.release(rings, lane);
    store_direct<T, kBlocks, kColumns>(sums, y, t, places, turn, place, first_block, across, group);
  }
  if (threadIdx.x % 128 == 0) store_wait<0>();
}

#endif  // JAXDIRECT_HOPPER

template <typename T, int kBlocks, int kColumns, bool kColumnMajor, bool kResident>
__global__ void __launch_bounds__(kThreads, 1)
    halo_conv_direct(const __grid_constant__ CUtensorMap x,
                     const __grid_constant__ CUtensorMap filter,
                     const __grid_constant__ CUtensorMap y, const __grid_constant__ HaloProblem p,
                     const __grid_constant__ HaloTiling t) {
#if JAXDIRECT_HOPPER
  extern __shared__ char shared[];
  const Rings rings(t, shared);
  const int chunk_values = kChunkBytes / static_cast<int>(sizeof(typename StoredAs<T>::Type));
  const int chunks = (p.in_channels + chunk_values - 1) / chunk_values;
  if (threadIdx.x == 0) {
    if constexpr (kResident) Turns::initialise(rings);
    rings.initialise(t.halo_stages + (kResident ? 1 : t.filter_stages),
                     kResident ? Turns::kWarps : kConsumerWarps);
  }
  __syncthreads();
  if (warpgroup() >= kConsumers) {
    give_registers<40>();
    const FilterCopy<T, kColumns, kColumnMajor> copy{filter, chunks, chunk_values};
    if (threadIdx.x == 128 * kConsumers) {
      if constexpr (kResident) {
        fetch_halos_in_turn(x, p, t, rings, chunks, chunk_values);
      } else {
        fetch_halos(x, p, t, rings, chunks, chunk_values);
      }
    } else if (threadIdx.x == 128 * kConsumers + 32) {
      if constexpr (kResident) {
        fetch_resident_filter(p, t, rings, chunks, copy);
      } else {
        fetch_filters(p, t, rings, chunks, copy);
      }
    }
  } else {
    take_registers<232>();
    multiply_direct<T, kBlocks, kColumns, kColumnMajor, kResident>(p, t, rings, chunks, y);
  }
#endif
}

}  // namespace jaxdirect::conv
