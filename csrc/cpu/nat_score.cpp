// nat_score: logits of candidates from the state of NAT, in one call, without gradient. The distinct nodes of all pairs
// are brought up to date, and projected to the hidden layer of the decoder, as sources and as destinations, once each;
// pairs are then joined and mixed as by ncache_pool, 48 at a time, and their mixes projected with them.
//
// A pair's numbers depend on those of no other pair, and products run in the order of cpu/gemm.h: the bits of a score
// depend neither on the batch nor on the number of threads.
#include <torch/csrc/stable/library.h>

#include "cpu/fresh.h"
#include "cpu/joint.h"
#include "cpu/nat.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "nat_score";
constexpr int64_t kPairs = 48;

// Rows of states by a matrix [d, hidden], only those that `asked` names; others' are not written.
template <class T>
Room<T> project(const Room<T>& state, int64_t count, const NatWeights<T>& w, const T* weight,
                const Room<int64_t>& asked) {
  Room<int64_t> rows;
  std::vector<bool> seen(count);
  for (const int64_t row : asked) {
    if (!seen[row]) rows.push_back(row);
    seen[row] = true;
  }
  Room<T> out(count * w.hidden);
  parallel_chunks(static_cast<int64_t>(rows.size()), kPairs, [&](int64_t first, int64_t last) {
    Room<T> x(kPairs * w.d), y(kPairs * w.hidden);
    for (int64_t begin = first; begin < last; begin += kPairs) {
      const int64_t size = std::min(kPairs, last - begin);
      for (int64_t n = 0; n < size; ++n) std::copy_n(state.data() + rows[begin + n] * w.d, w.d, x.data() + n * w.d);
      multiply_panels<T>(x.data(), w.d, 1, padded_panels(weight, w.hidden), nullptr, size, w.d, w.hidden, y.data());
      for (int64_t n = 0; n < size; ++n)
        std::copy_n(y.data() + n * w.hidden, w.hidden, out.data() + rows[begin + n] * w.hidden);
    }
  });
  return out;
}

template <class T>
GRAPHMEM_INLINE void rectify_row(T* x, int64_t n) {
  for (int64_t f = 0; f < n; ++f) x[f] = x[f] < 0 ? T(0) : x[f];
}

GRAPHMEM_CLONES void rectify(float* x, int64_t n) { rectify_row(x, n); }
GRAPHMEM_CLONES void rectify(double* x, int64_t n) { rectify_row(x, n); }

template <class Key, class Time, class Value>
class Scorer {
 public:
  using State = NatState<Key, Time, Value>;
  using T = typename State::T;

  // Pairs of src [b] with dst [b, c].
  Scorer(const State& state, const int64_t* src, const int64_t* dst, const Time* t, int64_t b, int64_t c)
      : s_(state), w_(state.w), pairs_(b * c), first_(pairs_), second_(pairs_), when_(pairs_) {
    Room<int64_t> ids(src, src + b), place(b + pairs_);
    ids.insert(ids.end(), dst, dst + pairs_);
    nodes_.resize(ids.size());
    count_ = number_distinct(ids.data(), static_cast<int64_t>(ids.size()), nodes_.data(), place.data());
    for (int64_t n = 0; n < pairs_; ++n) {
      first_[n] = place[n / c];
      second_[n] = place[b + n];
      when_[n] = t[n / c];
    }
  }

