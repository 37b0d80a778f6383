// ncache_pool: a warp takes a pair and a head, 32 of the pair's cells at a time. A lane looks whether its cell stands for
// a key, and then has that key; features are summed over the lanes, one after the other. Keys are found anew in every
// pass (maximum and sum of the softmax; sums of features), so that a forward call keeps nothing of a pair.
//
// The gradient keeps coefficients, slopes of pre-activations and masks of the keys, and adds in fixed orders: a cell
// belongs to one key, whose thread writes its gradient into a buffer of the pair, and rows add those of their pairs in
// order; positions are added by parts of 16 pairs, queries by pairs, and both by RowSums. No floating-point atomics.
// Results agree with the CPU's to rounding.
#include <tuple>

#include "common/ncache_pool.h"
#include "cuda/algorithm.h"
#include "cuda/group.h"
#include "cuda/row_sums.h"

namespace graphmem {
namespace {

template <class P, class T>
__global__ void position_scores(P p, T* scores) {
  const int64_t n = global_thread();
  if (n < p.heads * p.masks()) scores[n] = p.position_score(n / p.masks(), n % p.masks());
}

// Calls f(cell, key) 32 cells at a time by all lanes, where one of them has a key.
template <class T, class P, class F>
__device__ void each_key(const Lanes<32>& warp, const P& p, int64_t pair, F&& f) {
  for (int64_t from = 0; from < p.room(); from += 32) {
    const int64_t cell = from + warp.rank();
    const JointKey<T> key = cell < p.room() ? p.find(pair, cell) : JointKey<T>{};
    if (warp.ballot(key.mask != 0) != 0) f(cell, key);
  }
}

template <class T>
__device__ T leaky(T raw) {
  return raw < 0 ? raw * T(kLeak) : raw;
}

// Largest score and sum of exp(score - top) over the keys of a pair.
template <class T>
struct SoftmaxOf {
  T top = 0, sum = 0;

  template <class P>
  __device__ SoftmaxOf(const Lanes<32>& warp, const P& p, int64_t pair, int64_t head, const T* scores) {
    bool begun = false;
    each_key<T>(warp, p, pair, [&](int64_t, const JointKey<T>& key) {
      const bool held = key.mask != 0;
      const T score = held ? leaky(p.score(pair, key, head, scores)) : T(0);
      // Lanes without a key repeat one that has.
      const unsigned flags = warp.ballot(held);
      const T some = warp.shuffle(score, __ffs(static_cast<int>(flags)) - 1);
      const T highest = warp.largest(held ? score : some), next = begun && top > highest ? top : highest;
      const T added = warp.sum(held ? std::exp(score - next) : T(0));
      sum = begun ? sum * std::exp(top - next) + added : added;
      top = next;
      begun = true;
    });
  }

  __device__ T alpha(T score) const { return std::exp(score - top) / sum; }
};

// row[f] += sum over the lanes with a key of coefficient * feature f; a lane always has the same places of the row.
template <class T, class P>
__device__ void add_features(const Lanes<32>& warp, const P& p, int64_t pair, const JointKey<T>& key, T coefficient,
                             T* row) {
  for (int64_t f = 0; f < p.features(); ++f) {
    const T sum = warp.sum(key.mask != 0 ? coefficient * p.feature(pair, key, f) : T(0));
    if (f % 32 == warp.rank()) row[f] += sum;
  }
}

template <class T>
__device__ void clear_row(const Lanes<32>& warp, T* row, int64_t width) {
  for (int64_t f = warp.rank(); f < width; f += 32) row[f] = 0;
}

template <class P, class T>
__global__ void __launch_bounds__(kThreads) mix_pairs(P p, const T* scores, T* out) {
  const Lanes<32> warp;
  const int64_t n = global_thread() / 32;
  if (n >= p.mixes() * p.pairs) return;
  const int64_t head = n / p.pairs, pair = n % p.pairs;
  T* row = out + n * p.features();
  clear_row(warp, row, p.features());
  if (p.heads == 0) {
    each_key<T>(warp, p, pair, [&](int64_t, const JointKey<T>& key) { add_features(warp, p, pair, key, T(1), row); });
    return;
  }
  const SoftmaxOf<T> softmax(warp, p, pair, head, scores);
  each_key<T>(warp, p, pair, [&](int64_t, const JointKey<T>& key) {
    const T alpha = key.mask != 0 ? softmax.alpha(leaky(p.score(pair, key, head, scores))) : T(0);
    add_features(warp, p, pair, key, alpha, row);
  });
}

// What the gradient keeps of keys, by the cells that stand for them.
template <class T>
struct Kept {
  int32_t* mask;      // [pairs, 2 columns], 0 where a cell stands for none
  T *alpha, *slope;   // [mixes, pairs, 2 columns], the second: of pre-activations
  T* of_query;        // [pairs, heads features + heads]: gradients of query, then of constant
  const T* grad;      // [mixes, pairs, features]
  const T* scores;    // [heads, masks]
  int64_t query_row;  // heads features + heads

