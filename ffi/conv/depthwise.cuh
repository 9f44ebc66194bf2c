#pragma once

// What the depthwise kernels share: packed channels, axes, and who works on what.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <numeric>
#include <type_traits>

#include "common/cuda.h"
#include "conv/depthwise.h"

namespace jaxdirect::conv::depthwise {

inline constexpr const char* kOp = "conv_general_dilated";
inline constexpr int kThreads = 128;  // of a block

// kCount neighbouring channels as they lie in memory: 2, 4, 8 or 16 bytes.
template <typename T, int kCount>
struct Packed {
  static constexpr int kBytes = kCount * static_cast<int>(sizeof(T));
  uint32_t words[kBytes < 4 ? 1 : kBytes / 4];

  __device__ void clear() {
#pragma unroll
    for (uint32_t& word : words) word = 0;
  }

  __device__ void load(const T* from) {
    if constexpr (kBytes == 16) {
      const uint4 value = __ldg(reinterpret_cast<const uint4*>(from));
      words[0] = value.x, words[1] = value.y, words[2] = value.z, words[3] = value.w;
    } else if constexpr (kBytes == 8) {
      const uint2 value = __ldg(reinterpret_cast<const uint2*>(from));
      words[0] = value.x, words[1] = value.y;
    } else if constexpr (kBytes == 4) {
      words[0] = __ldg(reinterpret_cast<const unsigned int*>(from));
    } else {
      words[0] = __ldg(reinterpret_cast<const unsigned short*>(from));
    }
  }

  __device__ float operator[](int i) const {
    if constexpr (std::is_same_v<T, float>) {
      return __uint_as_float(words[i]);
    } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      return __uint_as_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u);
    } else {
      return __half2float(__ushort_as_half(static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16))));
    }
  }
};

// The same value, of which the compiler does not know where it comes from.
template <typename Value>
__device__ inline Value pin(Value value) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<Value, float>) {
    asm volatile("" : "+f"(value));
  } else {
    asm volatile("" : "+r"(value));
  }
#endif
  return value;
}

// kCount channels as float32 that stay so in registers: left to itself the compiler keeps them
// packed and widens them again at every use.
template <typename T, int kCount>
__device__ inline void widen(const Packed<T, kCount>& packed, float (&to)[kCount]) {
#pragma unroll
  for (int c = 0; c < kCount; ++c) to[c] = pin(packed[c]);
}

template <typename T>
__device__ inline T narrow(float value) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(value);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(value);
  } else {
    return value;
  }
}

// One value of four bytes, or two of two bytes.
template <typename T>
__device__ inline uint32_t to_word(float first, float second) {
  if constexpr (std::is_same_v<T, float>) {
    return __float_as_uint(first);
  } else {
    uint32_t word;
    if constexpr (std::is_same_v<T, __half>) {
      const __half2 pair = __floats2half2_rn(first, second);
      std::memcpy(&word, &pair, sizeof(word));
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
      std::memcpy(&word, &pair, sizeof(word));
    }
    return word;
  }
}

template <typename T, int kCount>
__device__ inline void store(T* to, const float (&from)[kCount]) {
  constexpr int kBytes = kCount * static_cast<int>(sizeof(T));
  constexpr int kStep = 4 / static_cast<int>(sizeof(T));
  const auto word = [&](int i) { return to_word<T>(from[i * kStep], from[(i + 1) * kStep - 1]); };
  if constexpr (kBytes == 16) {
    *reinterpret_cast<uint4*>(to) = make_uint4(word(0), word(1), word(2), word(3));
  } else if constexpr (kBytes == 8) {
    *reinterpret_cast<uint2*>(to) = make_uint2(word(0), word(1));
  } else if constexpr (kBytes == 4) {
    *reinterpret_cast<uint32_t*>(to) = word(0);
  } else {
    *to = narrow<T>(from[0]);
  }
}

// One spatial axis of result, operand and filter. With g = gcd(stride, dilation) the results
//   out = phase + phases * index,  phases = dilation / g,
// of one phase read only in = phase * stride - pad + step * (ratio * index + tap), step = dilation,
// ratio = stride / g: an undilated convolution of stride `ratio` over every step-th element.
struct Axis {
  int in, out, taps;  // extents
  int stride, pad, step;
  int phases, ratio;
  int advance;                             // input elements from one result of a phase to the next
  int64_t in_pitch, out_pitch, tap_pitch;  // memory elements; negative where a filter is flipped

  // Results of a phase; the first one has the most.
  __host__ __device__ int outs(int phase) const { return (out - phase + phases - 1) / phases; }
  // Where tap 0 of the index-th result of a phase lies.
  __device__ int origin(int phase, int index) const {
    return phase * stride - pad + advance * index;
  }
  __device__ bool holds(int position) const { return position >= 0 && position < in; }
};

