// The gradient of what cells are worth; see cpu/ncache_refresh.cpp.
#pragma once

#include "cpu/block_sums.h"
#include "cpu/refresh.h"

namespace graphmem {

// rows[place] += dx, in the order of the cells; then the gradient of the weights' columns.
template <class T>
void differentiate_part(Part<T>& part, const Blank<T>& dx, int64_t width, int64_t row, T* dweight) {
  const int64_t depth = part.depth;
  part.rows.assign(part.count * width, T(0));
  for (size_t n = 0; n < part.place.size(); ++n) {
    for (int64_t f = 0; f < width; ++f) part.rows[part.place[n] * width + f] += dx[n * width + f];
  }
  constexpr int64_t kIds = 256;
  BlockSums<T> sums((part.count + kIds - 1) / kIds, width * depth);
  parallel_chunks(sums.blocks(), 1, part.count * width * depth / 4, [&](int64_t first, int64_t last) {
    for (int64_t n = first * kIds; n < std::min(part.count, last * kIds); ++n) {
      T* sum = sums.of(n / kIds);
      const T* from = part.table + part.found[n] * depth;
      for (int64_t f = 0; f < width; ++f) axpy(sum + f * depth, part.rows[n * width + f], from, depth);
    }
  });
  for (int64_t f = 0; f < width; ++f) sums.total(f * depth, depth, dweight + f * row + part.column);
}

// From the gradient [rows, columns, F] of what the cells are worth: `dweight` [F, row], of [state, message, code], and in
// `total` those of the other parameters as Gates lays them. Each block of cells is computed anew.
template <class Value, class T>
void differentiate(Refresh<Value, T>& r, const T* slopes, int64_t row, T* dweight, T* total) {
  const Gates<T>& p = r.gates;
  const int64_t width = p.width;
  BlockSums<T> sums(r.blocks(), p.sums());
  Blank<T> dx(r.cells() * width);
  parallel_chunks(r.blocks(), 4, r.cells() * width * 8, [&](int64_t first, int64_t last) {
    Lanes<T> a(width, p.times, true);
    for (int64_t block = first; block < last; ++block) {
      r.load(block, a);
      forward_block(p, a);
      const int64_t begin = block * kCells, end = std::min(r.cells(), begin + kCells);
      if (end - begin < kCells) std::fill(a.out.begin(), a.out.end(), T(0));
      for (int64_t n = begin; n < end; ++n) {
        for (int64_t f = 0; f < width; ++f) a.out[f * kCells + n - begin] = slopes[r.place[n] * width + f];
      }
      backward_block(p, a, sums.of(block));
      for (int64_t n = begin; n < end; ++n) {
        for (int64_t f = 0; f < width; ++f) dx[n * width + f] = a.dx[f * kCells + n - begin];
      }
    }
  });
  sums.total(0, p.sums(), total);
  differentiate_part(r.state, dx, width, row, dweight);
  if (r.message.table != nullptr) differentiate_part(r.message, dx, width, row, dweight);
  for (int64_t f = 0; f < width; ++f) std::copy_n(total + f * p.times, p.times, dweight + (f + 1) * row - p.times);
}

}  // namespace graphmem
