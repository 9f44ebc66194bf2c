#pragma once

// Philox4x32-10, and whole numbers below a bound from it; host and device draw the
// same. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11.

#include <cstdint>

#include "common/host_device.h"

namespace jaxdirect::hostmem {

struct PhiloxKey {
  uint32_t word0;
  uint32_t word1;
};

// Two 64-bit numbers: words (0, 1) and (2, 3) of one block, the first word low.
struct PhiloxPair {
  uint64_t even;
  uint64_t odd;
};

JAXDIRECT_HOST_DEVICE inline PhiloxPair philox_pair(PhiloxKey key, uint32_t counter) {
  uint32_t words[4] = {counter, 0, 0, 0};
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * words[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * words[2];
    words[0] = static_cast<uint32_t>(product1 >> 32) ^ words[1] ^ key.word0;
    words[2] = static_cast<uint32_t>(product0 >> 32) ^ words[3] ^ key.word1;
    words[1] = static_cast<uint32_t>(product1);
    words[3] = static_cast<uint32_t>(product0);
    key.word0 += 0x9E3779B9u;
    key.word1 += 0xBB67AE85u;
  }
  return {words[0] | uint64_t{words[1]} << 32, words[2] | uint64_t{words[3]} << 32};
}

// Draw j of the stream that `key` names.
JAXDIRECT_HOST_DEVICE inline uint64_t philox_draw(PhiloxKey key, uint32_t j) {
  const PhiloxPair pair = philox_pair(key, j / 2);
  return j % 2 == 0 ? pair.even : pair.odd;
}

// floor(u * n / 2^64), in [0, n): uniform to within n / 2^64.
JAXDIRECT_HOST_DEVICE inline uint32_t bounded(uint64_t u, uint32_t n) {
  const uint64_t high = (u >> 32) * n;
  const uint64_t low = (u & 0xFFFFFFFFu) * n;
  return static_cast<uint32_t>((high + (low >> 32)) >> 32);
}

}  // namespace jaxdirect::hostmem
