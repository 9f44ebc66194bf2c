#pragma once

// The forward pass of stem.h on tensor cores.
//
//   y[pixel, k] = sum over slots of x[window's slot] * filter[slot, k]
//
// A thread block keeps the filter of its output channels in shared memory and takes tile after
// tile. Some warpgroups bring patches of x (stem_patch.cuh), the others multiply, 64 pixels at a
// time: the left operand comes into registers from where the windows lie, a slot of 4 bytes an
// address, so windows may overlap and start anywhere; the right one is the filter. Slots past the
// filter are masked, not multiplied by zero, so that x's infinities stay where they belong.
//
// Bytes: x (and its patches' overlap, from L2) and y once; floor: the larger of those and
// out pixels * steps * columns of operations.

#include "conv/halo_pipeline.cuh"
#include "conv/stem_rows.cuh"
#include "conv/stem_setup.cuh"
#include "conv/wgmma.cuh"

namespace jaxdirect::conv {

inline constexpr int kStemPromotion = 8;  // steps of split values until sums are taken up

#if JAXDIRECT_HOPPER

// Where a thread reads its slots: from the table, for the pixels of its two rows. Those of the
// first two steps it knows.
struct StemReader {
  uint32_t slots, low, high;
  uint4 first, second;

  template <bool kMasked>
  __device__ __forceinline__ uint4 slot(int step) const {
    if constexpr (kMasked) return load_16(slots + step * 64);
    const uint2 whole = load_8(slots + step * 64);
    return {whole.x, whole.y, 0xffffffffu, 0xffffffffu};
  }
};

// The slots of a step in every part of the values.
template <bool kMasked, int kParts>
__device__ __forceinline__ void load_slots(uint32_t (&a)[kParts][4], const uint4& s,
                                           const StemReader& from, uint32_t plane_bytes) {
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const uint32_t low = from.low + part * plane_bytes, high = from.high + part * plane_bytes;
    a[part][0] = load_4(low + s.x);
    a[part][1] = load_4(high + s.x);
    a[part][2] = load_4(low + s.y);
    a[part][3] = load_4(high + s.y);
  }
  if constexpr (kMasked) {
#pragma unroll
    for (auto& part : a) part[0] &= s.z, part[1] &= s.z, part[2] &= s.w, part[3] &= s.w;
  }
}

// Accumulators of 64 pixels, and their products step by step: T as they are.
template <typename T, int kColumns>
struct StemSums {
  static constexpr int kParts = 1;
  float sums[kColumns / 2];

  __device__ __forceinline__ void begin() {}
  __device__ __forceinline__ void take_up(int) {}
  __device__ __forceinline__ void add(const uint32_t (&a)[1][4], uint64_t b, uint32_t, int step) {
    multiply<T, kColumns, false>(sums, a[0], b, step > 0);
  }
  __device__ __forceinline__ void finish() { settle(sums); }
};

// The same from three bf16 parts of float32; see halo_split_kernel.cuh.
template <int kColumns>
struct StemSplitSums {
  using B = __nv_bfloat16;
  static constexpr int kParts = 3;
  float sums[kColumns / 2], leading[kColumns / 2], corrections[kColumns / 2];

  __device__ __forceinline__ void begin() {
#pragma unroll
    for (float& sum : sums) sum = 0;
  }
  __device__ __forceinline__ void promote() {
    settle(leading);
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sums[i] += leading[i];
  }
  // Before an even step.
  __device__ __forceinline__ void take_up(int step) {
    if (step > 0 && step % kStemPromotion == 0) {
      product_wait<0>();
      promote();
    }
  }
  // `part`: from a part of the filter to the next, in units of an address in b.
  __device__ __forceinline__ void add(const uint32_t (&a)[3][4], uint64_t b, uint32_t part,
                                      int step) {
    multiply<B, kColumns, false>(corrections, a[2], b, step > 0);
    multiply<B, kColumns, false>(corrections, a[0], b + 2 * part, true);
    multiply<B, kColumns, false>(corrections, a[1], b + part, true);
    multiply<B, kColumns, false>(corrections, a[1], b, true);
    multiply<B, kColumns, false>(corrections, a[0], b + part, true);
    multiply<B, kColumns, false>(leading, a[0], b, step % kStemPromotion != 0);
  }
  __device__ __forceinline__ void finish() {
    promote();
    settle(corrections);
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      if (corrections[i] == corrections[i]) sums[i] += corrections[i];
    }
  }
};

