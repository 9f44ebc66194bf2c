#pragma once

// Draws of one Philox stream in batches, four blocks at a time where the CPU has AVX2.

#include <cstdint>

#include "hostmem/philox.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define JAXDIRECT_HAS_AVX2_PATH 1
#include <immintrin.h>
#endif

namespace jaxdirect::hostmem {

// Blocks in a batch, and the draws that they hold.
inline constexpr int64_t kBatchBlocks = 8;
inline constexpr int64_t kBatchDraws = 2 * kBatchBlocks;

// Writes the kBatchDraws draws of the blocks from `counter` on.
using PhiloxBatch = void (*)(PhiloxKey key, uint32_t counter, uint64_t* draws);

inline void philox_batch(PhiloxKey key, uint32_t counter, uint64_t* draws) {
  for (int64_t block = 0; block < kBatchBlocks; ++block) {
    const PhiloxPair pair = philox_pair(key, counter + static_cast<uint32_t>(block));
    draws[2 * block] = pair.even;
    draws[2 * block + 1] = pair.odd;
  }
}

#ifdef JAXDIRECT_HAS_AVX2_PATH

// A word of four blocks sits in the low halves of four 64-bit lanes. Their high halves
// hold leftovers, which the 32-bit multiplications ignore.
__attribute__((target("avx2"))) inline void philox_batch_avx2(PhiloxKey key, uint32_t counter,
                                                              uint64_t* draws) {
  const __m256i multiplier0 = _mm256_set1_epi64x(0xD2511F53);
  const __m256i multiplier1 = _mm256_set1_epi64x(0xCD9E8D57);
  constexpr int kGroups = kBatchBlocks / 4;
  __m256i words[kGroups][4];
  for (int group = 0; group < kGroups; ++group) {
    const __m256i first = _mm256_set1_epi64x(counter + static_cast<uint32_t>(4 * group));
    words[group][0] = _mm256_add_epi32(first, _mm256_set_epi64x(3, 2, 1, 0));
    words[group][1] = words[group][2] = words[group][3] = _mm256_setzero_si256();
  }
  for (int round = 0; round < 10; ++round) {
    const __m256i key0 = _mm256_set1_epi64x(key.word0);
    const __m256i key1 = _mm256_set1_epi64x(key.word1);
    for (auto& word : words) {
      const __m256i product0 = _mm256_mul_epu32(multiplier0, word[0]);
      const __m256i product1 = _mm256_mul_epu32(multiplier1, word[2]);
      word[0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product1, 32), word[1]), key0);
      word[2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(product0, 32), word[3]), key1);
      word[1] = product1;
      word[3] = product0;
    }
    key.word0 += 0x9E3779B9u;
    key.word1 += 0xBB67AE85u;
  }
  for (int group = 0; group < kGroups; ++group) {
    const __m256i* word = words[group];
    const __m256i even = _mm256_blend_epi32(word[0], _mm256_slli_epi64(word[1], 32), 0xAA);
    const __m256i odd = _mm256_blend_epi32(word[2], _mm256_slli_epi64(word[3], 32), 0xAA);
    const __m256i blocks02 = _mm256_unpacklo_epi64(even, odd);
    const __m256i blocks13 = _mm256_unpackhi_epi64(even, odd);
    auto* to = reinterpret_cast<__m256i*>(draws + 8 * group);
    _mm256_storeu_si256(to, _mm256_permute2x128_si256(blocks02, blocks13, 0x20));
    _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(blocks02, blocks13, 0x31));
  }
}

#endif

inline PhiloxBatch choose_philox_batch() {
#ifdef JAXDIRECT_HAS_AVX2_PATH
  if (__builtin_cpu_supports("avx2")) return philox_batch_avx2;
#endif
  return philox_batch;
}

}  // namespace jaxdirect::hostmem