  // Gradient of feature f of the key of a cell.
  template <class P>
  __device__ T of_feature(const P& p, int64_t pair, int64_t cell, int64_t f) const {
    T sum = 0;
    for (int64_t head = 0; head < p.mixes(); ++head) {
      const int64_t n = head * p.pairs + pair;
      sum += alpha[n * p.room() + cell] * grad[n * p.features() + f];
      if (p.heads > 0) sum += slope[n * p.room() + cell] * p.query[head * p.features() + f];
    }
    return sum;
  }
};

// A warp a pair and head.
template <class P, class T>
__global__ void __launch_bounds__(kThreads) differentiate_scores(P p, Kept<T> kept) {
  const Lanes<32> warp;
  const int64_t n = global_thread() / 32;
  if (n >= p.heads * p.pairs) return;
  const int64_t head = n / p.pairs, pair = n % p.pairs;
  T *alpha = kept.alpha + n * p.room(), *slope = kept.slope + n * p.room();
  const T* grad = kept.grad + n * p.features();
  const SoftmaxOf<T> softmax(warp, p, pair, head, kept.scores);
  T mean = 0;
  each_key<T>(warp, p, pair, [&](int64_t cell, const JointKey<T>& key) {
    T dalpha = 0;
    if (key.mask != 0) {
      alpha[cell] = softmax.alpha(leaky(p.score(pair, key, head, kept.scores)));
      for (int64_t f = 0; f < p.features(); ++f) dalpha += grad[f] * p.feature(pair, key, f);
      slope[cell] = dalpha;
    }
    mean += warp.sum(key.mask != 0 ? alpha[cell] * dalpha : T(0));
  });
  T* of_query = kept.of_query + pair * kept.query_row + head * p.features();
  clear_row(warp, of_query, p.features());
  T of_constant = 0;
  each_key<T>(warp, p, pair, [&](int64_t cell, const JointKey<T>& key) {
    T own = 0;
    if (key.mask != 0) {
      const T leak = p.score(pair, key, head, kept.scores) < 0 ? T(kLeak) : T(1);
      own = alpha[cell] * (slope[cell] - mean) * leak;
      slope[cell] = own;
    }
    add_features(warp, p, pair, key, own, of_query);
    of_constant += warp.sum(own);
  });
  if (warp.rank() == 0) kept.of_query[pair * kept.query_row + p.heads * p.features() + head] = of_constant;
}

// A thread a cell of a pair: masks, and without heads the coefficients.
template <class P, class T>
__global__ void keep_masks(P p, Kept<T> kept) {
  const int64_t n = global_thread();
  if (n >= p.pairs * p.room()) return;
  kept.mask[n] = static_cast<int32_t>(p.find(n / p.room(), n % p.room()).mask);
  if (p.heads == 0) kept.alpha[n] = 1;
}

// A thread a cell of a pair, which writes the gradients of all cells that hold its key. dcells [pairs, 2 columns, width],
// zeros before.
template <class P, class T>
__global__ void differentiate_cells(P p, Kept<T> kept, T* dcells) {
  const int64_t n = global_thread(), pair = n / p.room(), cell = n % p.room();
  if (pair >= p.pairs || kept.mask[n] == 0) return;
  const JointKey<T> key = p.find(pair, cell);
  for (int64_t f = 0; f < p.width; ++f) {
    const T of_key = kept.of_feature(p, pair, cell, f);
    p.visit(key, [&](int64_t side, int64_t column) {
      dcells[((2 * pair + side) * p.columns() + column) * p.width + f] = of_key;
    });
  }
}

constexpr int64_t kPartPairs = 16;

// parts [pairs / 16, masks, depth], zeros before. A warp a part, a lane a column of the positions.
template <class P, class T>
__global__ void __launch_bounds__(kThreads) add_positions(P p, Kept<T> kept, T* parts) {
  const Lanes<32> warp;
  const int64_t part = global_thread() / 32, first = part * kPartPairs;
  const int64_t last = p.pairs < first + kPartPairs ? p.pairs : first + kPartPairs;
  T* sums = parts + part * p.masks() * p.depth;
  for (int64_t pair = first; pair < last; ++pair) {
    for (int64_t cell = 0; cell < p.room(); ++cell) {
      const int64_t mask = kept.mask[pair * p.room() + cell];
      if (mask == 0) continue;
      for (int64_t d = warp.rank(); d < p.depth; d += 32)
        sums[mask * p.depth + d] += kept.of_feature(p, pair, cell, p.width + d);
    }
  }
}

template <class P>
__global__ void list_rows(P p, int64_t* rows, int64_t* halves) {
  const int64_t n = global_thread();
  if (n >= 2 * p.pairs) return;
  rows[n] = p.row(n / 2, n % 2);
  halves[n] = n;
}

// A thread an element of `dnow` [rows, size], which adds those of its row's pairs in order.
template <class T>
__global__ void add_cells(const int64_t* rows, const int64_t* halves, int64_t count, int64_t num_rows, int64_t size,
                          const T* dcells, T* dnow) {
  const int64_t n = global_thread(), row = n / size;
  if (row >= num_rows) return;
  T sum = 0;
  for (int64_t k = lower_bound(rows, 0, count, row); k < count && rows[k] == row; ++k)
    sum += dcells[halves[k] * size + n % size];
  dnow[n] = sum;
}

template <class P>
Tensor score_positions(const char* op, const Device& device, const P& p, const Tensor& now) {
  using T = std::remove_cv_t<std::remove_pointer_t<decltype(p.now)>>;
  Tensor scores = unset<T>(now, p.heads, p.masks());
  launch(op, device, position_scores<P, T>, {blocks_for(p.heads * p.masks(), kThreads)}, kThreads, 0, p,
         static_cast<T*>(scores.mutable_data_ptr()));
  return scores;
}

Tensor ncache_pool_cuda(Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now, std::vector<int64_t> sizes,
                        bool reference_hash, int64_t seed, Tensor first, Tensor second, std::optional<Tensor> t,
                        Tensor position, std::optional<Tensor> query, std::optional<Tensor> constant) {
  constexpr const char* kOp = "ncache_pool";
  const Device device(key);
  const JointArguments arguments{key,  eid,   time,   nodes, now,      sizes, reference_hash,
                                 seed, first, second, t,     position, query, constant};
  return arguments.dispatch(kOp, [&](const auto& p) {
    using P = std::remove_cvref_t<decltype(p)>;
    using T = std::remove_cv_t<std::remove_pointer_t<decltype(p.now)>>;
    Tensor out = unset<T>(now, p.mixes(), p.pairs, p.features());
    const Tensor scores = score_positions(kOp, device, p, now);
    launch(kOp, device, mix_pairs<P, T>, {blocks_for(p.mixes() * p.pairs, kThreads / 32)}, kThreads, 0, p,
           static_cast<const T*>(scores.const_data_ptr()), static_cast<T*>(out.mutable_data_ptr()));
    return out;
  });
}

// Gradients of cells, to those of their rows.
template <class P, class T>
void add_pairs_of_rows(const char* op, const Device& device, const P& p, const Tensor& like, const T* dcells,
                       Tensor& dnow) {
  const int64_t count = 2 * p.pairs, rows = dnow.size(0), size = p.columns() * p.width;
  Tensor scratch = unset<int64_t>(like, 4, count);
  int64_t* given = static_cast<int64_t*>(scratch.mutable_data_ptr());
  int64_t *halves = given + count, *sorted = halves + count, *ordered = sorted + count;
  launch(op, device, list_rows<P>, {blocks_for(count, kThreads)}, kThreads, 0, p, given, halves);
  const int bits = std::max<int>(std::bit_width(static_cast<uint64_t>(rows)), 1);
  if (count > 0) sort_by_key(op, device, like, given, sorted, halves, ordered, count, bits);
  launch(op, device, add_cells<T>, {blocks_for(rows * size, kThreads)}, kThreads, 0, sorted, ordered, count, rows, size,
         dcells, static_cast<T*>(dnow.mutable_data_ptr()));
}

using PoolGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class P>
PoolGradients differentiate_pool(const char* op, const Device& device, const P& p, const Tensor& grad,
                                 const Tensor& now, const Tensor& position) {
  using T = std::remove_cv_t<std::remove_pointer_t<decltype(p.now)>>;
  const auto of = [](Tensor& x) { return static_cast<T*>(x.mutable_data_ptr()); };
  const int64_t of_queries = p.heads * p.features(), parts = blocks_for(p.pairs, kPartPairs);
  const Tensor scores = score_positions(op, device, p, now);
  Tensor mask = unset<int32_t>(now, p.pairs, p.room());
  Tensor alpha = unset<T>(now, p.mixes(), p.pairs, p.room());
  Tensor slope = unset<T>(now, p.heads, p.pairs, p.room());
  Tensor of_query = unset<T>(now, p.pairs, of_queries + p.heads);
  Tensor dcells = all_zeros<T>(now, p.pairs, p.room(), p.width);
  Tensor of_position = all_zeros<T>(now, parts, p.masks(), p.depth);
  const Kept<T> kept{static_cast<int32_t*>(mask.mutable_data_ptr()),
                     of(alpha),
                     of(slope),
                     of(of_query),
                     data<T>(op, "grad", grad, {p.mixes(), p.pairs, p.features()}),
                     static_cast<const T*>(scores.const_data_ptr()),
                     of_queries + p.heads};
  const Grid cells{blocks_for(p.pairs * p.room(), kThreads)};
  launch(op, device, keep_masks<P, T>, cells, kThreads, 0, p, kept);
  launch(op, device, differentiate_scores<P, T>, {blocks_for(p.heads * p.pairs, kThreads / 32)}, kThreads, 0, p, kept);
  launch(op, device, differentiate_cells<P, T>, cells, kThreads, 0, p, kept, of(dcells));
  launch(op, device, add_positions<P, T>, {blocks_for(parts, kThreads / 32)}, kThreads, 0, p, kept, of(of_position));
  Tensor dnow = torch::stable::empty_like(now), dposition = torch::stable::empty_like(position);
  Tensor dquery = unset<T>(now, p.heads, p.features());
  Tensor dconstant = unset<T>(now, p.heads);
  add_pairs_of_rows<P, T>(op, device, p, now, of(dcells), dnow);
  RowSums<T>(op, device, of_position, parts, p.masks() * p.depth).total(0, p.masks() * p.depth, dposition);
  const RowSums<T> queries(op, device, of_query, p.pairs, of_queries + p.heads);
  queries.total(0, of_queries, dquery);
  queries.total(of_queries, p.heads, dconstant);
  return {dnow, dposition, dquery, dconstant};
}

PoolGradients ncache_pool_backward_cuda(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now,
                                        std::vector<int64_t> sizes, bool reference_hash, int64_t seed, Tensor first,
                                        Tensor second, std::optional<Tensor> t, Tensor position,
                                        std::optional<Tensor> query, std::optional<Tensor> constant) {
  constexpr const char* kOp = "ncache_pool_backward";
  const Device device(key);
  const JointArguments arguments{key,  eid,   time,   nodes, now,      sizes, reference_hash,
                                 seed, first, second, t,     position, query, constant};
  return arguments.dispatch(kOp,
                            [&](const auto& p) { return differentiate_pool(kOp, device, p, grad, now, position); });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("ncache_pool", TORCH_BOX(&graphmem::ncache_pool_cuda));
  m.impl("ncache_pool_backward", TORCH_BOX(&graphmem::ncache_pool_backward_cuda));
}
