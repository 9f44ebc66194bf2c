#pragma once

// Warpgroup products with the left operand in registers, 64 rows, float32 sums:
//
//   d[64, N] (+)= a[64, 32 bytes of depth] * b[depth, N]
//
// b lies in shared memory in rows of 128 bytes, in the copy engine's 128-byte swizzle. Either a row
// holds consecutive depth of one column (depth-major), or 64 columns at one depth (column-major,
// 16-bit types only). The accumulators of a thread: columns 8j + 2 (lane % 4) + {0, 1} of rows
// lane / 4 and lane / 4 + 8 of its warp's 16 are d[4j + {0, 1}] and d[4j + {2, 3}].

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

// The same for depth-major rows of 64 bytes in the 64-byte swizzle.
__device__ __forceinline__ uint64_t operand_layout_64(uint32_t group_bytes) {
  return uint64_t{2} << 62 | uint64_t{group_bytes >> 4} << 32 | uint64_t{1} << 16;
}

__device__ __forceinline__ uint64_t operand_at(uint64_t layout, uint32_t address) {
  return layout | (address & 0x3ffff) >> 4;
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

#define JAXDIRECT_SUMS_32(d)                                                                      \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),    \
      "+f"(d[15])

#define JAXDIRECT_PRODUCT_32(shape_and_types, transpose)                     \
  asm volatile(                                                              \
      "{\n.reg .pred add;\nsetp.ne.b32 add, %21, 0;\n"                       \
      "wgmma.mma_async.sync.aligned." shape_and_types                        \
      " {"                                                                   \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
      "}, {%16, %17, %18, %19}, %20, add, 1, 1" transpose ";\n}"             \
      : JAXDIRECT_SUMS_32(d)                                                 \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)))

#define JAXDIRECT_SUMS_64(d)                                                                      \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),    \
      "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]),  \
      "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]),  \
      "+f"(d[29]), "+f"(d[30]), "+f"(d[31])

#define JAXDIRECT_PRODUCT_64(shape_and_types, transpose)                               \
  asm volatile(                                                                        \
      "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"                                 \
      "wgmma.mma_async.sync.aligned." shape_and_types                                  \
      " {"                                                                             \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "         \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
      "}, {%32, %33, %34, %35}, %36, add, 1, 1" transpose ";\n}"                       \
      : JAXDIRECT_SUMS_64(d)                                                           \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)))

#define JAXDIRECT_SUMS_128(d)                                                                     \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),    \
      "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]),  \
      "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]),  \
      "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),  \
      "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),  \
      "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),  \
      "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),  \
      "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])

#define JAXDIRECT_PRODUCT_128(shape_and_types, transpose)                                \
  asm volatile(                                                                          \
      "{\n.reg .pred add;\nsetp.ne.b32 add, %69, 0;\n"                                   \
      "wgmma.mma_async.sync.aligned." shape_and_types                                    \
      " {"                                                                               \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"   \
      "}, {%64, %65, %66, %67}, %68, add, 1, 1" transpose ";\n}"                         \
      : JAXDIRECT_SUMS_128(d)                                                            \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)))

#define JAXDIRECT_SUMS_224(d)                                                                     \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),    \
      "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]),  \
      "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]),  \
      "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),  \
      "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),  \
      "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),  \
      "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),  \
      "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),  \
      "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]),  \
      "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]),  \
      "+f"(d[78]), "+f"(d[79]), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]),  \
      "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]),  \
      "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]),  \
      "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), "+f"(d[104]),          \
      "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]),         \
      "+f"(d[111])

#define JAXDIRECT_PRODUCT_224(shape_and_types, transpose)                                          \
  asm volatile(                                                                                    \
      "{\n.reg .pred add;\nsetp.ne.b32 add, %117, 0;\n"                                            \
      "wgmma.mma_async.sync.aligned." shape_and_types                                              \
      " {"                                                                                         \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                     \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "           \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "           \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "           \
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "           \
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "           \
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
      "}, {%112, %113, %114, %115}, %116, add, 1, 1" transpose ";\n}"                              \
      : JAXDIRECT_SUMS_224(d)                                                                      \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)))

