// temporal_attention: softmax attention of n nodes over k events each, whose features are never projected or stored:
//
//   f_ij = [x[nbr_ij], cos(w dt_ij + b), messages[eid_ij]]
//   alpha_ijh = softmax over j of <query_ih, f_ij>, dropped out with probability p
//   out_hi = [sum_j alpha_ijh f_ij, sum_j alpha_ijh]
//
// query [n, H F] are the nodes' queries times the key weights, and the value weights follow in a product after: the two
// products that are left are those of n rows, not of n k. Events with nbr < 0 are absent.
//
// One thread computes a node. The gradient writes those of the gathered rows of x into a buffer, then threads own slices
// of features and add the rows in order; those of w and b are added over blocks of 16 nodes, in order. So the bits do not
// depend on the number of threads.
#include <torch/csrc/stable/library.h>

#include <limits>
#include <tuple>

#include "common/dropout.h"
#include "cpu/block_sums.h"
#include "cpu/elementary.h"
#include "cpu/fresh.h"
#include "cpu/parallel.h"
#include "cpu/time_code.h"

namespace graphmem {
namespace {

constexpr int64_t kNodes = 16;  // of a task

// Mask and scale of the coefficients: those of the operator `dropout` on [n, H, k].
struct Mask {
  DropRate rate;
  uint64_t seed;

  double factor(int64_t position) const {
    if (rate.threshold == 0) return 1;
    const BlockKey key = block_key(seed, static_cast<uint64_t>(position / kDropoutBlock));
    const bool kept = element_draw(key, static_cast<uint32_t>(position % kDropoutBlock)) >= rate.threshold;
    return kept ? rate.scale : 0;
  }
};

template <class T>
struct Problem {
  const T* query;
  const T* x;
  const int64_t *nbr, *eid;
  const double* dt;
  const T *w, *b, *messages;
  int64_t nodes, heads, k, channels, times, raw;
  Mask mask;

  int64_t features() const { return channels + times + raw; }
  // Where the row of a head and a node begins in the output.
  int64_t out_row(int64_t h, int64_t i) const { return (h * nodes + i) * (features() + 1); }

  // The features of event j of node i.
  void gather(int64_t i, int64_t j, T* row) const {
    const int64_t at = i * k + j;
    row = std::copy_n(x + nbr[at] * channels, channels, row);
    time_code(dt[at], w, b, times, row);
    if (raw > 0) std::copy_n(messages + eid[at] * raw, raw, row + times);
  }
};

// Softmax of `score` over `count` entries, in place.
template <class T>
GRAPHMEM_INLINE void softmax(T* score, int64_t count) {
  T top = -std::numeric_limits<T>::infinity();
  for (int64_t j = 0; j < count; ++j) top = score[j] > top ? score[j] : top;
  T sum = 0;
  for (int64_t j = 0; j < count; ++j) {
    score[j] = exp_of(score[j] - top);
    sum += score[j];
  }
  for (int64_t j = 0; j < count; ++j) score[j] /= sum;
}

#define GRAPHMEM_ATTENTION_CLONES(T)                                                           \
  GRAPHMEM_CLONES void softmax_of(T* score, int64_t count) { softmax(score, count); }          \
  GRAPHMEM_CLONES void mix(T* __restrict__ out, T u, const T* a, T v, const T* b, int64_t n) { \
    for (int64_t f = 0; f < n; ++f) out[f] += u * a[f] + v * b[f];                             \
  }
GRAPHMEM_ATTENTION_CLONES(float)
GRAPHMEM_ATTENTION_CLONES(double)
#undef GRAPHMEM_ATTENTION_CLONES

// Scratch of one task: features and number of the events that are there.
template <class T>
struct Events {
  std::vector<T> rows;
  std::vector<int64_t> slot;

  explicit Events(const Problem<T>& p) : rows(p.k * p.features()) {}