// Steps [first, last), both even, of which the first's slots are in `a` and the second's place is
// in `next`. `b`: the filter's descriptor.
template <bool kMasked, typename Sums>
__device__ __forceinline__ void multiply_steps(Sums& sums, uint32_t (&a)[2][Sums::kParts][4],
                                               uint4& next, const StemReader& reader,
                                               uint32_t plane_bytes, uint64_t b,
                                               uint32_t chunk_units, uint32_t part_units, int first,
                                               int last) {
#pragma unroll 1
  for (int step = first; step < last; step += 2) {
    sums.take_up(step);
    const uint64_t at = b + (step / 4 * chunk_units + step % 4 * 2);
#pragma unroll
    for (int s = 0; s < 2; ++s) {
      product_fence();
      sums.add(a[s], at + 2 * s, part_units, step + s);
      product_commit();
      product_wait<1>();  // the other operand is free
      load_slots<kMasked>(a[1 - s], next, reader, plane_bytes);
      next = reader.template slot<kMasked>(step + s + 2);
    }
  }
}

// All steps of 64 pixels.
template <int kColumns, typename Sums>
__device__ __forceinline__ void multiply_windows(Sums& sums, const StemProblem& p,
                                                 const StemTiling& t, uint32_t filter,
                                                 const StemReader& reader) {
  const uint64_t b = operand_at(operand_layout(8 * kSwizzleRow, 16), filter);
  const uint32_t chunk_units = kColumns * kSwizzleRow >> 4;
  const uint32_t part_units = t.filter_part_bytes() >> 4, plane_bytes = t.patch.plane_bytes();
  uint32_t a[2][Sums::kParts][4];
  load_slots<true>(a[0], reader.first, reader, plane_bytes);
  uint4 next = reader.second;
  const int whole = max(t.masked_step(p) - 2, 0);  // pairs of steps that load whole slots alone
  sums.begin();
  multiply_steps<false>(sums, a, next, reader, plane_bytes, b, chunk_units, part_units, 0, whole);
  multiply_steps<true>(sums, a, next, reader, plane_bytes, b, chunk_units, part_units, whole,
                       t.steps);
  product_wait<0>();
  sums.finish();
}

// A warp's 16 rows of 16-bit results, through shared memory, so that stores are whole rows. `to` is
// of row lane % 16: a pixel of y's `image`, or -1.
template <int kColumns, typename T>
__device__ __forceinline__ void store_staged(const float (&sums)[kColumns / 2], uint32_t staging,
                                             T* image, int to, int out_channels, int columns) {
  constexpr int kRowBytes = staging_row_bytes(kColumns), kVectors = kColumns / 8;
  const int lane = threadIdx.x % 32;
  __syncwarp();  // the vectors before have been read
  const uint32_t at = staging + lane % 16 * kRowBytes + lane / 16 * 16;
#pragma unroll
  for (int i = 0; i < kColumns / 16; ++i) {
    store_matrices(at + i * 32, pack_pair(sums[8 * i], sums[8 * i + 1], T()),
                   pack_pair(sums[8 * i + 2], sums[8 * i + 3], T()),
                   pack_pair(sums[8 * i + 4], sums[8 * i + 5], T()),
                   pack_pair(sums[8 * i + 6], sums[8 * i + 7], T()));
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kColumns / 16; ++i) {
    const int vector = i * 32 + lane, row = vector / kVectors, column = vector % kVectors * 8;
    const int pixel = __shfl_sync(0xffffffff, to, row);
    const uint4 values = load_16(staging + row * kRowBytes + column * 2);
    if (pixel >= 0 && column < columns) {
      store_vector(image + int64_t{pixel} * out_channels + column, values);
    }
  }
}

// The same value in a register of its own: minus zero changes none. A vector's registers are
// neighbours; were they the sums', the compiler would move those between products, which then wait.
__device__ __forceinline__ uint32_t set_apart(float value) {
  float same;
  asm("add.f32 %0, %1, 0f80000000;" : "=f"(same) : "f"(value));
  return __float_as_uint(same);
}

