// nat_score: logits of candidates from the state of NAT, in one call, without gradient. The distinct nodes of all pairs
// are brought up to date, and projected to the hidden layer of the decoder, as sources and as destinations, once each;
// pairs are then joined and mixed as by ncache_pool, 48 at a time, and their mixes projected with them.
//
// nat_update: events enter the state, behind the scores of candidates of their sources, which read the same nodes. States,
// other ends and times between events are written, then the dictionaries as by ncache_commit. Nothing is written before
// all was read and looked at.
//
// A pair's numbers depend on those of no other pair, and products run in the order of cpu/gemm.h: the bits of a score
// depend neither on the batch nor on the number of threads.
#include "cpu/nat.h"

#include <torch/csrc/stable/library.h>

#include <numeric>

#include "cpu/commit.h"
#include "cpu/fresh.h"
#include "cpu/joint.h"

namespace graphmem {
namespace {

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

  // Pairs of sources at times t [b] with c candidates each. `nodes`: distinct; `source` [b] and `target` [b, c]: places.
  Scorer(const State& state, const Room<int64_t>& nodes, const int64_t* source, const int64_t* target, const Time* t,
         int64_t b, int64_t c)
      : s_(state),
        w_(state.w),
        pairs_(b * c),
        count_(static_cast<int64_t>(nodes.size())),
        nodes_(nodes),
        first_(pairs_),
        second_(target, target + pairs_),
        when_(pairs_) {
    for (int64_t n = 0; n < pairs_; ++n) {
      first_[n] = source[n / c];
      when_[n] = t[n / c];
    }
  }

  void run(const NatRead<T>& read, T* out) const {
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
  int64_t pairs_, count_;
  const Room<int64_t>& nodes_;
  Room<int64_t> first_, second_;  // places of the ends of pairs
  Room<Time> when_;
};

// Distinct nodes of some lists of ids, one behind the other, and the place of each entry.
struct Numbered {
  Room<int64_t> nodes, place;

  Numbered(std::initializer_list<std::pair<const int64_t*, int64_t>> lists) {
    Room<int64_t> ids;
    for (const auto& [list, count] : lists) ids.insert(ids.end(), list, list + count);
    nodes.resize(ids.size());
    place.resize(ids.size());
    nodes.resize(number_distinct(ids.data(), static_cast<int64_t>(ids.size()), nodes.data(), place.data()));
  }
};

Tensor nat_score_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap,
                     std::optional<Tensor> messages, std::optional<Tensor> known, Tensor weights,
                     std::vector<int64_t> widths, std::vector<int64_t> sizes, bool reference_hash, int64_t seed,
                     bool delta, Tensor src, Tensor dst, Tensor t) {
  constexpr const char* kOp = "nat_score";
  const NatArguments arguments{key,   eid,     time,   value, state,          other, gap,  messages,
                               known, weights, widths, sizes, reference_hash, seed,  delta};
  return arguments.dispatch(kOp, [&]<class Key, class Time, class Value>(const NatState<Key, Time, Value>& s) {
    using T = typename NatState<Key, Time, Value>::T;
    const int64_t* sources = nodes_of(kOp, "src", src, {kAny}, s.cells.nodes);
    const int64_t b = src.size(0);
    const int64_t* targets = nodes_of(kOp, "dst", dst, {b, kAny}, s.cells.nodes);
    const Time* times = data<Time>(kOp, "t", t, {b});
    Tensor out = fresh(state, {b, dst.size(1)});
    if (out.numel() == 0) return out;
    const Numbered found{{sources, b}, {targets, dst.numel()}};
    const Scorer<Key, Time, Value> scorer(s, found.nodes, found.place.data(), found.place.data() + b, times, b,
                                          dst.size(1));
    scorer.run(read_nodes(kOp, s, found.nodes.data(), static_cast<int64_t>(found.nodes.size())),
               static_cast<T*>(out.mutable_data_ptr()));
    return out;
  });
}

// States, other ends and times between events of the nodes of events.
template <class Key, class Time, class Value, class T>
void write_nodes(const NatState<Key, Time, Value>& s, const Commit<Key, Time, Value>& c, const NatRead<T>& read) {
  Room<int64_t> last(c.count);  // half event of each node
  for (int64_t half = 0; half < 2 * c.events; ++half) last[c.own(half)] = half;
  for (int64_t n = 0; n < c.count; ++n) {
    const int64_t node = c.nodes[n], own = node * s.cells.columns, e = last[n] / 2;
    s.gap[node] = s.cells.eid[own] >= 0 ? c.t[e] - s.time[own] : Time(0);
    s.other[node] = last[n] % 2 == 0 ? c.dst[e] : c.src[e];
    std::copy_n(read.state.data() + n * s.w.d, s.w.d, s.state + node * s.w.d);
  }
}

Tensor nat_update_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap,
                      std::optional<Tensor> messages, std::optional<Tensor> known, Tensor weights,
                      std::vector<int64_t> widths, std::vector<int64_t> sizes, bool reference_hash, int64_t seed,
                      bool delta, Tensor src, Tensor dst, Tensor t, std::optional<Tensor> asked, int64_t first,
                      double replace_prob, bool sequential) {
  constexpr const char* kOp = "nat_update";
  const NatArguments arguments{key,   eid,     time,   value, state,          other, gap,  messages,
                               known, weights, widths, sizes, reference_hash, seed,  delta};
  return arguments.dispatch(kOp, [&]<class Key, class Time, class Value>(const NatState<Key, Time, Value>& s) {
    using T = typename NatState<Key, Time, Value>::T;
    const int64_t* sources = nodes_of(kOp, "src", src, {kAny}, s.cells.nodes);
    const int64_t events = src.size(0);
    const int64_t* targets = nodes_of(kOp, "dst", dst, {events}, s.cells.nodes);
    const Time* times = data<Time>(kOp, "t", t, {events});
    const int64_t* others = nullptr;
    if (asked.has_value()) others = nodes_of(kOp, "asked", *asked, {events, kAny}, s.cells.nodes);
    const int64_t candidates = asked.has_value() ? asked->size(1) : 0;
    expect_probability(kOp, "replace_prob", replace_prob);
    Tensor out = fresh(state, {events, candidates});
    if (events == 0) return out;
    // Nodes of events come first.
    const Numbered found{{sources, events}, {targets, events}, {others, events * candidates}};
    const int64_t *at = found.place.data(), count = *std::max_element(at, at + 2 * events) + 1;
    const auto read = read_nodes(kOp, s, found.nodes.data(), static_cast<int64_t>(found.nodes.size()));
    if (candidates > 0) {
      const Scorer<Key, Time, Value> scorer(s, found.nodes, at, at + 2 * events, times, events, candidates);
      scorer.run(read, static_cast<T*>(out.mutable_data_ptr()));
    }
    Room<int64_t> number(events);
    std::iota(number.begin(), number.end(), first);
    const Coin coin = make_coin(seed, replace_prob);
    const Commit<Key, Time, Value> commit{s.layout, coin,    s.cells, s.time,        s.value,
                                          sources,  targets, times,   number.data(), found.nodes.data(),
                                          at,       events,  count,   s.w.f};
    write_nodes(s, commit, read);
    enter_events(commit, read.value.data(), sequential);
    return out;
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("nat_score", TORCH_BOX(&graphmem::nat_score_cpu));
  m.impl("nat_update", TORCH_BOX(&graphmem::nat_update_cpu));
}
