#pragma once

// stem_patch.cuh for float32 whose copies, if there are two, are one value apart: with less work a
// value, since no value needs to be shifted into its place.
//
// A thread takes four values of a row at a time, which it reads one by one (neighbouring threads
// read the same sectors) and stores as one vector a plane.

#include "conv/float_parts.cuh"
#include "conv/stem_patch.cuh"

namespace jaxdirect::conv {

#if JAXDIRECT_HOPPER

__device__ __forceinline__ float load_if(bool wanted, const float* from) {
  return __uint_as_float(load_if(wanted, reinterpret_cast<const uint32_t*>(from)));
}

__device__ __forceinline__ void store_8(uint32_t address, uint32_t a, uint32_t b) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(address), "r"(a), "r"(b) : "memory");
}

// As fill_patch; a thread waits for kAtOnce times four values.
template <StemForm kForm, int kCopies, int kAtOnce>
__device__ __forceinline__ void fill_floats(const float* x, const StemProblem& p,
                                            const StemPatch& patch, int n, int h0, int w0,
                                            uint32_t to, int thread, int threads) {
  constexpr int kValues = 3 + kCopies;
  constexpr int kQuadBytes = kForm == StemForm::kTf32 ? 16 : 8;
  const int width = p.width * p.channels, quads = patch.units * 2;
  const int row_step = threads / quads, quad_step = threads % quads;
  int row = thread / quads, quad = thread % quads;
  const float* image = x + int64_t{n} * p.height * width;
  while (row < patch.rows) {
    float found[kAtOnce][kValues];
    uint32_t at[kAtOnce];
    int is_inside[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      is_inside[i] = row < patch.rows;
      at[i] = to + row * patch.row_bytes + quad * kQuadBytes;
      const int h = h0 + row, first = w0 * p.channels + quad * 4;
      const unsigned wide = is_inside[i] && h >= 0 && h < p.height ? width : 0;
      const float* from = image + (int64_t{h} * width + first);
#pragma unroll
      for (int j = 0; j < kValues; ++j) {
        found[i][j] = load_if(static_cast<unsigned>(first + j) < wide, from + j);
      }
      row += row_step, quad += quad_step;
      if (quad >= quads) ++row, quad -= quads;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (!is_inside[i]) continue;
      const float (&v)[kValues] = found[i];
      if constexpr (kForm == StemForm::kTf32) {
        static_assert(kCopies == 1);
        store_16(at[i], to_tf32(__float_as_uint(v[0])), to_tf32(__float_as_uint(v[1])),
                 to_tf32(__float_as_uint(v[2])), to_tf32(__float_as_uint(v[3])));
      } else {
        static_assert(kForm == StemForm::kThreeParts);
#pragma unroll
        for (int copy = 0; copy < kCopies; ++copy) {
          uint32_t low[3], high[3];
          split_pair<3>(v[copy], v[copy + 1], low);
          split_pair<3>(v[copy + 2], v[copy + 3], high);
          const uint32_t first = at[i] + copy * patch.copy_bytes;
#pragma unroll
          for (int plane = 0; plane < 3; ++plane) {
            store_8(first + plane * patch.plane_bytes(), low[plane], high[plane]);
          }
        }
      }
    }
  }
}

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
