// The gradient of what is mixed of pairs' keys; see cpu/ncache_pool.cpp.
#pragma once

#include "cpu/block_sums.h"
#include "cpu/joint.h"

namespace graphmem {

constexpr int64_t kJointPairs = 16;  // of a task

// Adds the gradients of pairs' cells, [pairs, width, 2 columns], into their rows: each row those of its pairs, in order.
template <class P, class T>
void add_cells(const P& p, const Room<T>& dlanes, T* dnow) {
  Room<int64_t> begin(p.rows + 1), list(2 * p.pairs);
  const auto row_of = [&](int64_t n) { return n % 2 == 0 ? p.first[n / 2] : p.second[n / 2]; };
  for (int64_t n = 0; n < 2 * p.pairs; ++n) ++begin[row_of(n) + 1];
  for (int64_t i = 0; i < p.rows; ++i) begin[i + 1] += begin[i];
  Room<int64_t> next(begin.begin(), begin.end() - 1);
  for (int64_t n = 0; n < 2 * p.pairs; ++n) list[next[row_of(n)]++] = n;
  parallel_chunks(p.rows, 128, [&](int64_t from, int64_t to) {
    Room<T> sum(p.width * p.columns());
    for (int64_t i = from; i < to; ++i) {
      std::fill(sum.begin(), sum.end(), T(0));
      for (int64_t n = begin[i]; n < begin[i + 1]; ++n) {
        const T* lanes = dlanes.data() + list[n] / 2 * p.width * p.room() + list[n] % 2 * p.columns();
        for (int64_t f = 0; f < p.width; ++f)
          axpy(sum.data() + f * p.columns(), T(1), lanes + f * p.room(), p.columns());
      }
      for (int64_t c = 0; c < p.columns(); ++c) {
        for (int64_t f = 0; f < p.width; ++f) dnow[(i * p.columns() + c) * p.width + f] = sum[f * p.columns() + c];
      }
    }
  });
}

template <class T>
struct PoolGradients {
  T *now, *position, *query, *constant;  // all of them written
};

// From the gradient of the mixes, mix h of pair n at n * pair + h * mix.
template <class Time, class T>
void differentiate(const Pool<Time, T>& p, const T* slopes, int64_t pair, int64_t mix, const PoolGradients<T>& out) {
  const int64_t of_query = p.masks() * p.depth, of_constant = of_query + p.heads * p.features();
  BlockSums<T> sums((p.pairs + kJointPairs - 1) / kJointPairs, of_constant + p.heads);
  Room<T> dlanes(p.pairs * p.room() * p.width);
  const auto scores = position_scores(p);
  parallel_chunks(sums.blocks(), 1, [&](int64_t from, int64_t to) {
    Pair work(p);
    for (int64_t n = from * kJointPairs; n < std::min(p.pairs, to * kJointPairs); ++n) {
      T* sum = sums.of(n / kJointPairs);
      work.join(n);
      work.differentiate(scores.data(), slopes + n * pair, mix, dlanes.data() + n * p.room() * p.width, sum,
                         sum + of_query, sum + of_constant);
    }
  });
  add_cells(p, dlanes, out.now);
  sums.total(0, of_query, out.position);
  sums.total(of_query, p.heads * p.features(), out.query);
  sums.total(of_constant, p.heads, out.constant);
}

}  // namespace graphmem
