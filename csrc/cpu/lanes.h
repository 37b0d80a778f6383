// Sums over a row in an order that every instruction set can follow, so all give the same bits: element f in lane
// f mod 16, ascending, lanes are then added pairwise (8, 4, 2, 1 apart).
#pragma once

#include <cstdint>

#include "cpu/vector.h"

namespace graphmem {

constexpr int64_t kLanes = 16;

template <class Acc>
GRAPHMEM_INLINE Acc add_lanes(Acc* lanes) {
  for (int64_t step = kLanes / 2; step > 0; step /= 2) {
    for (int64_t l = 0; l < step; ++l) lanes[l] += lanes[l + step];
  }
  return lanes[0];
}

// Sum of value(f) over f in [0, n).
template <class Acc, class Value>
GRAPHMEM_INLINE Acc lane_sum(int64_t n, Value&& value) {
  Acc lanes[kLanes] = {};
  int64_t f = 0;
  for (; f + kLanes <= n; f += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += value(f + l);
  }
  for (int64_t l = 0; f + l < n; ++l) lanes[l] += value(f + l);
  return add_lanes(lanes);
}

}  // namespace graphmem