inline Axis make_axis(int64_t in, int64_t out, int64_t taps, int64_t stride, int64_t pad,
                      int64_t dilation) {
  const int64_t step = taps == 1 ? stride : dilation;  // no second tap to be apart from
  const int64_t common = std::gcd(stride, step);
  Axis axis{};
  axis.in = static_cast<int>(in);
  axis.out = static_cast<int>(out);
  axis.taps = static_cast<int>(taps);
  axis.stride = static_cast<int>(stride);
  axis.pad = static_cast<int>(pad);
  axis.step = static_cast<int>(step);
  axis.phases = static_cast<int>(std::clamp<int64_t>(step / common, 1, std::max<int64_t>(out, 1)));
  axis.ratio = static_cast<int>(stride / common);
  axis.advance = static_cast<int>(stride * (step / common));  // kept only where ratio is small
  return axis;
}

// For kernels that take results one by one.
inline Axis without_phases(Axis axis) {
  axis.phases = 1;
  axis.advance = axis.stride;
  return axis;
}

struct Problem {
  const void* in;
  const void* filter;  // of tap (0, 0), channel 0
  void* out;
  Axis rows, columns;
  int64_t in_image, out_image;  // elements from one image to the next
  int64_t batch;
  int channels;
};

// The forward problem; its pointers are the caller's to fill in.
inline Status make_problem(const Shape& shape, Problem* problem) {
  if (shape.groups != shape.channels || shape.out_channels != shape.channels) {
    return Status::error(kOp, ": a depthwise filter must have groups = C = K, got ", shape.groups,
                         ", ", shape.channels, ", ", shape.out_channels);
  }
  const int64_t channels = shape.channels;
  problem->rows = make_axis(shape.height, shape.out_height, shape.filter_height, shape.stride_h,
                            shape.pad_h, shape.dilation_h);
  problem->rows.in_pitch = shape.width * channels;
  problem->rows.out_pitch = shape.out_width * channels;
  problem->rows.tap_pitch = shape.filter_width * channels;
  problem->columns = make_axis(shape.width, shape.out_width, shape.filter_width, shape.stride_w,
                               shape.pad_w, shape.dilation_w);
  problem->columns.in_pitch = problem->columns.out_pitch = problem->columns.tap_pitch = channels;
  problem->in_image = shape.height * shape.width * channels;
  problem->out_image = shape.out_height * shape.out_width * channels;
  problem->batch = shape.batch;
  problem->channels = static_cast<int>(channels);
  return Status::ok();
}

// Threads of a block: `lanes` runs of channels, the same for each of kThreads / lanes workers.
struct Lanes {
  int lanes, groups;  // lanes * groups runs cover the channels
  __host__ __device__ int workers() const { return kThreads / lanes; }
};

inline Lanes make_lanes(int channels, int count) {
  const int runs = (channels + count - 1) / count;
  const int groups = (runs + 31) / 32;
  return {(runs + groups - 1) / groups, groups};
}

struct Place {
  int64_t block;  // without the channel group
  int worker, channel;
  bool active;
};

template <int kCount>
__device__ inline Place find_place(const Lanes& lanes, int channels) {
  Place place;
  place.worker = threadIdx.x / lanes.lanes;
  place.block = blockIdx.x / lanes.groups;
  const int group = blockIdx.x % lanes.groups;
  place.channel = (group * lanes.lanes + static_cast<int>(threadIdx.x) % lanes.lanes) * kCount;
  place.active = place.worker < lanes.workers() && place.channel < channels;
  return place;
}

// Takes the lowest digit, in base `count`, off a number.
__device__ inline int take(int64_t* rest, int count) {
  if ((*rest >> 32) == 0) {
    const auto low = static_cast<uint32_t>(*rest);
    *rest = low / static_cast<uint32_t>(count);
    return static_cast<int>(low % static_cast<uint32_t>(count));
  }
  const int digit = static_cast<int>(*rest % count);
  *rest /= count;
  return digit;
}

inline Status make_grid(int64_t blocks, dim3* grid) {
  if (blocks > INT32_MAX) return Status::error(kOp, ": the problem needs too many thread blocks");
  *grid = dim3(static_cast<unsigned>(blocks));
  return Status::ok();
}

inline bool takes_vectors(int64_t channels, int64_t count, int64_t bytes,
                          std::initializer_list<const void*> pointers) {
  bool fits = channels % count == 0;
  for (const void* pointer : pointers) {
    fits = fits && reinterpret_cast<uintptr_t>(pointer) % (count * bytes) == 0;
  }
  return fits;
}

// out = in (x) filter, by the fastest kernel that takes the problem.
Status correlate(cudaStream_t stream, FloatType type, const Problem& problem);

// Calls run(T{}) for the element type.
template <typename Run>
Status with_type(FloatType type, const Run& run) {
  switch (type) {
    case FloatType::kF16:
      return run(__half{});
    case FloatType::kBF16:
      return run(__nv_bfloat16{});
    case FloatType::kF32:
      return run(float{});
    case FloatType::kF64:
      break;
  }
  return Status::error(kOp, ": float64 has no CUDA kernel; use implementation='reference'");
}

}  // namespace jaxdirect::conv::depthwise
