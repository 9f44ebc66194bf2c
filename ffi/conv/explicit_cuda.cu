// The explicit form on any GPU from sm_80 on: windows put in order in memory, then the paper's
// tiled product on the units for float32, no tensor cores. See explicit.h.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "common/cuda.h"
#include "conv/explicit.h"

namespace jaxdirect::conv {
namespace {

constexpr const char* kOp = "conv_general_dilated";
constexpr int kThreads = 256;
constexpr int kDepth = 8;  // of a tile

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

Status check_blocks(int64_t blocks) {
  if (blocks <= INT32_MAX) return Status::ok();
  return Status::error(kOp, ": im2win_explicit needs too many thread blocks; use ",
                       "implementation='auto'");
}

// Channels and values of a row are counted in units of what a thread moves.
struct OrderCall {
  const void* x;  // [N, H, W, C]
  void* ordered;  // [N * P][row_values]
  int height, width, channels;
  int out_height, taps_h;
  int stride_h, stride_w, pad_h, pad_w, step;
  int row_values, row_blocks;
};

// x [N, H, W, C] to ordered [N * P][columns][R][C]; a block writes kThreads neighbours of a row.
// Bytes: every row of x R / stride_h times, from the second-level cache but once, and the result.
template <typename Value>
__global__ void __launch_bounds__(kThreads) order_windows(const OrderCall call) {
  const int row = blockIdx.x / call.row_blocks;
  const int at = blockIdx.x % call.row_blocks * kThreads + threadIdx.x;
  if (at >= call.row_values) return;
  const int c = at % call.channels;
  const int tap = at / call.channels;
  const int m = tap / call.taps_h;
  const int h = row % call.out_height * call.stride_h - call.pad_h + tap % call.taps_h;
  const int w = m / call.step * call.stride_w + m % call.step - call.pad_w;
  Value value{};
  if (h >= 0 && h < call.height && w >= 0 && w < call.width) {
    const int64_t line = int64_t{row / call.out_height} * call.height + h;
    value = static_cast<const Value*>(call.x)[(line * call.width + w) * call.channels + c];
  }
  static_cast<Value*>(call.ordered)[int64_t{row} * call.row_values + at] = value;
}

// filter [R, S, tap] to filter' [S, R, tap], a thread a value.
__global__ void __launch_bounds__(kThreads)
    order_filter(const float* filter, int taps_h, int taps_w, int64_t tap, int64_t count,
                 float* to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t v = i / tap / taps_h, u = i / tap % taps_h;
  to[i] = filter[(u * taps_w + v) * tap + i % tap];
}

struct ProductCall {
  const float* windows;
  const float* filter;  // [depth, out_channels]
  float* y;             // [pixels, out_channels]
  int64_t pixels;       // N * P * Q
  int64_t row_values;   // of the ordered windows
  int row_windows;      // Q
  int window_values;    // from a window to the next
  int depth, out_channels;
  bool aligned_windows, aligned_channels;  // whether quads of both lie at multiples of 16 bytes

