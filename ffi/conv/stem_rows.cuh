#pragma once

// Rows of float32 x into shared memory for the kernels of stem.h, a tile ahead: no thread waits for
// memory with registers, and every sector is read by one instruction.
//
// A warp takes segments of rows, 16 bytes a lane. It copies a segment word by word (rows of few
// channels are aligned no better) to a buffer of its own, and once all have come a lane takes its
// four values, rounds or splits them and stores one vector a copy and plane. Where copies are no
// whole lanes apart, parts come from the next lane, and the last lane only serves its neighbour.

#include "conv/float_parts.cuh"
#include "conv/stem_patch.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

// Starts the copy of a word to shared memory, or puts zeros there.
__device__ __forceinline__ void start_copy(bool wanted, uint32_t to, const void* word) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(word),
               "r"(wanted ? 4 : 0)
               : "memory");
}

// Waits for the copies that this thread has started.
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

template <StemForm kForm, int kCopies, int kStep>
class StemRows {
  static constexpr int kPlanes = stem_planes(kForm);
  static constexpr int kLanes = stem_segment_lanes(kCopies, kStep);
  static_assert(kForm != StemForm::kPlain && (kForm != StemForm::kTf32 || kCopies == 1));

 public:
  // Warp `warp` of `warps`; `raw`: the buffer of all of them.
  __device__ __forceinline__ StemRows(const float* x, const StemProblem& p, const StemPatch& patch,
                                      uint32_t raw, int warp, int warps)
      : x_(x),
        width_(p.width * p.channels),
        lane_(threadIdx.x % 32),
        segments_(patch.segments()),
        row_step_(warps / segments_),
        segment_step_(warps - row_step_ * segments_),
        first_row_(warp / segments_),
        first_segment_(warp - first_row_ * segments_),
        raw_(raw + warp * kStemSegmentBytes),
        raw_step_(warps * kStemSegmentBytes) {}

  // Starts the copies of a tile's segments.
  __device__ __forceinline__ void fetch(const StemProblem& p, const StemPatch& patch,
                                        const StemOrigin& at) const {
    const Source from(*this, p, patch, at);
    for (Turn turn(*this); turn.row < patch.rows; turn.advance(*this)) fetch(p, from, turn);
  }

  // Places the tile that was fetched in the patch at `to`, and fetches the next one if there is
  // one.
  __device__ __forceinline__ void place(const StemProblem& p, const StemPatch& patch, uint32_t to,
                                        bool goes_on, const StemOrigin& next) const {
    const Source from(*this, p, patch, next);
    wait_for_copies();
    __syncwarp();
    Turn turn(*this);
    uint4 found = {};
    if (turn.row < patch.rows) found = load_16(turn.raw + lane_ * 16);
    while (turn.row < patch.rows) {
      __syncwarp();  // all have read
      if (goes_on) fetch(p, from, turn);
      const uint32_t values[4] = {found.x, found.y, found.z, found.w};
      const uint32_t row_to = to + turn.row * patch.row_bytes;
      const int quad = turn.segment * kLanes + lane_;
      turn.advance(*this);
      if (turn.row < patch.rows) found = load_16(turn.raw + lane_ * 16);
      store(patch, values, row_to, quad);
    }
  }

 private:
  // Where a tile's rows come from.
  struct Source {
    const float* data;  // the first row's first value, which may be outside of x
    int first;          // value of a row of the image that it is
    int end;            // those from here on are outside of the image, or not wanted
    int h;              // of the first row

    __device__ __forceinline__ Source(const StemRows& rows, const StemProblem& p,
                                      const StemPatch& patch, const StemOrigin& at)
        : data(rows.x_ + ((int64_t{at.n} * p.height + at.h) * rows.width_ + at.w * p.channels)),
          first(at.w * p.channels),
          end(max(min(rows.width_, first + patch.values), 0)),
          h(at.h) {}
  };

  // A segment of a tile's, and its buffer.
  struct Turn {
    int row, segment;
    uint32_t raw;

    __device__ __forceinline__ explicit Turn(const StemRows& rows)
        : row(rows.first_row_), segment(rows.first_segment_), raw(rows.raw_) {}

    __device__ __forceinline__ void advance(const StemRows& rows) {
      row += rows.row_step_, segment += rows.segment_step_, raw += rows.raw_step_;
      if (segment >= rows.segments_) ++row, segment -= rows.segments_;
    }
  };

  __device__ __forceinline__ void fetch(const StemProblem& p, const Source& from,
                                        const Turn& turn) const {
    const int h = from.h + turn.row, skip = turn.segment * (kLanes * 4) + lane_;
    const bool is_inside = static_cast<unsigned>(h) < static_cast<unsigned>(p.height);
    const float* data = from.data + (turn.row * width_ + skip);
    const unsigned end = is_inside ? from.end : 0, value = from.first + skip;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      start_copy(value + i * 32 < end, turn.raw + lane_ * 4 + i * 128, data + i * 32);
    }
  }

  // A lane's four values: quad number `quad` of a row, which begins at `row`.
  __device__ __forceinline__ void store(const StemPatch& patch, const uint32_t (&v)[4],
                                        uint32_t row, int quad) const {
    if constexpr (kForm == StemForm::kTf32) {
      if (quad * 4 < patch.values) {
        store_16(row + quad * 16, to_tf32(v[0]), to_tf32(v[1]), to_tf32(v[2]), to_tf32(v[3]));
      }
    } else {
      uint32_t low[kPlanes], high[kPlanes], next_low[kPlanes], next_high[kPlanes];
      split_pair<kPlanes>(__uint_as_float(v[0]), __uint_as_float(v[1]), low);
      split_pair<kPlanes>(__uint_as_float(v[2]), __uint_as_float(v[3]), high);
      if constexpr (kLanes < 32) {
#pragma unroll
        for (int plane = 0; plane < kPlanes; ++plane) {
          next_low[plane] = __shfl_down_sync(0xffffffff, low[plane], 1);
          next_high[plane] = __shfl_down_sync(0xffffffff, high[plane], 1);
        }
      }
      if (lane_ >= kLanes || quad * 4 >= patch.values) return;
      row += quad * 8;
#pragma unroll
      for (int copy = 0; copy < kCopies; ++copy) {
        const int shift = copy * kStep % 4, back = copy * kStep / 4;  // whole quads
        if (back > quad) continue;
        const uint32_t to = row + patch.copy_at[copy] - back * 8;
#pragma unroll
        for (int plane = 0; plane < kPlanes; ++plane) {
          uint32_t a = low[plane], b = high[plane];
          if (shift >= 2) a = b, b = next_low[plane];
          if (shift % 2 != 0) {
            a = __funnelshift_r(a, b, 16);
            b = __funnelshift_r(b, shift == 1 ? next_low[plane] : next_high[plane], 16);
          }
          store_8(to + plane * patch.plane_bytes(), a, b);
        }
      }
    }
  }

  const float* const x_;
  const int width_, lane_, segments_, row_step_, segment_step_, first_row_, first_segment_;
  const uint32_t raw_, raw_step_;
};

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
