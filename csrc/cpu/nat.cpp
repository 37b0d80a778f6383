// nat_score: logits of candidates from the state of NAT, in one call, without gradient. The distinct nodes of all pairs
// are brought up to date, and projected to the hidden layer of the decoder, as sources and as destinations, once each;
// pairs are then joined and mixed as by ncache_pool, 48 at a time, and their mixes projected with them.
//
// nat_update: events enter the state, behind the scores of candidates of their sources, which read the same nodes. States,
// other ends and times between events are written, then the dictionaries as by ncache_commit. Nothing is written before
// all was read and looked at.
//
// nat_enter: the same where nodes were read before.
//
// A pair's numbers depend on those of no other pair, and products run in the order of cpu/gemm.h: the bits of a score
// depend neither on the batch nor on the number of threads.
#include <torch/csrc/stable/library.h>

#include <numeric>

#include "cpu/commit.h"
#include "cpu/fresh.h"
#include "cpu/nat_pairs.h"

namespace graphmem {
namespace {

// Rows of states by a matrix [d, hidden], only those that `asked` names; others' are not written.
template <class T>
Blank<T> project(const Blank<T>& state, int64_t count, const NatWeights<T>& w, const T* weight,
                 const Room<int64_t>& asked) {
  Room<int64_t> rows;
  std::vector<bool> seen(count);
  for (const int64_t row : asked) {
    if (!seen[row]) rows.push_back(row);
    seen[row] = true;
  }
  Blank<T> out(count * w.hidden);
  const auto distinct = static_cast<int64_t>(rows.size());
  parallel_chunks(distinct, kNatPairs, distinct * w.d * w.hidden / 32, [&](int64_t first, int64_t last) {
    Blank<T> x(kNatPairs * w.d), y(kNatPairs * w.hidden);
    for (int64_t begin = first; begin < last; begin += kNatPairs) {
      const int64_t size = std::min(kNatPairs, last - begin);
      for (int64_t n = 0; n < size; ++n) std::copy_n(state.data() + rows[begin + n] * w.d, w.d, x.data() + n * w.d);
      multiply_panels<T>(x.data(), w.d, 1, padded_panels(weight, w.hidden), nullptr, size, w.d, w.hidden, y.data());
      for (int64_t n = 0; n < size; ++n)
        std::copy_n(y.data() + n * w.hidden, w.hidden, out.data() + rows[begin + n] * w.hidden);
    }
  });
  return out;
}

// Logits of pairs.
template <class Key, class Time, class T>
void score_pairs(const NatPairs<Key, Time, T>& pairs, const NatRead<T>& read, T* out) {
  const NatWeights<T>& w = pairs.state.w;
  const Blank<T> source = project(read.state, pairs.count, w, w.source, pairs.first);
  const Blank<T> target = project(read.state, pairs.count, w, w.target, pairs.second);
  const auto pool = make_pool(pairs.joint(read.value.data()), pairs.count);
  const auto scores = position_scores(pool);
  const Room<T> since = pairs.since_last_events();
  const int64_t features = w.features(), row = w.mixes() * features, hidden = w.hidden;
  parallel_chunks(pairs.pairs, kNatPairs, [&](int64_t from, int64_t to) {
    Pair work(pool);
    const int64_t most = std::min(kNatPairs, to - from);
    Blank<T> mixed(most * row), h(most * hidden);
    for (int64_t begin = from; begin < to; begin += kNatPairs) {
      const int64_t size = std::min(kNatPairs, to - begin);
      for (int64_t n = 0; n < size; ++n) {
        work.join(begin + n);
        work.mix(scores.data(), mixed.data() + n * row, features);
      }
      multiply_panels(static_cast<const T*>(mixed.data()), row, 1, padded_panels(w.pool, hidden), w.hidden_bias, size,
                      row, hidden, h.data());
      for (int64_t n = 0; n < size; ++n) {
        T* x = h.data() + n * hidden;
        axpy(x, T(1), source.data() + pairs.first[begin + n] * hidden, hidden);
        axpy(x, T(1), target.data() + pairs.second[begin + n] * hidden, hidden);
        for (int64_t side = 0; side < w.ages; ++side)
          axpy(x, since[2 * (begin + n) + side], w.since + side * padded(hidden), hidden);
        rectify(x, hidden);
        out[begin + n] = dot(x, w.out, hidden) + w.out_bias[0];
      }
    }
  });
}

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
  const NatStored stored{key, eid, time, value, state, other, gap, messages, known, sizes, reference_hash, seed, delta};
  const NatArguments arguments{stored, weights, widths};
  return arguments.dispatch(kOp, [&]<class Key, class Time, class Value>(const NatState<Key, Time, Value>& s) {
    using T = typename NatState<Key, Time, Value>::T;
    const int64_t* sources = nodes_of(kOp, "src", src, {kAny}, s.cells.nodes);
    const int64_t b = src.size(0);
    const int64_t* targets = nodes_of(kOp, "dst", dst, {b, kAny}, s.cells.nodes);
    const Time* times = data<Time>(kOp, "t", t, {b});
    Tensor out = fresh(state, {b, dst.size(1)});
    if (out.numel() == 0) return out;
    const Numbered found{{sources, b}, {targets, dst.numel()}};
    const int64_t count = static_cast<int64_t>(found.nodes.size());
    const NatPairs pairs(s, found.nodes.data(), count, found.place.data(), found.place.data() + b, times, b,
                         dst.size(1));
    score_pairs(pairs, read_nodes(kOp, s, found.nodes.data(), count), static_cast<T*>(out.mutable_data_ptr()));
    return out;
  });
}

// States, other ends and times between events of the nodes of events. `own` [count, d]: states of all nodes.
template <class Key, class Time, class Value, class T>
void write_nodes(const Commit<Key, Time, Value>& c, const T* own, int64_t d, T* state, int64_t* other, Time* gap) {
  Room<int64_t> last(c.count, -1);  // half event of each node
  for (int64_t half = 0; half < 2 * c.events; ++half) last[c.own(half)] = half;
  for (int64_t n = 0; n < c.count; ++n) {
    if (last[n] < 0) continue;
    const int64_t node = c.nodes[n], cell = node * c.cells.columns, e = last[n] / 2;
    gap[node] = c.cells.eid[cell] >= 0 ? c.t[e] - c.time[cell] : Time(0);
    other[node] = last[n] % 2 == 0 ? c.dst[e] : c.src[e];
    std::copy_n(own + n * d, d, state + node * d);
  }
}

Tensor nat_update_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap,
                      std::optional<Tensor> messages, std::optional<Tensor> known, Tensor weights,
                      std::vector<int64_t> widths, std::vector<int64_t> sizes, bool reference_hash, int64_t seed,
                      bool delta, Tensor src, Tensor dst, Tensor t, std::optional<Tensor> asked, int64_t first,
                      double replace_prob, bool sequential) {
  constexpr const char* kOp = "nat_update";
  const NatStored stored{key, eid, time, value, state, other, gap, messages, known, sizes, reference_hash, seed, delta};
  const NatArguments arguments{stored, weights, widths};
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
      const NatPairs pairs(s, found.nodes.data(), static_cast<int64_t>(found.nodes.size()), at, at + 2 * events, times,
                           events, candidates);
      score_pairs(pairs, read, static_cast<T*>(out.mutable_data_ptr()));
    }
    Room<int64_t> number(events);
    std::iota(number.begin(), number.end(), first);
    const Coin coin = make_coin(seed, replace_prob);
    const Commit<Key, Time, Value> commit{s.layout, coin,    s.cells, s.time,        s.value,
                                          sources,  targets, times,   number.data(), found.nodes.data(),
                                          at,       events,  count,   s.w.f};
    write_nodes(commit, read.state.data(), s.w.d, s.state, s.other, s.gap);
    enter_events(commit, read.value.data(), sequential);
    return out;
  });
}

