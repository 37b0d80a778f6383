// Stands in for csrc/cuda/algorithm.h: the same functions by the standard library.
#pragma once

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

#include "common/dispatch.h"
#include "cuda/runtime.h"

namespace graphmem {

template <class Key>
void sort_by_key(const char*, const Device&, const Tensor&, const Key* keys, Key* keys_out, const int64_t* values,
                 int64_t* values_out, int64_t count, int bits) {
  using Unsigned = std::make_unsigned_t<Key>;
  const Unsigned mask = bits >= static_cast<int>(8 * sizeof(Key)) ? ~Unsigned(0) : (Unsigned(1) << bits) - 1;
  std::vector<int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t one, int64_t other) {
    return (static_cast<Unsigned>(keys[one]) & mask) < (static_cast<Unsigned>(keys[other]) & mask);
  });
  for (int64_t n = 0; n < count; ++n) {
    keys_out[n] = keys[order[n]];
    values_out[n] = values[order[n]];
  }
}

inline void running_sum(const char*, const Device&, const Tensor&, const int64_t* numbers, int64_t* out,
                        int64_t count) {
  std::partial_sum(numbers, numbers + count, out);
}

}  // namespace graphmem
