// Sums over rows that threads share: one part for each block of rows, then the parts in order, so that the bits do not
// depend on which thread took which block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/vector.h"

namespace graphmem {

template <class T>
class BlockSums {
 public:
  BlockSums(int64_t blocks, int64_t width) : blocks_(blocks), width_(width), parts_(blocks * width, T(0)) {}

  int64_t blocks() const { return blocks_; }

  // The part of a block, all zeros before its first row.
  T* of(int64_t block) { return parts_.data() + block * width_; }

  // Columns [from, from + count) of the total.
  void total(int64_t from, int64_t count, T* out) const {
    std::fill_n(out, count, T(0));
    for (int64_t block = 0; block < blocks_; ++block) axpy(out, T(1), parts_.data() + block * width_ + from, count);
  }

 private:
  int64_t blocks_, width_;
  std::vector<T> parts_;
};

}  // namespace graphmem
