// Products of matrices that need not wait for each other, in one parallel region; see cpu/gemm.h. A task computes whole
// rows of a result, so the bits do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/gemm.h"
#include "cpu/parallel.h"
#include "cpu/room.h"

namespace graphmem {

// A matrix whose element (i, j) lies at data[i * row + j * col].
template <class T>
struct Matrix {
  const T* data;
  int64_t row, col;

  Matrix t() const { return {data, col, row}; }
  Matrix from(int64_t i, int64_t j) const { return {data + i * row + j * col, row, col}; }
};

// Rows of `n` numbers, one behind the other.
template <class T>
Matrix<T> rows_of(const T* data, int64_t n) {
  return {data, n, 1};
}

// The right-hand matrix [k, n], packed.
template <class T>
Blank<T> packed(const Matrix<T>& b, int64_t k, int64_t n) {
  Blank<T> out(packed_size<T>(k, n));
  pack_panels(b.data, b.row, b.col, k, n, 0, num_panels<T>(n), out.data());
  return out;
}

template <class T>
class Products {
 public:
  // c [m, n] (contiguous) = a [m, k] b [k, n], once `run` is called.
  void add(const Matrix<T>& a, const Matrix<T>& b, int64_t m, int64_t k, int64_t n, T* c) { add(a, b, m, k, n, c, n); }

  // With the rows of c `c_row` apart.
  void add(const Matrix<T>& a, const Matrix<T>& b, int64_t m, int64_t k, int64_t n, T* c, int64_t c_row) {
    jobs_.push_back({a, packed(b, k, n), m, k, n, c, c_row});
    for (int64_t row = 0; row < m; row += kRows) tasks_.push_back({jobs_.size() - 1, row});
  }

  void run() const {
    int64_t work = 0;
    for (const Job& job : jobs_) work += job.m * job.k * job.n / 32;
    parallel_chunks(static_cast<int64_t>(tasks_.size()), 1, work, [&](int64_t first, int64_t last) {
      for (int64_t task = first; task < last; ++task) {
        const auto& [number, row] = tasks_[task];
        const Job& job = jobs_[number];
        const Matrix<T> a = job.a.from(row, 0);
        multiply_panels<T>(a.data, a.row, a.col, packed_panels<T>(job.b.data(), job.k), nullptr,
                           std::min(kRows, job.m - row), job.k, job.n, job.c + row * job.c_row, job.c_row);
      }
    });
  }

 private:
  static constexpr int64_t kRows = 24;  // a multiple of every tile's height
  struct Job {
    Matrix<T> a;
    Blank<T> b;
    int64_t m, k, n;
    T* c;
    int64_t c_row;
  };
  struct Task {
    size_t job;
    int64_t row;
  };

  std::vector<Job> jobs_;
  std::vector<Task> tasks_;
};

}  // namespace graphmem