  __device__ const float* window(int64_t pixel) const {
    return windows + pixel / row_windows * row_values + pixel % row_windows * window_values;
  }
};

// The first `count` of four neighbours, and zeros.
template <bool kVectors>
__device__ float4 load_quad(const float* from, int count, bool aligned) {
  if (kVectors && aligned && count >= 4) return __ldg(reinterpret_cast<const float4*>(from));
  float4 quad{};
  if (count > 0) quad.x = __ldg(from);
  if (count > 1) quad.y = __ldg(from + 1);
  if (count > 2) quad.z = __ldg(from + 2);
  if (count > 3) quad.w = __ldg(from + 3);
  return quad;
}

template <bool kVectors>
__device__ void store_quad(float* to, float4 quad, int count, bool aligned) {
  if (kVectors && aligned && count >= 4) {
    *reinterpret_cast<float4*>(to) = quad;
    return;
  }
  if (count > 0) to[0] = quad.x;
  if (count > 1) to[1] = quad.y;
  if (count > 2) to[2] = quad.z;
  if (count > 3) to[3] = quad.w;
}

// The results of a thread: kCount x kCount, in runs of four (or one) that are kApart apart, so
// that the threads of a warp read neighbouring runs of shared memory.
template <bool kMicroKernel>
struct Micro;

template <>
struct Micro<true> {
  static constexpr int kTile = 128, kCount = 8, kRun = 4;
  static constexpr int kRowsApart = 16, kColumnsApart = 32;
  // Warps lie 4 x 2, their threads 4 x 8.
  __device__ static int row() { return threadIdx.x / 64 * 32 + threadIdx.x % 32 / 8 * 4; }
  __device__ static int column() { return threadIdx.x / 32 % 2 * 64 + threadIdx.x % 8 * 4; }
};

template <>
struct Micro<false> {
  static constexpr int kTile = 16, kCount = 1, kRun = 1;
  static constexpr int kRowsApart = 1, kColumnsApart = 1;
  __device__ static int row() { return threadIdx.x / 16; }
  __device__ static int column() { return threadIdx.x % 16; }
};

// Some of a line of a tile: runs from `first` on.
template <bool kVectors, int kCount, int kRun, int kApart>
__device__ void read_line(const float* line, int first, float (&to)[kCount]) {
#pragma unroll
  for (int run = 0; run < kCount / kRun; ++run) {
    const float* from = line + first + run * kApart;
    if constexpr (kVectors && kRun == 4) {
      const float4 quad = *reinterpret_cast<const float4*>(from);
      to[run * 4] = quad.x, to[run * 4 + 1] = quad.y;
      to[run * 4 + 2] = quad.z, to[run * 4 + 3] = quad.w;
    } else if constexpr (kVectors) {
      to[run] = *from;
    } else {
      // Volatile: else the compiler may join the loads by itself.
#pragma unroll
      for (int i = 0; i < kRun; ++i) {
        to[run * kRun + i] = static_cast<const volatile float*>(from)[i];
      }
    }
  }
}

// windows [pixels, depth] @ filter' [depth, channels]; a block makes kTile pixels x kTile channels
// (128, or 16 where a thread has one result), over kDepth of the depth at a time:
//
//   kPrefetch      the next tiles come into registers during the products of these
//   kVectors       16 bytes a load, from global and from shared memory
//   kMicroKernel   8 x 8 results a thread: 16 values read for 64 products
//   kDoubleBuffer  two pairs of tiles in shared memory, and one barrier a step instead of two
//
// Bytes: the windows once for every 128 channels, the filter once for every 128 pixels. Floor:
// pixels * depth * channels products at the rate of the float32 units.
template <bool kPrefetch, bool kVectors, bool kMicroKernel, bool kDoubleBuffer>
__global__ void __launch_bounds__(kThreads, 2) multiply(const ProductCall call) {
  using Results = Micro<kMicroKernel>;
  constexpr int kTile = Results::kTile, kCount = Results::kCount, kRun = Results::kRun;
  constexpr int kStages = kDoubleBuffer ? 2 : 1;
  constexpr int kPitch = kTile + 4;  // the two halves of a warp's quads go to different banks
  __shared__ alignas(16) float windows[kStages][kDepth][kPitch];
  __shared__ alignas(16) float filter[kStages][kDepth][kTile];

  const int channel_tiles = (call.out_channels + kTile - 1) / kTile;
  const int64_t first_pixel = int64_t{blockIdx.x / channel_tiles} * kTile;
  const int first_channel = blockIdx.x % channel_tiles * kTile;

  // A thread loads four neighbours of a window, and four channels of a line of the filter.
  const bool loads = threadIdx.x < kTile * kDepth / 4;
  const int pixel = threadIdx.x / (kDepth / 4), place = threadIdx.x % (kDepth / 4) * 4;
  const int line = threadIdx.x / (kTile / 4), channel = threadIdx.x % (kTile / 4) * 4;
  const bool has_pixel = loads && first_pixel + pixel < call.pixels;
  const int channels = loads ? call.out_channels - first_channel - channel : 0;
  const float* window = call.window(has_pixel ? first_pixel + pixel : 0) + place;
  const float* of_filter =
      call.filter + int64_t{line} * call.out_channels + first_channel + channel;
  const int64_t advance = int64_t{kDepth} * call.out_channels;
  float4 window_quad, filter_quad;
  int left = call.depth;  // that is not fetched
  const auto fetch = [&] {
    window_quad = load_quad<kVectors>(window, has_pixel ? left - place : 0, call.aligned_windows);
    filter_quad = load_quad<kVectors>(of_filter, line < left ? channels : 0, call.aligned_channels);
    left -= kDepth;
    window += kDepth;
    of_filter += advance;
  };
  const auto put = [&](int stage) {
    if (!loads) return;
    windows[stage][place][pixel] = window_quad.x;
    windows[stage][place + 1][pixel] = window_quad.y;
    windows[stage][place + 2][pixel] = window_quad.z;
    windows[stage][place + 3][pixel] = window_quad.w;
    store_quad<kVectors>(&filter[stage][line][channel], filter_quad, 4, /*aligned=*/true);
  };

  const int row = Results::row(), column = Results::column();
  float sums[kCount][kCount] = {};
  int stage = 0;
  if (kPrefetch) fetch();
#pragma unroll 1
  for (int steps = (call.depth + kDepth - 1) / kDepth; steps > 0; --steps) {
    if (!kPrefetch) fetch();
    if (!kDoubleBuffer) __syncthreads();  // all have read the last tiles
    put(stage);
    __syncthreads();
    if (kPrefetch) fetch();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float left[kCount], right[kCount];
      read_line<kVectors, kCount, kRun, Results::kRowsApart>(windows[stage][k], row, left);
      read_line<kVectors, kCount, kRun, Results::kColumnsApart>(filter[stage][k], column, right);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
#pragma unroll
        for (int j = 0; j < kCount; ++j) sums[i][j] += left[i] * right[j];
      }
    }
    if (kDoubleBuffer) stage ^= 1;
  }

#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int64_t to = first_pixel + row + i / kRun * Results::kRowsApart + i % kRun;
    if (to >= call.pixels) continue;
#pragma unroll
    for (int j = 0; j < kCount; j += kRun) {
      const int k = first_channel + column + j / kRun * Results::kColumnsApart;
      float* y = call.y + to * call.out_channels + k;
      if constexpr (kRun == 4) {
        const float4 quad = {sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]};
        store_quad<kVectors>(y, quad, call.out_channels - k, call.aligned_channels);
      } else if (k < call.out_channels) {
        *y = sums[i][j];
      }
    }
  }
}