void nat_enter_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap,
                   Tensor src, Tensor dst, Tensor t, Tensor event, Tensor nodes, Tensor at, Tensor own, Tensor now,
                   std::vector<int64_t> sizes, bool reference_hash, int64_t seed, double replace_prob,
                   bool sequential) {
  constexpr const char* kOp = "nat_enter";
  const CommitArguments arguments{key, eid, time,  value,          src,  dst,         t, event, nodes,
                                  at,  now, sizes, reference_hash, seed, replace_prob};
  arguments.dispatch(kOp, [&]<class C, class T>(const C& commit, const T* worth) {
    using Time = std::remove_pointer_t<decltype(commit.time)>;
    const int64_t rows = commit.cells.nodes;
    const T* states = data<T>(kOp, "own", own, {commit.count, kAny});
    const int64_t d = own.size(1);
    data<T>(kOp, "state", state, {rows, d});
    data<int64_t>(kOp, "other", other, {rows});
    data<Time>(kOp, "gap", gap, {rows});
    write_nodes(commit, states, d, static_cast<T*>(state.mutable_data_ptr()),
                static_cast<int64_t*>(other.mutable_data_ptr()), static_cast<Time*>(gap.mutable_data_ptr()));
    enter_events(commit, worth, sequential);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("nat_enter", TORCH_BOX(&graphmem::nat_enter_cpu));
  m.impl("nat_score", TORCH_BOX(&graphmem::nat_score_cpu));
  m.impl("nat_update", TORCH_BOX(&graphmem::nat_update_cpu));
}
