// Dictionaries of neighbours, for host and device; what they hold is told in graphmem/nn/neighbor_cache.py.
//
// A row of `columns` cells belongs to a node: column 0 is its own entry, hop h from 1 on has the columns
// [first[h], first[h + 1]). A key has one place in a hop, the same in every row.
#pragma once

#include <vector>

#include "common/dispatch.h"
#include "common/macros.h"

namespace graphmem {

// Of a pair's two nodes there are 2 (hops + 1) dictionaries; sets of them are masks of 16 bits.
constexpr int64_t kMaxHops = 7;

// MurmurHash3's finaliser (Appleby, public domain).
GRAPHMEM_HD uint32_t mix32(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
  x = (x ^ (x >> 13)) * 0xC2B2AE35u;
  return x ^ (x >> 16);
}

GRAPHMEM_HD uint32_t high_half(int64_t x) { return static_cast<uint32_t>(static_cast<uint64_t>(x) >> 32); }

struct Dictionaries {
  int64_t hops = 0;
  int64_t first[kMaxHops + 2] = {0, 1};
  bool reference = false;  // the released code's hash
  uint64_t salt = 0;

  GRAPHMEM_HD int64_t columns() const { return first[hops + 1]; }
  GRAPHMEM_HD int64_t kinds() const { return hops + 1; }

  GRAPHMEM_HD uint64_t hash(int64_t key) const {
    if (!reference) return mix32(static_cast<uint32_t>(key) ^ high_half(key) ^ static_cast<uint32_t>(salt));
    const uint64_t n = static_cast<uint64_t>(key) + 1;
    return n * salt + n * n * (salt + 1);
  }

  // The column of a key with this hash.
  GRAPHMEM_HD int64_t place(uint64_t hash, int64_t hop) const {
    const uint64_t size = static_cast<uint64_t>(first[hop + 1] - first[hop]);
    if ((size & (size - 1)) == 0) return first[hop] + static_cast<int64_t>(hash & (size - 1));
    if (!reference) return first[hop] + static_cast<int64_t>(static_cast<uint32_t>(hash) % static_cast<uint32_t>(size));
    const int64_t rest = static_cast<int64_t>(hash) % static_cast<int64_t>(size);
    return first[hop] + (rest < 0 ? rest + static_cast<int64_t>(size) : rest);
  }

  // Those of some keys: what the size decides is asked once.
  void places(const uint64_t* hash, int64_t count, int64_t hop, int32_t* column) const {
    const uint64_t size = static_cast<uint64_t>(first[hop + 1] - first[hop]);
    const int32_t low = static_cast<int32_t>(first[hop]), mask = static_cast<int32_t>(size - 1);
    if ((size & (size - 1)) == 0) {
      for (int64_t n = 0; n < count; ++n) column[n] = low + (static_cast<int32_t>(hash[n]) & mask);
    } else {
      for (int64_t n = 0; n < count; ++n) column[n] = static_cast<int32_t>(place(hash[n], hop));
    }
  }
};

inline Dictionaries make_dictionaries(const char* op, const std::vector<int64_t>& sizes, bool reference, int64_t seed) {
  Dictionaries d;
  expect_number(op, "sizes with hops", static_cast<int64_t>(sizes.size()), 1, kMaxHops);
  for (const int64_t size : sizes) {
    expect_number(op, "sizes", size, 1, int64_t{1} << 20);
    ++d.hops;
    d.first[d.hops + 1] = d.first[d.hops] + size;
  }
  expect_number(op, "seed", seed);
  d.reference = reference;
  d.salt = reference ? static_cast<uint64_t>(seed % 100) : mix32(static_cast<uint32_t>(seed));
  return d;
}

// Whether an offer replaces what was there: a function of the seed, the event, and the number of the offer in it.
struct Coin {
  uint32_t salt;
  double replace_prob;

  GRAPHMEM_HD uint32_t event(int64_t number) const {
    return mix32(mix32(static_cast<uint32_t>(number) + 0x9E3779B9u) ^ mix32(high_half(number)) ^ salt);
  }
  GRAPHMEM_HD bool replaces(uint32_t event, int64_t offer) const {
    const uint32_t drawn = mix32(event + 0x9E3779B9u * static_cast<uint32_t>(offer + 1));
    return static_cast<double>(drawn) * 0x1p-32 < replace_prob;
  }
};

inline void expect_probability(const char* op, const char* name, double value) {
  STD_TORCH_CHECK(0 <= value && value <= 1, op, ": expected ", name, " from 0 to 1, got ", value);
}

inline Coin make_coin(int64_t seed, double replace_prob) {
  return {mix32(static_cast<uint32_t>(seed + 1)), replace_prob};
}

// What all operators are given of the cells.
template <class Key>
struct Cells {
  Key* key;  // -1: empty
  int64_t* eid;
  int64_t nodes, columns;

  // The node itself is the key of its own entry, also before its first event.
  GRAPHMEM_HD int64_t key_at(int64_t node, int64_t column) const {
    return column == 0 ? node : static_cast<int64_t>(key[node * columns + column]);
  }
};

template <class Key>
Cells<Key> make_cells(const char* op, const Tensor& key, const Tensor& eid, int64_t wanted = kAny) {
  data<Key>(op, "key", key, {kAny, wanted});
  const int64_t nodes = key.size(0), columns = key.size(1);
  data<int64_t>(op, "eid", eid, {nodes, columns});
  return {static_cast<Key*>(key.mutable_data_ptr()), static_cast<int64_t*>(eid.mutable_data_ptr()), nodes, columns};
}

}  // namespace graphmem