constexpr int kBaseRows = 8, kBaseColumns = 32;

// The same product with a thread a result, 8 pixels x 32 channels a block, all read from memory.
__global__ void __launch_bounds__(kThreads) multiply_base(const ProductCall call) {
  const int channel_tiles = (call.out_channels + kBaseColumns - 1) / kBaseColumns;
  const int64_t pixel =
      int64_t{blockIdx.x / channel_tiles} * kBaseRows + threadIdx.x / kBaseColumns;
  const int channel = blockIdx.x % channel_tiles * kBaseColumns + threadIdx.x % kBaseColumns;
  if (pixel >= call.pixels || channel >= call.out_channels) return;
  const float* window = call.window(pixel);
  const float* filter = call.filter + channel;
  float sum = 0;
  for (int k = 0; k < call.depth; ++k, filter += call.out_channels) {
    sum += __ldg(window + k) * __ldg(filter);
  }
  call.y[pixel * call.out_channels + channel] = sum;
}

struct Kernel {
  int rows, columns;  // of a block's results
  void (*run)(ProductCall);
};

// By Variant; prefetch, vectors, micro-kernel, double buffer.
constexpr Kernel kKernels[] = {
    {128, 128, multiply<true, true, true, true>},   // kFull
    {128, 128, multiply<false, true, true, true>},  // kNoPrefetch
    {128, 128, multiply<true, false, true, true>},  // kNoVectors
    {16, 16, multiply<true, true, false, true>},    // kNoMicroKernel
    {128, 128, multiply<true, true, true, false>},  // kNoDoubleBuffer
    {kBaseRows, kBaseColumns, multiply_base},       // kBase
};

