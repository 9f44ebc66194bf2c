#pragma once

// Warpgroup products of 64 rows, float32 sums:
//
//   d[64, N] (+)= a[64, 32 bytes of depth] * b[depth, N]
//
// a lies in registers, or as b does. b lies in shared memory in rows of 128 bytes, in the copy
// engine's 128-byte swizzle. Either a row holds consecutive depth of one column (depth-major), or
// 64 columns at one depth (column-major, 16-bit types only; a is always depth-major). The
// accumulators of a thread: columns 8j + 2 (lane % 4) + {0, 1} of rows lane / 4 and lane / 4 + 8 of
// its warp's 16 are d[4j + {0, 1}] and d[4j + {2, 3}].

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "conv/hopper.cuh"

namespace jaxdirect::conv {

// Operand types of the tensor cores; TF32 is what float32 is rounded to.
struct Tf32 {};

inline constexpr int kSwizzleRow = 128;  // bytes

#if JAXDIRECT_HOPPER

// The fixed part of a matrix descriptor: 128-byte swizzle, and the steps between groups of eight
// 128-byte rows and, if column-major, between blocks of 64 columns.
__device__ __forceinline__ uint64_t operand_layout(uint32_t group_bytes, uint32_t block_bytes) {
  return uint64_t{1} << 62 | uint64_t{group_bytes >> 4} << 32 | uint64_t{block_bytes >> 4} << 16;
}

// The same for rows of 64 bytes in the 64-byte swizzle; blocks have 32 columns.
__device__ __forceinline__ uint64_t operand_layout_64(uint32_t group_bytes,
                                                      uint32_t block_bytes = 16) {
  return uint64_t{2} << 62 | uint64_t{group_bytes >> 4} << 32 | uint64_t{block_bytes >> 4} << 16;
}

__device__ __forceinline__ uint64_t operand_at(uint64_t layout, uint32_t address) {
  return layout | (address & 0x3ffff) >> 4;
}

// An operand that many bytes on, within shared memory. Cheaper than operand_at in a loop.
__device__ __forceinline__ uint64_t operand_moved(uint64_t operand, uint32_t bytes) {
  return (operand & ~uint64_t{0xffffffff}) | (static_cast<uint32_t>(operand) + bytes / 16);
}

__device__ __forceinline__ void product_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void product_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most that many groups are still running.
template <int kLeft>
__device__ __forceinline__ void product_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}

// Keeps reads of sums behind the wait before: the compiler does not know that products run on.
template <int kCount>
__device__ __forceinline__ void settle(float (&d)[kCount]) {
#pragma unroll
  for (float& sum : d) asm volatile("" : "+f"(sum)::"memory");
}

// Operands of the instruction: the sums, eight at a time, then a, b and whether to add.
#define JAXDIRECT_SUMS(first)                                                                     \
  "+f"(d[first]), "+f"(d[first + 1]), "+f"(d[first + 2]), "+f"(d[first + 3]), "+f"(d[first + 4]), \
      "+f"(d[first + 5]), "+f"(d[first + 6]), "+f"(d[first + 7])
#define JAXDIRECT_SUMS_16 JAXDIRECT_SUMS(0), JAXDIRECT_SUMS(8)
#define JAXDIRECT_SUMS_24 JAXDIRECT_SUMS_16, JAXDIRECT_SUMS(16)
#define JAXDIRECT_SUMS_32 JAXDIRECT_SUMS_24, JAXDIRECT_SUMS(24)
#define JAXDIRECT_SUMS_48 JAXDIRECT_SUMS_32, JAXDIRECT_SUMS(32), JAXDIRECT_SUMS(40)
#define JAXDIRECT_SUMS_64 JAXDIRECT_SUMS_48, JAXDIRECT_SUMS(48), JAXDIRECT_SUMS(56)
#define JAXDIRECT_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define JAXDIRECT_NAMES_24 JAXDIRECT_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define JAXDIRECT_NAMES_32 JAXDIRECT_NAMES_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define JAXDIRECT_NAMES_48 \
  JAXDIRECT_NAMES_32       \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define JAXDIRECT_NAMES_64 \
  JAXDIRECT_NAMES_48       \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define JAXDIRECT_PRODUCT(shape_and_types, flags, count, a_name, b_name, add_name, ...)     \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add_name                             \
               ", 0;\n"                                                                     \
               "wgmma.mma_async.sync.aligned." shape_and_types " {" JAXDIRECT_NAMES_##count \
               "}, " a_name ", " b_name ", add, 1, 1" flags ";\n}"                          \
               : JAXDIRECT_SUMS_##count                                                     \
               : __VA_ARGS__, "l"(b), "r"(static_cast<int>(add)))