  void gather(const Problem<T>& p, int64_t i) {
    slot.clear();
    for (int64_t j = 0; j < p.k; ++j) {
      if (p.nbr[i * p.k + j] < 0) continue;
      p.gather(i, j, rows.data() + slot.size() * p.features());
      slot.push_back(j);
    }
  }
  int64_t count() const { return static_cast<int64_t>(slot.size()); }
};

// One node; `alpha` [H, k] gets the coefficients before dropout, zeros for absent events.
template <class T>
void attend(const Problem<T>& p, int64_t i, Events<T>& events, std::vector<T>& score, T* alpha, T* out) {
  const int64_t width = p.features();
  events.gather(p, i);
  for (int64_t h = 0; h < p.heads; ++h) {
    const T* query = p.query + (i * p.heads + h) * width;
    T* row = std::fill_n(out + p.out_row(h, i), width, T(0)) - width;
    for (int64_t e = 0; e < events.count(); ++e) score[e] = dot(query, events.rows.data() + e * width, width);
    softmax_of(score.data(), events.count());
    std::fill_n(alpha + h * p.k, p.k, T(0));
    T total = 0;
    for (int64_t e = 0; e < events.count(); ++e) {
      const int64_t j = events.slot[e];
      alpha[h * p.k + j] = score[e];
      const T kept = score[e] * static_cast<T>(p.mask.factor((i * p.heads + h) * p.k + j));
      axpy(row, kept, events.rows.data() + e * width, width);
      total += kept;
    }
    row[width] = total;
  }
}

// Its gradient: `dquery` [H, F], `dx` [k, channels] for the events' rows, and what is added to dw and db.
template <class T>
void attend_gradient(const Problem<T>& p, int64_t i, Events<T>& events, std::vector<T>& scratch, const T* alpha,
                     const T* grad, T* dquery, T* dx, T* dw, T* db) {
  const int64_t width = p.features();
  events.gather(p, i);
  std::fill_n(dquery, p.heads * width, T(0));
  // Gradient of an event's features; those of its message are not wanted.
  const int64_t wanted = p.channels + p.times;
  T* dfeatures = scratch.data();
  T* dscore = dfeatures + p.k * wanted;
  std::fill_n(dfeatures, events.count() * wanted, T(0));
  for (int64_t h = 0; h < p.heads; ++h) {
    const T *query = p.query + (i * p.heads + h) * width, *gh = grad + p.out_row(h, i);
    const T dtotal = gh[width];
    T mean = 0;
    for (int64_t e = 0; e < events.count(); ++e) {
      const int64_t j = events.slot[e];
      const T kept = static_cast<T>(p.mask.factor((i * p.heads + h) * p.k + j));
      dscore[e] = (dot(gh, events.rows.data() + e * width, width) + dtotal) * kept;
      mean += alpha[h * p.k + j] * dscore[e];
    }
    for (int64_t e = 0; e < events.count(); ++e) {
      const int64_t j = events.slot[e];
      const T a = alpha[h * p.k + j], ds = a * (dscore[e] - mean);
      axpy(dquery + h * width, ds, events.rows.data() + e * width, width);
      const T kept = a * static_cast<T>(p.mask.factor((i * p.heads + h) * p.k + j));
      mix(dfeatures + e * wanted, kept, gh, ds, query, wanted);
    }
  }
  std::fill_n(dx, p.k * p.channels, T(0));
  for (int64_t e = 0; e < events.count(); ++e) {
    const int64_t j = events.slot[e];
    std::copy_n(dfeatures + e * wanted, p.channels, dx + j * p.channels);
    add_time_slopes(p.dt[i * p.k + j], p.w, p.b, dfeatures + e * wanted + p.channels, p.times, dw, db);
  }
}

struct Arguments {
  Tensor query, x, nbr, dt, time_weight, time_bias;
  std::optional<Tensor> messages, eid;
  double p;
  int64_t seed;
};

template <class T>
Problem<T> problem(const char* op, const Arguments& a) {
  Problem<T> p{};
  expect_shape(op, "query", a.query, {kAny, kAny});
  expect_shape(op, "x", a.x, {kAny, kAny});
  expect_shape(op, "nbr", a.nbr, {kAny, kAny});
  expect_shape(op, "time_weight", a.time_weight, {kAny});
  p.nodes = a.nbr.size(0), p.k = a.nbr.size(1), p.channels = a.x.size(1), p.times = a.time_weight.size(0);
  STD_TORCH_CHECK(a.messages.has_value() == a.eid.has_value(), op, ": expected both or neither of messages and eid");
  if (a.messages.has_value()) {
    expect_shape(op, "messages", *a.messages, {kAny, kAny});
    p.raw = a.messages->size(1);
  }
  const int64_t width = p.features(), columns = a.query.size(1);
  STD_TORCH_CHECK(width > 0 && columns % width == 0 && columns > 0, op, ": expected query of shape [*, a multiple of ",
                  width, "], got ", shape_text(a.query.sizes()));
  p.heads = columns / width;
  p.query = data<T>(op, "query", a.query, {p.nodes, columns});
  p.x = data<T>(op, "x", a.x, {kAny, p.channels});
  expect_rows(op, "x", a.x, p.nodes > 0);
  p.nbr = data<int64_t>(op, "nbr", a.nbr, {p.nodes, p.k});
  p.dt = data<double>(op, "dt", a.dt, {p.nodes, p.k});
  p.w = data<T>(op, "time_weight", a.time_weight, {p.times});
  p.b = data<T>(op, "time_bias", a.time_bias, {p.times});
  p.messages = data<T>(op, "messages", a.messages, {kAny, p.raw});
  expect_rows(op, "messages", a.messages, p.nodes * p.k > 0);
  p.eid = data<int64_t>(op, "eid", a.eid, {p.nodes, p.k});
  p.mask = {drop_rate(op, a.p), static_cast<uint64_t>(a.seed)};
  return p;
}

std::tuple<Tensor, Tensor> temporal_attention_cpu(Tensor query, Tensor x, Tensor nbr, Tensor dt, Tensor time_weight,
                                                  Tensor time_bias, std::optional<Tensor> messages,
                                                  std::optional<Tensor> eid, double p, int64_t seed) {
  constexpr const char* kOp = "temporal_attention";
  return dispatch_full(kOp, "query", query, [&](auto type) {
    using T = typename decltype(type)::type;
    const Problem<T> a = problem<T>(kOp, {query, x, nbr, dt, time_weight, time_bias, messages, eid, p, seed});
    Tensor out = fresh(query, {a.heads, a.nodes, a.features() + 1}), alpha = fresh(query, {a.nodes, a.heads, a.k});
    T *rows = static_cast<T*>(out.mutable_data_ptr()), *coefficients = static_cast<T*>(alpha.mutable_data_ptr());
    parallel_chunks(a.nodes, kNodes, [&](int64_t begin, int64_t end) {
      Events<T> events(a);
      std::vector<T> score(a.k);
      for (int64_t i = begin; i < end; ++i) attend(a, i, events, score, coefficients + i * a.heads * a.k, rows);
    });
    return std::tuple(out, alpha);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> temporal_attention_backward_cpu(
    Tensor grad, Tensor alpha, Tensor query, Tensor x, Tensor nbr, Tensor dt, Tensor time_weight, Tensor time_bias,
    std::optional<Tensor> messages, std::optional<Tensor> eid, double p, int64_t seed) {
  constexpr const char* kOp = "temporal_attention_backward";
  return dispatch_full(kOp, "query", query, [&](auto type) {
    using T = typename decltype(type)::type;
    const Problem<T> a = problem<T>(kOp, {query, x, nbr, dt, time_weight, time_bias, messages, eid, p, seed});
    const T* slopes = data<T>(kOp, "grad", grad, {a.heads, a.nodes, a.features() + 1});
    const T* coefficients = data<T>(kOp, "alpha", alpha, {a.nodes, a.heads, a.k});
    Tensor dquery = fresh_like(query), dx = fresh_zeros(x, x.sizes(), x.scalar_type());
    Tensor dweight = torch::stable::new_empty(time_weight, {a.times});
    Tensor dbias = torch::stable::new_empty(time_bias, {a.times});
    Tensor gathered = fresh(x, {a.nodes * a.k, a.channels});
    T *of_query = static_cast<T*>(dquery.mutable_data_ptr()), *of_rows = static_cast<T*>(gathered.mutable_data_ptr());
    BlockSums<T> sums((a.nodes + kNodes - 1) / kNodes, 2 * a.times);
    parallel_chunks(sums.blocks(), 1, [&](int64_t first, int64_t last) {
      Events<T> events(a);
      std::vector<T> scratch(a.k * (a.channels + a.times + 1));
      for (int64_t i = first * kNodes; i < std::min(a.nodes, last * kNodes); ++i) {
        T* sum = sums.of(i / kNodes);
        attend_gradient(a, i, events, scratch, coefficients + i * a.heads * a.k, slopes, of_query + i * query.size(1),
                        of_rows + i * a.k * a.channels, sum, sum + a.times);
      }
    });
    sums.total(0, a.times, static_cast<T*>(dweight.mutable_data_ptr()));
    sums.total(a.times, a.times, static_cast<T*>(dbias.mutable_data_ptr()));
    T* of_x = static_cast<T*>(dx.mutable_data_ptr());
    parallel_slices(a.channels, a.nodes * a.k * a.channels / 4, [&](int64_t first, int64_t last) {
      for (int64_t i = 0; i < a.nodes; ++i) {
        for (int64_t j = i * a.k; j < (i + 1) * a.k; ++j) {
          if (a.nbr[j] < 0) continue;
          axpy(of_x + a.nbr[j] * a.channels + first, T(1), of_rows + j * a.channels + first, last - first);
        }
      }
    });
    return std::tuple(dquery, dx, dweight, dbias);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("temporal_attention", TORCH_BOX(&graphmem::temporal_attention_cpu));
  m.impl("temporal_attention_backward", TORCH_BOX(&graphmem::temporal_attention_backward_cpu));
}
