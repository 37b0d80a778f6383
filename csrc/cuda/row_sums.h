// Sums over all rows of a matrix in a fixed order, without atomics: 64 rows at a time, again and again, so that the bits
// depend on the number of rows alone.
#pragma once

#include "common/dispatch.h"
#include "cuda/scratch.h"

namespace graphmem {

constexpr int64_t kSumRows = 64;

// out [parts, columns]: of the columns from `from` on, a thread a part and column.
template <class T>
__global__ void add_rows(const T* rows, int64_t count, int64_t width, int64_t from, int64_t columns, int64_t parts,
                         T* out) {
  const int64_t n = global_thread(), part = n / columns;
  if (part >= parts) return;
  const int64_t first = part * kSumRows, last = count < first + kSumRows ? count : first + kSumRows;
  T sum = 0;
  for (int64_t r = first; r < last; ++r) sum += rows[r * width + from + n % columns];
  out[n] = sum;
}

template <class T>
class RowSums {
 public:
  // `rows` [count, width], of T.
  RowSums(const char* op, const Device& device, Tensor rows, int64_t count, int64_t width)
      : op_(op), device_(device), rows_(rows), count_(count), width_(width) {
    while (count_ > kSumRows) {
      const int64_t parts = blocks_for(count_, kSumRows);
      Tensor added = unset<T>(rows_, parts, width);
      add(0, width, parts, static_cast<T*>(added.mutable_data_ptr()));
      rows_ = added;
      count_ = parts;
    }
  }

  // Columns [from, from + columns) of the total.
  void total(int64_t from, int64_t columns, Tensor& out) const {
    add(from, columns, 1, static_cast<T*>(out.mutable_data_ptr()));
  }

 private:
  void add(int64_t from, int64_t columns, int64_t parts, T* out) const {
    launch(op_, device_, add_rows<T>, {blocks_for(parts * columns, kThreads)}, kThreads, 0,
           static_cast<const T*>(rows_.const_data_ptr()), count_, width_, from, columns, parts, out);
  }

  const char* op_;
  const Device& device_;
  Tensor rows_;
  int64_t count_, width_;
};

}  // namespace graphmem
