// ncache_pool: what the dictionaries of two nodes hold together, each key once, mixed into one row a pair:
//
//   h_a = [sum of what the cells that hold a are worth, position[which dictionaries], ages of a for both nodes]
//   out_h = sum_a alpha_ha h_a, alpha_h = softmax_a LeakyReLU(<query_h, h_a> + constant_h), or 1 without queries
//
// A key has one place in each dictionary, so that a cell asks 2 (H + 1) cells whether they hold its key, and the first of
// these stands for it: nothing is sorted, and no table is built. Keys are then lanes: all that follows runs along them.
// Of positions only sums of coefficients by mask are kept, and the rows of the table are mixed once a mask.
//
// One thread computes a pair. The gradient writes that of each cell into a buffer of the pair; rows then add their pairs'
// in order, and what belongs to all pairs is added over blocks of 16, in order.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/block_sums.h"
#include "cpu/fresh.h"
#include "cpu/joint.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

constexpr int64_t kPairs = 16;  // of a task

Tensor ncache_pool_cpu(Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now, std::vector<int64_t> sizes,
                       bool reference_hash, int64_t seed, Tensor first, Tensor second, std::optional<Tensor> t,
                       Tensor position, std::optional<Tensor> query, std::optional<Tensor> constant) {
  const JointArguments arguments{key,  eid,   time,   nodes, now,      sizes, reference_hash,
                                 seed, first, second, t,     position, query, constant};
  return arguments.dispatch("ncache_pool", [&]<class Key, class Time, class T>(const JointCells<Key, Time, T>& joint) {
    const auto p = make_pool(joint, nodes.size(0));
    Tensor out = fresh(now, {p.mixes(), p.pairs, p.features()});
    T* rows = static_cast<T*>(out.mutable_data_ptr());
    const auto scores = position_scores(p);
    parallel_chunks(p.pairs, kPairs, [&](int64_t begin, int64_t end) {
      Pair work(p);
      for (int64_t n = begin; n < end; ++n) {
        work.join(n);
        work.mix(scores.data(), rows + n * p.features(), p.pairs * p.features());
      }
    });
    return out;
  });
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Adds the gradients of pairs' cells, [pairs, width, 2 columns], into their rows: each row those of its pairs, in order.
template <class P, class T>
void add_cells(const P& p, const std::vector<T>& dlanes, T* dnow) {
  std::vector<int64_t> begin(p.rows + 1), list(2 * p.pairs);
  const auto row_of = [&](int64_t n) { return n % 2 == 0 ? p.first[n / 2] : p.second[n / 2]; };
  for (int64_t n = 0; n < 2 * p.pairs; ++n) ++begin[row_of(n) + 1];
  for (int64_t i = 0; i < p.rows; ++i) begin[i + 1] += begin[i];
  std::vector<int64_t> next(begin.begin(), begin.end() - 1);
  for (int64_t n = 0; n < 2 * p.pairs; ++n) list[next[row_of(n)]++] = n;
  parallel_chunks(p.rows, 128, [&](int64_t from, int64_t to) {
    std::vector<T> sum(p.width * p.columns());
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

Gradients ncache_pool_backward_cpu(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now,
                                   std::vector<int64_t> sizes, bool reference_hash, int64_t seed, Tensor first,
                                   Tensor second, std::optional<Tensor> t, Tensor position, std::optional<Tensor> query,
                                   std::optional<Tensor> constant) {
  const JointArguments arguments{key,  eid,   time,   nodes, now,      sizes, reference_hash,
                                 seed, first, second, t,     position, query, constant};
  constexpr const char* kOp = "ncache_pool_backward";
  return arguments.dispatch(kOp, [&]<class Key, class Time, class T>(const JointCells<Key, Time, T>& joint) {
    const auto p = make_pool(joint, nodes.size(0));
    const T* slopes = data<T>(kOp, "grad", grad, {p.mixes(), p.pairs, p.features()});
    const int64_t of_query = p.masks() * p.depth, of_constant = of_query + p.heads * p.features();
    BlockSums<T> sums((p.pairs + kPairs - 1) / kPairs, of_constant + p.heads);
    std::vector<T> dlanes(p.pairs * p.room() * p.width);
    const auto scores = position_scores(p);
    parallel_chunks(sums.blocks(), 1, [&](int64_t from, int64_t to) {
      Pair work(p);
      for (int64_t n = from * kPairs; n < std::min(p.pairs, to * kPairs); ++n) {
        T* sum = sums.of(n / kPairs);
        work.join(n);
        work.differentiate(scores.data(), slopes, dlanes.data() + n * p.room() * p.width, sum, sum + of_query,
                           sum + of_constant);
      }
    });
    Tensor dnow = fresh_like(now), dposition = torch::stable::empty_like(position);
    Tensor dquery = torch::stable::new_empty(now, {p.heads, p.features()});
    Tensor dconstant = torch::stable::new_empty(now, {p.heads});
    add_cells(p, dlanes, static_cast<T*>(dnow.mutable_data_ptr()));
    sums.total(0, of_query, static_cast<T*>(dposition.mutable_data_ptr()));
    sums.total(of_query, p.heads * p.features(), static_cast<T*>(dquery.mutable_data_ptr()));
    sums.total(of_constant, p.heads, static_cast<T*>(dconstant.mutable_data_ptr()));
    return Gradients(dnow, dposition, dquery, dconstant);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("ncache_pool", TORCH_BOX(&graphmem::ncache_pool_cpu));
  m.impl("ncache_pool_backward", TORCH_BOX(&graphmem::ncache_pool_backward_cpu));
}