Status order(cudaStream_t stream, const Args& args, const WindowArray& ordered, float* filter) {
  const Shape& s = args.shape;
  const int64_t unit =
      s.channels % 4 == 0 && is_aligned(args.x) && is_aligned(args.workspace) ? 4 : 1;
  OrderCall call{};
  call.x = args.x;
  call.ordered = args.workspace;
  call.height = static_cast<int>(s.height);
  call.width = static_cast<int>(s.width);
  call.channels = static_cast<int>(s.channels / unit);
  call.out_height = static_cast<int>(s.out_height);
  call.taps_h = static_cast<int>(s.filter_height);
  call.stride_h = static_cast<int>(s.stride_h);
  call.stride_w = static_cast<int>(s.stride_w);
  call.pad_h = static_cast<int>(s.pad_h);
  call.pad_w = static_cast<int>(s.pad_w);
  call.step = static_cast<int>(ordered.step);
  call.row_values = static_cast<int>(ordered.row_values() / unit);
  call.row_blocks = static_cast<int>(ceil_div(call.row_values, kThreads));
  const int64_t blocks = ordered.rows * call.row_blocks;
  JAXDIRECT_RETURN_IF_ERROR(check_blocks(blocks));
  const auto kernel = unit == 4 ? order_windows<float4> : order_windows<float>;
  kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(call);
  const int64_t count = s.filter_size();
  JAXDIRECT_RETURN_IF_ERROR(check_blocks(ceil_div(count, kThreads)));
  order_filter<<<static_cast<unsigned>(ceil_div(count, kThreads)), kThreads, 0, stream>>>(
      static_cast<const float*>(args.filter), static_cast<int>(s.filter_height),
      static_cast<int>(s.filter_width), s.channels * s.out_channels, count, filter);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), "conv_general_dilated: windows");
  return Status::ok();
}

}  // namespace

Status run_explicit(cudaStream_t stream, const Args& args, const WindowArray& ordered,
                    Variant variant) {
  const Shape& s = args.shape;
  auto* filter = static_cast<float*>(args.workspace) + ordered.filter_offset() / 4;
  if (ordered.depth() > 0) {
    JAXDIRECT_RETURN_IF_ERROR(order(stream, args, ordered, filter));
  }
  if (variant == Variant::kNoProduct) return Status::ok();
  ProductCall call{};
  call.windows = static_cast<const float*>(args.workspace);
  call.filter = filter;
  call.y = static_cast<float*>(args.y);
  call.pixels = ordered.rows * ordered.windows;
  call.row_values = ordered.row_values();
  call.row_windows = static_cast<int>(ordered.windows);
  call.window_values = static_cast<int>(ordered.window_values());
  call.depth = static_cast<int>(ordered.depth());
  call.out_channels = static_cast<int>(s.out_channels);
  call.aligned_windows = ordered.window_values() % 4 == 0 && is_aligned(args.workspace);
  call.aligned_channels =
      s.out_channels % 4 == 0 && is_aligned(args.workspace) && is_aligned(args.y);
  const Kernel& kernel = kKernels[static_cast<int>(variant)];
  const int64_t blocks =
      ceil_div(call.pixels, kernel.rows) * ceil_div(s.out_channels, kernel.columns);
  JAXDIRECT_RETURN_IF_ERROR(check_blocks(blocks));
  kernel.run<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(call);
  JAXDIRECT_RETURN_IF_CUDA_ERROR(cudaPeekAtLastError(), "conv_general_dilated: product");
  return Status::ok();
}

}  // namespace jaxdirect::conv
