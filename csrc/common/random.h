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

GRAPHMEM_HD uint64_t draw(uint64_t stream_state, uint64_t number) { return mix(stream_state + (number + 1) * kGolden); }

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

// Dropout: one 32-bit draw an element, in blocks of 2^16 elements that each have two 32-bit keys. MurmurHash3's finaliser
// (Appleby, public domain) with the second key between its two multiplications: every step is a 32-bit lane operation.
constexpr int64_t kDropoutBlock = 65536;

struct BlockKey {
  uint32_t first, second;
};

GRAPHMEM_HD BlockKey block_key(uint64_t seed, uint64_t block) {
  const uint64_t state = stream(seed, block);
  return {static_cast<uint32_t>(state), static_cast<uint32_t>(state >> 32)};
}

GRAPHMEM_HD uint32_t element_draw(BlockKey key, uint32_t element) {
  uint32_t h = element * 0x9E3779B9u + key.first;
  h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
  h ^= key.second;
  h = (h ^ (h >> 13)) * 0xC2B2AE35u;
  return h ^ (h >> 16);
}

}  // namespace graphmem