// A row of float32 results of channels in the order of channel_of. half: 0, row lane / 4 of the
// warp's 16; 1, the one eight further.
template <int kColumns>
__device__ __forceinline__ void store_quads(const float (&sums)[kColumns / 2], int half, float* out,
                                            int columns) {
#pragma unroll
  for (int i = 0; i < kColumns / 16; ++i) {
    const int column = i * 16 + threadIdx.x % 4 * 4, from = i * 8 + half * 2;
    if (out == nullptr || column >= columns) continue;
    store_vector(out + column, {set_apart(sums[from]), set_apart(sums[from + 1]),
                                set_apart(sums[from + 4]), set_apart(sums[from + 5])});
  }
}

// One warpgroup of those that multiply: every stem_consumers<kForm>-th block of 64 pixels.
template <StemForm kForm, typename T, int kColumns>
__device__ inline void multiply_stem(const StemProblem& p, const StemTiling& t,
                                     const StemShared& shared, int group, int first_tile,
                                     int tile_step, int first_column, T* y) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16;
  const int low_row = lane / 4 * t.interleave;
  const int high_row = low_row + (t.interleave == 2 ? 1 : 8);
  const uint32_t staging = shared.staging + threadIdx.x / 32 * 16 * staging_row_bytes(kColumns);
  const uint32_t slots = shared.slots + lane % 4 * 16;
  const uint4 first = load_16(slots), second = load_16(slots + 64);
  RingPlace place;
  int turn = group;  // the next block of pixels that is this group's, from the tile's first on
  for (int tile = first_tile; tile < t.tiles; tile += tile_step) {
    barrier_wait(shared.full(place.stage), place.parity);
    const uint32_t patch = shared.patches + place.stage * t.patch_bytes();
    const StemPlace at(t, tile);
    const auto give_back = [&] { barrier_arrive(shared.empty(place.stage)); };
    if (turn >= t.row_blocks) give_back();
    for (; turn < t.row_blocks; turn += stem_consumers<kForm>) {
      const uint32_t pixels = shared.pixels + (turn * 64 + row) * 8;
      const StemReader reader{slots, patch + load_4(pixels + low_row * 8),
                              patch + load_4(pixels + high_row * 8), first, second};
      using Product = std::conditional_t<kForm == StemForm::kTf32, Tf32, T>;
      std::conditional_t<kForm == StemForm::kThreeParts, StemSplitSums<kColumns>,
                         StemSums<Product, kColumns>>
          sums;
      multiply_windows<kColumns>(sums, p, t, shared.filter, reader);
      if (turn + stem_consumers<kForm> >= t.row_blocks) give_back();
      T* image = y + int64_t{at.n} * p.out_height * p.out_width * p.out_channels + first_column;
      const auto pixel_of = [&](int row) {  // of the image, or -1
        const uint32_t to = load_4(pixels + row * 8 + 4);
        const int h = at.h + static_cast<int>(to >> 16), w = at.w + static_cast<int>(to & 0xffff);
        return h < p.out_height && w < p.out_width ? h * p.out_width + w : -1;
      };
      const int columns = p.out_channels - first_column;
      if constexpr (sizeof(T) == 2) {
        const int g = lane % 8, half = lane / 8 % 2;  // lane % 16 is the row of the accumulators
        const int own = pixel_of(t.interleave == 2 ? 2 * g + half : g + 8 * half);
        store_staged<kColumns>(sums.sums, staging, image, own, p.out_channels, columns);
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int pixel = pixel_of(half == 0 ? low_row : high_row);
          T* to = pixel < 0 ? nullptr : image + int64_t{pixel} * p.out_channels;
          store_quads<kColumns>(sums.sums, half, to, columns);
        }
      }
    }
    turn -= t.row_blocks;
    place.advance(t.stages);
  }
}