  void run(T* out) {
    const NatRead<T> read = read_nodes(kOp, s_, nodes_.data(), count_);
    const Room<T> source = project(read.state, count_, w_, w_.source, first_);
    const Room<T> target = project(read.state, count_, w_, w_.target, second_);
    const auto pool = make_pool(joint(read.value.data()), count_);
    const auto scores = position_scores(pool);
    const Room<T> since = since_last_events();
    const int64_t features = w_.features(), row = w_.mixes() * features, hidden = w_.hidden;
    parallel_chunks(pairs_, kPairs, [&](int64_t from, int64_t to) {
      Pair work(pool);
      const int64_t most = std::min(kPairs, to - from);
      Room<T> mixed(most * row), h(most * hidden);
      for (int64_t begin = from; begin < to; begin += kPairs) {
        const int64_t size = std::min(kPairs, to - begin);
        for (int64_t n = 0; n < size; ++n) {
          work.join(begin + n);
          work.mix(scores.data(), mixed.data() + n * row, features);
        }
        multiply_panels(static_cast<const T*>(mixed.data()), row, 1, padded_panels(w_.pool, hidden), w_.hidden_bias,
                        size, row, hidden, h.data());
        for (int64_t n = 0; n < size; ++n) {
          T* x = h.data() + n * hidden;
          axpy(x, T(1), source.data() + first_[begin + n] * hidden, hidden);
          axpy(x, T(1), target.data() + second_[begin + n] * hidden, hidden);
          for (int64_t side = 0; side < w_.ages; ++side)
            axpy(x, since[2 * (begin + n) + side], w_.since + side * padded(hidden), hidden);
          rectify(x, hidden);
          out[begin + n] = dot(x, w_.out, hidden) + w_.out_bias[0];
        }
      }
    });
  }

 private:
  JointCells<Key, Time, T> joint(const T* now) const {
    JointCells<Key, Time, T> p{};
    p.layout = s_.layout, p.pairs = pairs_, p.width = w_.f, p.depth = w_.depth, p.heads = w_.heads;
    p.nodes = nodes_.data(), p.first = first_.data(), p.second = second_.data();
    p.aged = w_.ages > 0;
    p.t = p.aged ? when_.data() : nullptr;
    p.position = w_.position, p.query = w_.query, p.constant = w_.constant;
    p.cells = s_.cells, p.time = s_.time, p.now = now;
    return p;
  }

  // log(1 + the time since the last event) of both ends of each pair; 0 where there is none or it is not in the past.
  Room<T> since_last_events() const {
    Room<T> age(w_.ages * pairs_);
    if (w_.ages == 0) return age;
    Room<double> dt(2 * pairs_);
    for (int64_t n = 0; n < 2 * pairs_; ++n) {
      const int64_t own = nodes_[n % 2 == 0 ? first_[n / 2] : second_[n / 2]] * s_.cells.columns;
      const double since = static_cast<double>(when_[n / 2] - s_.time[own]);
      dt[n] = s_.cells.eid[own] >= 0 && since > 0 ? since : 0;
    }
    ages_of(dt.data(), 2 * pairs_, age.data());
    return age;
  }

  const State& s_;
  const NatWeights<T>& w_;
  int64_t pairs_, count_ = 0;
  Room<int64_t> nodes_, first_, second_;  // distinct; places of the ends of pairs
  Room<Time> when_;
};

Tensor nat_score_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap,
                     std::optional<Tensor> messages, std::optional<Tensor> known, Tensor weights,
                     std::vector<int64_t> widths, std::vector<int64_t> sizes, bool reference_hash, int64_t seed,
                     bool delta, Tensor src, Tensor dst, Tensor t) {
  const NatArguments arguments{key,   eid,     time,   value, state,          other, gap,  messages,
                               known, weights, widths, sizes, reference_hash, seed,  delta};
  return arguments.dispatch(kOp, [&]<class Key, class Time, class Value>(const NatState<Key, Time, Value>& s) {
    const int64_t* sources = nodes_of(kOp, "src", src, {kAny}, s.cells.nodes);
    const int64_t b = src.size(0);
    const int64_t* targets = nodes_of(kOp, "dst", dst, {b, kAny}, s.cells.nodes);
    const Time* times = data<Time>(kOp, "t", t, {b});
    Tensor out = fresh(state, {b, dst.size(1)});
    if (out.numel() == 0) return out;
    using T = typename NatState<Key, Time, Value>::T;
    Scorer<Key, Time, Value>(s, sources, targets, times, b, dst.size(1)).run(static_cast<T*>(out.mutable_data_ptr()));
    return out;
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("nat_score", TORCH_BOX(&graphmem::nat_score_cpu)); }
