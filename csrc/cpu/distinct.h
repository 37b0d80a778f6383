// Distinct ids of a list, numbered in the order in which they first appear: one pass over an open-addressing table of at
// most half load.
#pragma once

#include <bit>
#include <cstdint>

#include "common/random.h"
#include "cpu/room.h"

namespace graphmem {

// Each entry's number to `number`, the ids to `found`; returns how many there are. Negative ids are nobody: -1.
inline int64_t number_distinct(const int64_t* list, int64_t size, int64_t* found, int64_t* number) {
  const uint64_t last = std::bit_ceil(2 * static_cast<uint64_t>(size) + 1) - 1;
  Room<int64_t> table(last + 1, -1);  // numbers of the ids
  int64_t known = 0;
  for (int64_t n = 0; n < size; ++n) {
    number[n] = -1;
    if (list[n] < 0) continue;
    uint64_t at = mix(static_cast<uint64_t>(list[n])) & last;
    while (table[at] >= 0 && found[table[at]] != list[n]) at = (at + 1) & last;
    if (table[at] < 0) {
      found[known] = list[n];
      table[at] = known++;
    }
    number[n] = table[at];
  }
  return known;
}

}  // namespace graphmem