// The warpgroups that bring the patches of float32 x, whose copies are kCopies.
template <StemForm kForm, int kCopies>
__device__ inline void fill_stem(const float* x, const StemProblem& p, const StemTiling& t,
                                 const StemShared& shared, int first_tile, int tile_step) {
  constexpr int kConsumers = stem_consumers<kForm>, kWarps = 4 * (4 - kConsumers);
  const int warp = __shfl_sync(0xffffffff, static_cast<int>(threadIdx.x) / 32, 0) - 4 * kConsumers;
  const StemRows<kForm, kCopies, 1> rows(x, p, t.patch, shared.raw, warp, kWarps);
  const auto origin = [&](int tile) { return StemOrigin(p, StemPlace(t, tile)); };
  if (first_tile < t.tiles) rows.fetch(p, t.patch, origin(first_tile));
  RingPlace place;
  for (int tile = first_tile; tile < t.tiles; tile += tile_step) {
    const int next = tile + tile_step;
    barrier_wait(shared.empty(place.stage), place.parity ^ 1);
    rows.place(p, t.patch, shared.patches + place.stage * t.patch_bytes(), next < t.tiles,
               origin(next));
    barrier_arrive(shared.full(place.stage));
    place.advance(t.stages);
  }
}

// The same for 16-bit x.
template <StemForm kForm, int kCopies, typename T>
__device__ inline void fill_stem(const T* x, const StemProblem& p, const StemTiling& t,
                                 const StemShared& shared, int first_tile, int tile_step) {
  constexpr int kConsumers = stem_consumers<kForm>, kWaiting = 80;  // registers
  const StemImage<T> image{x, int64_t{p.batch} * p.height * p.width * p.channels};
  RingPlace place;
  for (int tile = first_tile; tile < t.tiles; tile += tile_step) {
    const StemOrigin at(p, StemPlace(t, tile));
    barrier_wait(shared.empty(place.stage), place.parity ^ 1);
    fill_patch<kCopies, 1, kWaiting>(image, p, t.patch, at.n, at.h, at.w,
                                     shared.patches + place.stage * t.patch_bytes(),
                                     threadIdx.x - 128 * kConsumers, 128 * (4 - kConsumers));
    barrier_arrive(shared.full(place.stage));
    place.advance(t.stages);
  }
}

#endif  // JAXDIRECT_HOPPER

template <StemForm kForm, typename T, int kColumns>
__global__ void __launch_bounds__(kStemThreads, 1)
    stem_conv(const T* x, const T* filter, T* y, const __grid_constant__ StemProblem p,
              const __grid_constant__ StemTiling t) {
#if JAXDIRECT_HOPPER
  extern __shared__ char memory[];
  // Registers of a thread that multiplies; those that fetch have what is left.
  constexpr int kConsumers = stem_consumers<kForm>;
  constexpr int kOwn = kConsumers == 3 ? 120 : 168;
  const StemShared shared(t, memory);
  const int first_column = blockIdx.x % t.blocks_k * kColumns;
  const int first_tile = blockIdx.x / t.blocks_k, tile_step = gridDim.x / t.blocks_k;
  if (threadIdx.x == 0) {
    for (int i = 0; i < t.stages; ++i) {
      barrier_init(shared.full(i), 128 * (4 - kConsumers));
      barrier_init(shared.empty(i), 128 * kConsumers);
    }
    barrier_init_fence();
  }
  __syncthreads();
  const int group = warpgroup();
  if (group < stem_consumers<kForm>) {
    set_registers<kOwn, 128>();
    write_slots<kForm>(p, t, shared.slots);
    write_pixels<kForm>(p, t, shared.pixels);
    pack_stem_filter<kForm, kColumns>(filter, p, t, shared.filter, first_column);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // products read the filter
    asm volatile("bar.sync 1, %0;" ::"n"(128 * stem_consumers<kForm>) : "memory");
    multiply_stem<kForm, T, kColumns>(p, t, shared, group, first_tile, tile_step, first_column, y);
    return;
  }
  set_registers<(512 - kConsumers * kOwn) / (4 - kConsumers), 128>();
  if constexpr (kForm != StemForm::kTf32) {
    if (t.patch.copies == 2) {
      fill_stem<kForm, 2>(x, p, t, shared, first_tile, tile_step);
      return;
    }
  }
  fill_stem<kForm, 1>(x, p, t, shared, first_tile, tile_step);
#endif
}

}  // namespace jaxdirect::conv
