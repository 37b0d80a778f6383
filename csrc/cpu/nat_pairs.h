// Pairs that NAT is asked about, as its operators read them.
#pragma once

#include "cpu/joint.h"
#include "cpu/nat.h"

namespace graphmem {

constexpr int64_t kNatPairs = 48;  // that go through the decoder at once

template <class Key, class Time, class Number>
struct NatPairs {
  using T = Number;

  const NatHistory<Key, Time, T>& state;
  int64_t pairs, count;  // count: of nodes
  const int64_t* nodes;
  Room<int64_t> first, second;  // places of the ends of pairs among the nodes
  Room<Time> when;

  // Of sources at times t [b] with c candidates each. `of`: distinct nodes; `source` [b] and `target` [b, c]: places.
  NatPairs(const NatHistory<Key, Time, T>& s, const int64_t* of, int64_t size, const int64_t* source,
           const int64_t* target, const Time* t, int64_t b, int64_t c)
      : state(s), pairs(b * c), count(size), nodes(of), first(pairs), second(target, target + pairs), when(pairs) {
    for (int64_t n = 0; n < pairs; ++n) {
      first[n] = source[n / c];
      when[n] = t[n / c];
    }
  }

  // `now` [count, columns, f]: what the cells of the nodes are worth.
  JointCells<Key, Time, T> joint(const T* now) const {
    const NatWeights<T>& w = state.w;
    JointCells<Key, Time, T> p{};
    p.layout = state.layout, p.pairs = pairs, p.width = w.f, p.depth = w.depth, p.heads = w.heads;
    p.nodes = nodes, p.first = first.data(), p.second = second.data();
    p.aged = w.ages > 0;
    p.t = p.aged ? when.data() : nullptr;
    p.position = w.position, p.query = w.query, p.constant = w.constant;
    p.cells = state.cells, p.time = state.time, p.now = now;
    return p;
  }

  // log(1 + the time since the last event) of both ends of each pair; 0 where there is none or it is not in the past.
  Room<T> since_last_events() const {
    Room<T> age(state.w.ages * pairs);
    if (state.w.ages == 0) return age;
    Room<double> dt(2 * pairs);
    for (int64_t n = 0; n < 2 * pairs; ++n) {
      const int64_t own = nodes[n % 2 == 0 ? first[n / 2] : second[n / 2]] * state.cells.columns;
      const double since = static_cast<double>(when[n / 2] - state.time[own]);
      dt[n] = state.cells.eid[own] >= 0 && since > 0 ? since : 0;
    }
    ages_of(dt.data(), 2 * pairs, age.data());
    return age;
  }
};

}  // namespace graphmem