// d = a * b, or d += a * b where `add`. Runs on its own: neither a nor d may be touched before a
// wait for its group, and a and d must have been fenced.
template <typename T, int kColumns, bool kColumnMajor>
__device__ __forceinline__ void multiply(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                                         uint64_t b, bool add) {
  static_assert(kColumns == 32 || kColumns == 64 || kColumns == 128 || kColumns == 224);
  if constexpr (kColumns == 32) {
    static_assert(std::is_same_v<T, __nv_bfloat16> && kColumnMajor);
    JAXDIRECT_PRODUCT_32("m64n32k16.f32.bf16.bf16", ", 1");
  } else if constexpr (kColumns == 224 && std::is_same_v<T, __nv_bfloat16>) {
    static_assert(!kColumnMajor);
    JAXDIRECT_PRODUCT_224("m64n224k16.f32.bf16.bf16", ", 0");
  } else if constexpr (kColumns == 224) {
    static_assert(std::is_same_v<T, __half> && !kColumnMajor);
    JAXDIRECT_PRODUCT_224("m64n224k16.f32.f16.f16", ", 0");
  } else if constexpr (kColumns == 64 && std::is_same_v<T, __nv_bfloat16> && kColumnMajor) {
    JAXDIRECT_PRODUCT_64("m64n64k16.f32.bf16.bf16", ", 1");
  } else if constexpr (kColumns == 64 && std::is_same_v<T, __nv_bfloat16> && !kColumnMajor) {
    JAXDIRECT_PRODUCT_64("m64n64k16.f32.bf16.bf16", ", 0");
  } else if constexpr (kColumns == 64 && std::is_same_v<T, __half> && kColumnMajor) {
    JAXDIRECT_PRODUCT_64("m64n64k16.f32.f16.f16", ", 1");
  } else if constexpr (kColumns == 64 && std::is_same_v<T, __half> && !kColumnMajor) {
    JAXDIRECT_PRODUCT_64("m64n64k16.f32.f16.f16", ", 0");
  } else if constexpr (kColumns == 64) {
    static_assert(std::is_same_v<T, Tf32> && !kColumnMajor);
    JAXDIRECT_PRODUCT_64("m64n64k8.f32.tf32.tf32", "");
  } else if constexpr (kColumns == 128 && std::is_same_v<T, __nv_bfloat16> && kColumnMajor) {
    JAXDIRECT_PRODUCT_128("m64n128k16.f32.bf16.bf16", ", 1");
  } else if constexpr (kColumns == 128 && std::is_same_v<T, __nv_bfloat16> && !kColumnMajor) {
    JAXDIRECT_PRODUCT_128("m64n128k16.f32.bf16.bf16", ", 0");
  } else if constexpr (kColumns == 128 && std::is_same_v<T, __half> && kColumnMajor) {
    JAXDIRECT_PRODUCT_128("m64n128k16.f32.f16.f16", ", 1");
  } else if constexpr (kColumns == 128 && std::is_same_v<T, __half> && !kColumnMajor) {
    JAXDIRECT_PRODUCT_128("m64n128k16.f32.f16.f16", ", 0");
  } else if constexpr (kColumns == 128) {
    static_assert(std::is_same_v<T, Tf32> && !kColumnMajor);
    JAXDIRECT_PRODUCT_128("m64n128k8.f32.tf32.tf32", "");
  }
}

#undef JAXDIRECT_PRODUCT_32
#undef JAXDIRECT_PRODUCT_64
#undef JAXDIRECT_PRODUCT_128
#undef JAXDIRECT_PRODUCT_224
#undef JAXDIRECT_SUMS_32
#undef JAXDIRECT_SUMS_64
#undef JAXDIRECT_SUMS_128
#undef JAXDIRECT_SUMS_224

#endif  // JAXDIRECT_HOPPER

}  // namespace jaxdirect::conv
