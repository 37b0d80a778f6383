// How events enter the dictionaries of their ends: who is offered to whom, and what a cell takes. For host and device.
#pragma once

#include "common/events.h"
#include "common/ncache.h"

namespace graphmem {

// Half event 2 e is what the source of event e hears, 2 e + 1 what its destination does. Nodes are places in `nodes`.
template <class Key, class Time, class Value>
struct Commit {
  Dictionaries layout;
  Coin coin;
  Cells<Key> cells;
  Time* time;
  Value* value;
  const int64_t *src, *dst;
  const Time* t;
  const int64_t *event, *nodes, *at;
  int64_t events, count, width;  // count: of nodes

  GRAPHMEM_HD int64_t own(int64_t half) const { return at[half % 2 * events + half / 2]; }
  GRAPHMEM_HD int64_t theirs(int64_t half) const { return own(half ^ 1); }

  // The key that column `from` of the other end, or the other end itself (hop 1), offers to a hop of the half event's
  // owner; -1 for none.
  GRAPHMEM_HD int64_t offered(int64_t half, int64_t hop, int64_t from) const {
    const int64_t other = nodes[theirs(half)];
    return hop == 1 ? other : cells.key_at(other, from);
  }

  // Where the offer goes, as a place in [count, columns]; -1 where there is none or the cell keeps what it has.
  GRAPHMEM_HD int64_t taken(int64_t half, uint32_t drawn, int64_t hop, int64_t from) const {
    const int64_t key = offered(half, hop, from);
    if (key < 0) return -1;
    const int64_t column = layout.place(layout.hash(key), hop);
    const int64_t occupant = cells.key_at(nodes[own(half)], column);
    const bool takes = occupant < 0 || occupant == key || coin.replaces(drawn, 2 * from + half % 2);
    return takes ? own(half) * cells.columns + column : -1;
  }

  // The columns whose keys the other end offers to a hop; hop 1 gets the other end itself, as from column 0.
  GRAPHMEM_HD int64_t from_begin(int64_t hop) const { return layout.first[hop - 1]; }
  GRAPHMEM_HD int64_t from_end(int64_t hop) const { return layout.first[hop]; }

  // Writes the offer that a cell takes. `now` [count, columns, width]: what the cells are worth.
  template <class Worth>
  GRAPHMEM_HD void write(int64_t place, int64_t half, int64_t hop, int64_t from, const Worth* now) const {
    const int64_t column = place % cells.columns, node = nodes[place / cells.columns];
    const int64_t cell = node * cells.columns + column, other = nodes[theirs(half)];
    const int64_t source = other * cells.columns + from;
    const int64_t key = offered(half, hop, from);
    const bool known = hop > 1 || cells.key_at(node, column) == key;
    const Worth* worth = now + (hop == 1 ? place : theirs(half) * cells.columns + from) * width;
    cells.key[cell] = static_cast<Key>(key);
    cells.eid[cell] = hop == 1 ? event[half / 2] : cells.eid[source];
    time[cell] = hop == 1 ? t[half / 2] : time[source];
    for (int64_t f = 0; f < width; ++f) value[cell * width + f] = static_cast<Value>(known ? worth[f] : Worth(0));
  }

  // The own entry of a node, of its last half event.
  template <class Worth>
  GRAPHMEM_HD void write_own(int64_t half, const Worth* now) const {
    const int64_t node = nodes[own(half)], cell = node * cells.columns;
    cells.key[cell] = static_cast<Key>(node);
    cells.eid[cell] = event[half / 2];
    time[cell] = t[half / 2];
    const Worth* worth = now + own(half) * cells.columns * width;
    for (int64_t f = 0; f < width; ++f) value[cell * width + f] = static_cast<Value>(worth[f]);
  }
};

struct CommitArguments {
  Tensor key, eid, time, value, src, dst, t, event, nodes, at, now;
  std::vector<int64_t> sizes;
  bool reference_hash;
  int64_t seed;
  double replace_prob;

  template <class Key, class Time, class Value, class Worth>
  Commit<Key, Time, Value> commit(const char* op, const Worth*& worth) const {
    Commit<Key, Time, Value> c;
    c.layout = make_dictionaries(op, sizes, reference_hash, seed);
    c.coin = make_coin(seed, replace_prob);
    c.cells = make_cells<Key>(op, key, eid, c.layout.columns());
    data<Time>(op, "time", time, {c.cells.nodes, c.cells.columns});
    c.time = static_cast<Time*>(time.mutable_data_ptr());
    data<Value>(op, "value", value, {c.cells.nodes, c.cells.columns, kAny});
    c.value = static_cast<Value*>(value.mutable_data_ptr());
    c.width = value.size(2);
    c.src = data<int64_t>(op, "src", src, {kAny});
    c.events = src.size(0);
    c.dst = data<int64_t>(op, "dst", dst, {c.events});
    c.t = data<Time>(op, "t", t, {c.events});
    c.event = data<int64_t>(op, "event", event, {c.events});
    c.nodes = data<int64_t>(op, "nodes", nodes, {kAny});
    c.count = nodes.size(0);
    c.at = data<int64_t>(op, "at", at, {2 * c.events});
    worth = data<Worth>(op, "now", now, {c.count, c.cells.columns, c.width});
    expect_probability(op, "replace_prob", replace_prob);
    if constexpr (kOnHost) check(op, c);
    return c;
  }

  // Nothing is written before all events were looked at.
  template <class Key, class Time, class Value>
  static void check(const char* op, const Commit<Key, Time, Value>& c) {
    bool inside = true, fits = true;
    for (int64_t n = 0; n < c.count; ++n)
      inside &= static_cast<uint64_t>(c.nodes[n]) < static_cast<uint64_t>(c.cells.nodes);
    for (int64_t half = 0; half < 2 * c.events; ++half) {
      const uint64_t own = static_cast<uint64_t>(c.own(half));
      const int64_t node = half % 2 == 0 ? c.src[half / 2] : c.dst[half / 2];
      fits = fits && own < static_cast<uint64_t>(c.count) && c.nodes[own] == node;
    }
    STD_TORCH_CHECK(inside, op, ": expected nodes with ids in [0, ", c.cells.nodes, ")");
    STD_TORCH_CHECK(fits, op, ": expected at with the places of src, then of dst, among nodes");
  }

  // Calls f(commit, now) with the types of keys, times and values.
  template <class F>
  void dispatch(const char* op, F&& f) const {
    dispatch_index(op, "key", key, [&](auto key_type) {
      dispatch_time(op, "time", time, [&](auto time_type) {
        dispatch_feature(op, "value", value, [&](auto value_type) {
          using Value = typename decltype(value_type)::type;
          using Worth = typename Accumulate<Value>::type;
          const Worth* worth = nullptr;
          const auto entered =
              commit<typename decltype(key_type)::type, typename decltype(time_type)::type, Value>(op, worth);
          f(entered, worth);
        });
      });
    });
  }
};

}  // namespace graphmem
