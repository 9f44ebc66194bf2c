// Includes JAXDIRECT_TARGET_CODE once for each instruction set that the CPU may have, in a
// namespace of its own, with vectors of JAXDIRECT_VECTOR_BYTES. No include guard: a source file
// names its code, includes this, and calls what JAXDIRECT_FOR_THIS_CPU picks.
//
// The package is built for any x86-64, so wider instructions are chosen when it runs. Headers of
// others come before: what they define must not be compiled for one CPU alone.

#include "common/targets.h"

#if JAXDIRECT_X86_TARGETS

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#define JAXDIRECT_TARGET avx512
#define JAXDIRECT_VECTOR_BYTES 64
#include JAXDIRECT_TARGET_CODE
#undef JAXDIRECT_TARGET
#undef JAXDIRECT_VECTOR_BYTES
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define JAXDIRECT_TARGET avx2
#define JAXDIRECT_VECTOR_BYTES 32
#include JAXDIRECT_TARGET_CODE
#undef JAXDIRECT_TARGET
#undef JAXDIRECT_VECTOR_BYTES
#pragma GCC pop_options

#endif

#define JAXDIRECT_TARGET baseline
#define JAXDIRECT_VECTOR_BYTES 16
#include JAXDIRECT_TARGET_CODE
#undef JAXDIRECT_TARGET
#undef JAXDIRECT_VECTOR_BYTES
