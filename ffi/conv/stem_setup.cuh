#pragma once

// What a thread block of stem_kernel.cuh writes into shared memory before its first tile: the
// filter of its output channels, and where slots and pixels lie.

#include "conv/float_parts.cuh"
#include "conv/stem_fprop.h"
#include "conv/stem_patch.cuh"

namespace jaxdirect::conv {

template <StemForm kForm>
inline constexpr int stem_value_bytes = kForm == StemForm::kTf32 ? 4 : 2;

// Warpgroups that multiply. Values in parts take longest to fetch, and to multiply.
template <StemForm kForm>
inline constexpr int stem_consumers = kForm == StemForm::kThreeParts ? 2 : 3;

#if JAXDIRECT_HOPPER

// Places in shared memory.
struct StemShared {
  uint32_t filter, patches, slots, pixels, staging, raw, barriers;

  __device__ StemShared(const StemTiling& t, const void* shared) {
    filter = (shared_address(shared) + 1023) / 1024 * 1024;
    patches = filter + t.filter_bytes();
    slots = patches + t.stages * t.patch_bytes();
    pixels = slots + t.slot_bytes();
    staging = pixels + t.pixel_bytes();
    raw = staging + t.staging_bytes;
    barriers = raw + t.raw_bytes;
  }

  __device__ uint32_t full(int stage) const { return barriers + 16 * stage; }
  __device__ uint32_t empty(int stage) const { return full(stage) + 8; }
};

// Where a slot's values lie: row u of the filter, from value j of the row on, `count` of them.
struct StemSlot {
  int u, j, count;

  __device__ __forceinline__ StemSlot(const StemProblem& p, const StemTiling& t, int slot,
                                      int values) {
    const int rest = slot - t.row_slots * p.filter_height;
    u = rest >= 0 ? rest : slot / t.row_slots;
    j = (rest >= 0 ? t.row_slots : slot % t.row_slots) * values;
    count = rest < 0 ? values : rest < t.half_slots * p.filter_height ? 1 : 0;
  }
};

// Which of a block's channels a column of the product is. float32 results of a lane are neighbours
// then, four at a time: those of two blocks of eight columns.
template <typename T>
__device__ __forceinline__ int channel_of(int column) {
  if constexpr (sizeof(T) == 2) return column;
  return column / 16 * 16 + column % 8 / 2 * 4 + column / 8 % 2 * 2 + column % 2;
}

// The block's columns of the filter, [slot, column] to rows of depth in the copy engine's swizzle.
template <StemForm kForm, int kColumns, typename T>
__device__ inline void pack_stem_filter(const T* filter, const StemProblem& p, const StemTiling& t,
                                        uint32_t to, int first_column) {
  constexpr int kValues = 4 / stem_value_bytes<kForm>;
  const int window = p.window_values();
#pragma unroll 8
  for (int i = threadIdx.x; i < t.steps * kStemSlots * kColumns; i += 128 * stem_consumers<kForm>) {
    const int column = i % kColumns, slot = i / kColumns;
    const StemSlot place(p, t, slot, kValues);
    const int k = first_column + channel_of<T>(column),
              count = k < p.out_channels ? place.count : 0;
    const T* from = filter + (int64_t{place.u} * window + place.j) * p.out_channels + k;
    T values[2] = {T(0.0f), T(0.0f)};
    if (count > 0) values[0] = from[0];
    if (count > 1) values[1] = from[p.out_channels];
    const uint32_t at = to + slot / 32 * (kColumns * 128) + column * 128 +
                        ((slot / 4 ^ column) % 8) * 16 + slot % 4 * 4;
    if constexpr (kForm == StemForm::kTf32) {
      store_4(at, to_tf32(__float_as_uint(values[0])));
    } else if constexpr (sizeof(T) == 2) {
      uint32_t pair;
      memcpy(&pair, values, 4);
      store_4(at, pair);
    } else {
      uint32_t part[3];
      split_pair<3>(values[0], values[1], part);
#pragma unroll
      for (int i = 0; i < 3; ++i) store_4(at + i * t.filter_part_bytes(), part[i]);
    }
  }
}

// Where every slot lies in a window, and what of its 4 bytes is the window's: {offset, offset,
// mask, mask} for lanes l of four, of slots l and l + 4 of each step, and of two steps more.
template <StemForm kForm>
__device__ inline void write_slots(const StemProblem& p, const StemTiling& t, uint32_t to) {
  constexpr int kValues = 4 / stem_value_bytes<kForm>;
  for (int i = threadIdx.x; i < (t.steps + 2) * kStemSlots; i += 128 * stem_consumers<kForm>) {
    const StemSlot place(p, t, i, kValues);
    const bool is_half = place.count < kValues;
    const uint32_t at = to + (i / 8 * 4 + i % 4) * 16 + i / 4 % 2 * 4;
    const int offset = place.u * t.patch.row_bytes + place.j * stem_value_bytes<kForm>;
    store_4(at, place.count > 0 ? offset : 0);
    store_4(at + 8, place.count == 0 ? 0 : is_half ? 0xffffu : 0xffffffffu);
  }
}

// Where every pixel's window begins in a patch, and the pixel's place in the tile.
template <StemForm kForm>
__device__ inline void write_pixels(const StemProblem& p, const StemTiling& t, uint32_t to) {
  constexpr int value_bytes = stem_value_bytes<kForm>;
  const int width = t.patch.tile_width;
  for (int i = threadIdx.x; i < t.row_blocks * 64; i += 128 * stem_consumers<kForm>) {
    const bool is_inside = i < t.patch.tile_height * width;
    const int h = is_inside ? i / width : 0, w = is_inside ? i % width : 0;
    const int value = w * p.step_values(), copy = t.patch.copies > 1 ? value % 2 : 0;
    store_4(to + i * 8, h * p.stride_h * t.patch.row_bytes + (value - copy) * value_bytes +
                            copy * t.patch.copy_bytes);
    store_4(to + i * 8 + 4, is_inside ? h << 16 | w : 0x7fff7fff);
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
