// The gradient of what is mixed of pairs' keys; see cpu/ncache_pool.cpp.
#pragma once

#include "cpu/block_sums.h"
#include "cpu/joint.h"

namespace graphmem {

constexpr int64_t kJointPairs = 16;  // of a task

// The ends of pairs by row: those of row i are list[begin[i]] to list[begin[i + 1]], 2 n for the first node of pair n and
// 2 n + 1 for its second, ascending.
struct EndsOfRows {
  Room<int64_t> begin, list;

  template <class P>
  explicit EndsOfRows(const P& p) : begin(p.rows + 1), list(2 * p.pairs) {
    for (int64_t n = 0; n < 2 * p.pairs; ++n) ++begin[p.row(n / 2, n % 2) + 1];
    for (int64_t i = 0; i < p.rows; ++i) begin[i + 1] += begin[i];
    Room<int64_t> next(begin.begin(), begin.end() - 1);
    for (int64_t n = 0; n < 2 * p.pairs; ++n) list[next[p.row(n / 2, n % 2)]++] = n;
  }
};

// Adds the gradients of pairs' cells, [pairs, width, 2 columns], into their rows: each row those of its pairs, in order.
template <class P, class T>
void add_cells(const P& p, const Blank<T>& dlanes, T* dnow) {
  const EndsOfRows ends(p);
  parallel_chunks(p.rows, 32, p.pairs * p.room() * p.width / 4, [&](int64_t from, int64_t to) {
    Room<T> sum(p.width * p.columns());
    for (int64_t i = from; i < to; ++i) {
      std::fill(sum.begin(), sum.end(), T(0));
      for (int64_t n = ends.begin[i]; n < ends.begin[i + 1]; ++n) {
        const int64_t end = ends.list[n];
        const T* lanes = dlanes.data() + end / 2 * p.width * p.room() + end % 2 * p.columns();
        for (int64_t f = 0; f < p.width; ++f)
          axpy(sum.data() + f * p.columns(), T(1), lanes + f * p.room(), p.columns());
      }
      for (int64_t c = 0; c < p.columns(); ++c) {
        for (int64_t f = 0; f < p.width; ++f) dnow[(i * p.columns() + c) * p.width + f] = sum[f * p.columns() + c];
      }
    }
  });
}

// The same for sums: all cells with a key have the gradient of their pairs.
template <class P, class T>
void spread_sums(const P& p, const T* slopes, int64_t pair, T* dnow) {
  std::fill_n(dnow, p.rows * p.columns() * p.width, T(0));
  if (p.pairs == 0) return;  // nothing is known of the rows
  const EndsOfRows ends(p);
  parallel_chunks(p.rows, 32, p.rows * p.columns(), [&](int64_t from, int64_t to) {
    Room<T> sum(p.width);
    for (int64_t i = from; i < to; ++i) {
      std::fill(sum.begin(), sum.end(), T(0));
      for (int64_t n = ends.begin[i]; n < ends.begin[i + 1]; ++n)
        axpy(sum.data(), T(1), slopes + ends.list[n] / 2 * pair, p.width);
      const int64_t* key = p.known.key.data() + i * p.columns();
      for (int64_t c = 0; c < p.columns(); ++c) {
        if (key[c] >= 0) std::copy_n(sum.data(), p.width, dnow + (i * p.columns() + c) * p.width);
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
  Blank<T> dlanes(p.heads > 0 ? p.pairs * p.room() * p.width : 0);
  const auto scores = position_scores(p);
  const int64_t effort = p.pairs * p.room() * (5 + p.heads * p.width);
  parallel_chunks(sums.blocks(), 1, effort, [&](int64_t from, int64_t to) {
    Pair work(p);
    for (int64_t n = from * kJointPairs; n < std::min(p.pairs, to * kJointPairs); ++n) {
      T* sum = sums.of(n / kJointPairs);
      work.find(n);
      if (p.heads == 0) {
        work.differentiate_sum(slopes + n * pair, sum);
        continue;
      }
      work.gather();
      work.differentiate(scores.data(), slopes + n * pair, mix, dlanes.data() + n * p.room() * p.width, sum,
                         sum + of_query, sum + of_constant);
    }
  });
  p.heads > 0 ? add_cells(p, dlanes, out.now) : spread_sums(p, slopes, pair, out.now);
  sums.total(0, of_query, out.position);
  sums.total(of_query, p.heads * p.features(), out.query);
  sums.total(of_constant, p.heads, out.constant);
}

}  // namespace graphmem
