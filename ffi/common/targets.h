#pragma once

// The instruction sets that CPU kernels are compiled for, and the choice among them.

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define JAXDIRECT_X86_TARGETS 1
#include <immintrin.h>
#else
#define JAXDIRECT_X86_TARGETS 0
#endif

// Checks of the other kernels lower it.
#ifndef JAXDIRECT_BEST_TARGET
#define JAXDIRECT_BEST_TARGET 2
#endif

namespace jaxdirect {

#if JAXDIRECT_X86_TARGETS

inline int cpu_target() {
  static const int target = [] {
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const int best = avx2 && avx512 ? 2 : avx2 ? 1 : 0;
    return best < JAXDIRECT_BEST_TARGET ? best : JAXDIRECT_BEST_TARGET;
  }();
  return target;
}

#define JAXDIRECT_FOR_THIS_CPU(call) \
  (cpu_target() == 2 ? avx512::call : cpu_target() == 1 ? avx2::call : baseline::call)

#else

#define JAXDIRECT_FOR_THIS_CPU(call) baseline::call

#endif

}  // namespace jaxdirect