#define JAXDIRECT_REGISTERS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
#define JAXDIRECT_DESCRIPTOR "l"(a)

// One width: its columns, how a is transposed (where it can be), the number of sums, the
// instruction's operand names, and a's operands.
#define JAXDIRECT_WIDTH(columns, a_flag, ...)                                            \
  if constexpr (kColumns == columns) {                                                   \
    if constexpr (std::is_same_v<T, Tf32>) {                                             \
      static_assert(!kColumnMajor);                                                      \
      JAXDIRECT_PRODUCT("m64n" #columns "k8.f32.tf32.tf32", "", __VA_ARGS__);            \
    } else if constexpr (std::is_same_v<T, __nv_bfloat16> && kColumnMajor) {             \
      JAXDIRECT_PRODUCT("m64n" #columns "k16.f32.bf16.bf16", a_flag ", 1", __VA_ARGS__); \
    } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {                             \
      JAXDIRECT_PRODUCT("m64n" #columns "k16.f32.bf16.bf16", a_flag ", 0", __VA_ARGS__); \
    } else if constexpr (kColumnMajor) {                                                 \
      JAXDIRECT_PRODUCT("m64n" #columns "k16.f32.f16.f16", a_flag ", 1", __VA_ARGS__);   \
    } else {                                                                             \
      JAXDIRECT_PRODUCT("m64n" #columns "k16.f32.f16.f16", a_flag ", 0", __VA_ARGS__);   \
    }                                                                                    \
  }

// d = a * b, or d += a * b where `add`. Runs on its own: neither a nor d may be touched before a
// wait for its group, and a and d must have been fenced. T: Tf32, __nv_bfloat16 or __half.
template <typename T, int kColumns, bool kColumnMajor>
__device__ __forceinline__ void multiply(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                                         uint64_t b, bool add) {
  static_assert(kColumns == 32 || kColumns == 48 || kColumns == 64 || kColumns == 96 ||
                kColumns == 128);
  JAXDIRECT_WIDTH(32, "", 16, "{%16, %17, %18, %19}", "%20", "%21", JAXDIRECT_REGISTERS)
  JAXDIRECT_WIDTH(48, "", 24, "{%24, %25, %26, %27}", "%28", "%29", JAXDIRECT_REGISTERS)
  JAXDIRECT_WIDTH(64, "", 32, "{%32, %33, %34, %35}", "%36", "%37", JAXDIRECT_REGISTERS)
  JAXDIRECT_WIDTH(96, "", 48, "{%48, %49, %50, %51}", "%52", "%53", JAXDIRECT_REGISTERS)
  JAXDIRECT_WIDTH(128, "", 64, "{%64, %65, %66, %67}", "%68", "%69", JAXDIRECT_REGISTERS)
}

// The same with a in shared memory, depth-major.
template <typename T, int kColumns, bool kColumnMajor>
__device__ __forceinline__ void multiply(float (&d)[kColumns / 2], uint64_t a, uint64_t b,
                                         bool add) {
  static_assert(kColumns == 64 || kColumns == 96 || kColumns == 128);
  JAXDIRECT_WIDTH(64, ", 0", 32, "%32", "%33", "%34", JAXDIRECT_DESCRIPTOR)
  JAXDIRECT_WIDTH(96, ", 0", 48, "%48", "%49", "%50", JAXDIRECT_DESCRIPTOR)
  JAXDIRECT_WIDTH(128, ", 0", 64, "%64", "%65", "%66", JAXDIRECT_DESCRIPTOR)
}

#undef JAXDIRECT_WIDTH
#undef JAXDIRECT_PRODUCT
#undef JAXDIRECT_REGISTERS
#undef JAXDIRECT_DESCRIPTOR
#undef JAXDIRECT_NAMES_16
#undef JAXDIRECT_NAMES_24
#undef JAXDIRECT_NAMES_32
#undef JAXDIRECT_NAMES_48
#undef JAXDIRECT_NAMES_64
#undef JAXDIRECT_SUMS
#undef JAXDIRECT_SUMS_16
#undef JAXDIRECT_SUMS_24
#undef JAXDIRECT_SUMS_32
#undef JAXDIRECT_SUMS_48
#undef JAXDIRECT_SUMS_64

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
