// Counter-based random numbers: a draw is a function of (seed, key, number) and of nothing else, so results do not
// depend on batch size, device or thread count. SplitMix64's finaliser: Steele, Lea, Flood, OOPSLA 2014.
#pragma once

#include "common/macros.h"

namespace graphmem {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;

GRAPHMEM_HD uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

GRAPHMEM_HD uint64_t stream(uint64_t seed, uint64_t key) {
  return mix(mix(seed + kGolden) ^ (key * 0xD1342543DE82EF95ull + kGolden));
}

GRAPHMEM_HD uint64_t draw(uint64_t stream_state, uint64_t number) {
  return mix(stream_state + (number + 1) * kGolden);
}

// Maps a draw to [0, bound) by the high half of a 128-bit product (Lemire 2019, without the rejection step: the bias is
// at most bound / 2^64).
GRAPHMEM_HD uint64_t below(uint64_t value, uint64_t bound) {
#ifdef __CUDA_ARCH__
  return __umul64hi(value, bound);
#elif defined(__SIZEOF_INT128__)
  return static_cast<uint64_t>((static_cast<unsigned __int128>(value) * bound) >> 64);
#else
  const uint64_t value_hi = value >> 32, value_lo = value & 0xFFFFFFFFull;
  const uint64_t bound_hi = bound >> 32, bound_lo = bound & 0xFFFFFFFFull;
  const uint64_t low = value_lo * bound_lo;
  const uint64_t mid = value_hi * bound_lo + (low >> 32);
  const uint64_t cross = value_lo * bound_hi + (mid & 0xFFFFFFFFull);
  return value_hi * bound_hi + (mid >> 32) + (cross >> 32);
#endif
}

}  // namespace graphmem
