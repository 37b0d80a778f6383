// What the dictionaries of a pair's two nodes hold together, a key at a time; what is computed of it is told in
// cpu/ncache_pool.cpp. For host and device.
#pragma once

#include <cmath>

#include "common/events.h"
#include "common/ncache.h"

namespace graphmem {

constexpr double kLeak = 0.2;  // slope of LeakyReLU below 0

// A key of a pair. `mask`, bit b: dictionary b (the first node's, by hop, then the second's) holds it; 0: no key.
template <class T>
struct JointKey {
  uint64_t hash;
  uint32_t mask;
  T age[2];
};

// What is asked of pairs, but for the cells.
template <class Time, class T>
struct JointPairs {
  Dictionaries layout;
  int64_t pairs, width, depth, heads;  // depth: of positions; heads: 0 for sums
  const int64_t *nodes, *first, *second;
  const Time* t;
  const T *position, *query, *constant;
  bool aged;

  GRAPHMEM_HD int64_t columns() const { return layout.columns(); }
  GRAPHMEM_HD int64_t room() const { return 2 * columns(); }  // cells of a pair
  GRAPHMEM_HD int64_t ages() const { return aged ? 2 : 0; }
  GRAPHMEM_HD int64_t features() const { return width + depth + ages(); }
  GRAPHMEM_HD int64_t mixes() const { return heads > 0 ? heads : 1; }
  GRAPHMEM_HD int64_t masks() const { return int64_t{1} << (2 * layout.kinds()); }
  GRAPHMEM_HD int64_t row(int64_t pair, int64_t side) const { return side == 0 ? first[pair] : second[pair]; }
};

template <class Key, class Time, class T>
struct JointCells : JointPairs<Time, T> {
  using Pairs = JointPairs<Time, T>;
  using Pairs::aged, Pairs::columns, Pairs::constant, Pairs::depth, Pairs::features, Pairs::layout, Pairs::masks,
      Pairs::nodes, Pairs::position, Pairs::query, Pairs::row, Pairs::t, Pairs::width;

  Cells<Key> cells;
  const Time* time;
  const T* now;

  // Calls f(side, column) for the cells that hold a key, by dictionary.
  template <class F>
  GRAPHMEM_HD void visit(const JointKey<T>& key, F&& f) const {
    for (int64_t bit = 0; bit < 2 * layout.kinds(); ++bit) {
      if ((key.mask >> bit & 1) == 0) continue;
      const int64_t side = bit >= layout.kinds(), hop = bit - side * layout.kinds();
      f(side, hop == 0 ? int64_t{0} : layout.place(key.hash, hop));
    }
  }

  // The key that cell [2 columns] of a pair stands for: its own, where no dictionary before the cell's holds it.
  GRAPHMEM_HD JointKey<T> find(int64_t pair, int64_t cell) const {
    JointKey<T> found{0, 0, {T(0), T(0)}};
    const int64_t from = cell >= columns(), column = cell - from * columns();
    const int64_t key = cells.key_at(nodes[row(pair, from)], column);
    if (key < 0) return found;
    int64_t own = 0;  // hop of the cell
    while (column >= layout.first[own + 1]) ++own;
    found.hash = layout.hash(key);
    for (int64_t bit = 0; bit < 2 * layout.kinds(); ++bit) {
      const int64_t side = bit >= layout.kinds(), hop = bit - side * layout.kinds();
      const int64_t at = hop == 0 ? 0 : layout.place(found.hash, hop);
      if (cells.key_at(nodes[row(pair, side)], at) != key) continue;
      if (found.mask == 0 && bit != from * layout.kinds() + own) return found;
      found.mask |= uint32_t{1} << bit;
    }
    if (aged) put_ages(pair, found);
    return found;
  }

  // Feature f of a key: what its cells are worth together, position, ages.
  GRAPHMEM_HD T feature(int64_t pair, const JointKey<T>& key, int64_t f) const {
    if (f >= width + depth) return key.age[f - width - depth];
    if (f >= width) return position[key.mask * depth + f - width];
    T sum = 0;
    visit(key, [&](int64_t side, int64_t column) { sum += now[(row(pair, side) * columns() + column) * width + f]; });
    return sum;
  }

  // Of a head's pre-activation, `scores` [heads, masks] being what constant and position add.
  GRAPHMEM_HD T score(int64_t pair, const JointKey<T>& key, int64_t head, const T* scores) const {
    T sum = scores[head * masks() + key.mask];
    const T* of_head = query + head * features();
    for (int64_t f = 0; f < width; ++f) sum += of_head[f] * feature(pair, key, f);
    for (int64_t f = width + depth; f < features(); ++f) sum += of_head[f] * feature(pair, key, f);
    return sum;
  }

  GRAPHMEM_HD T position_score(int64_t head, int64_t mask) const {
    T sum = constant[head];
    for (int64_t d = 0; d < depth; ++d) sum += query[head * features() + width + d] * position[mask * depth + d];
    return sum;
  }

 private:
  // By a side's cell of the smallest hop.
  GRAPHMEM_HD void put_ages(int64_t pair, JointKey<T>& key) const {
    int64_t done = -1;
    visit(key, [&](int64_t side, int64_t column) {
      if (done == side) return;
      done = side;
      const int64_t cell = nodes[row(pair, side)] * columns() + column;
      if (cells.eid[cell] < 0) return;
      const Time since = t[pair] - time[cell];
      if (since > 0) key.age[side] = static_cast<T>(std::log1p(static_cast<double>(since)));
    });
  }
};

struct JointArguments {
  Tensor key, eid, time, nodes, now;
  std::vector<int64_t> sizes;
  bool reference_hash;
  int64_t seed;
  Tensor first, second;
  std::optional<Tensor> t;
  Tensor position;
  std::optional<Tensor> query, constant;

  template <class Key, class Time, class T>
  JointCells<Key, Time, T> checked(const char* op) const {
    JointCells<Key, Time, T> p{};
    p.layout = make_dictionaries(op, sizes, reference_hash, seed);
    p.cells = make_cells<Key>(op, key, eid, p.layout.columns());
    p.time = data<Time>(op, "time", time, {p.cells.nodes, p.cells.columns});
    p.nodes = data<int64_t>(op, "nodes", nodes, {kAny});
    p.now = data<T>(op, "now", now, {nodes.size(0), p.cells.columns, kAny});
    p.width = now.size(2);
    p.first = data<int64_t>(op, "first", first, {kAny});
    p.pairs = first.size(0);
    p.second = data<int64_t>(op, "second", second, {p.pairs});
    p.t = data<Time>(op, "t", t, {p.pairs});
    p.aged = t.has_value();
    p.position = data<T>(op, "position", position, {p.masks(), kAny});
    p.depth = position.size(1);
    p.query = data<T>(op, "query", query, {kAny, p.features()});
    p.heads = query.has_value() ? query->size(0) : 0;
    STD_TORCH_CHECK(query.has_value() == constant.has_value(), op, ": expected both or neither of query and constant");
    p.constant = data<T>(op, "constant", constant, {p.heads});
    expect_rows(op, "nodes", nodes, p.pairs > 0);
    return p;
  }

  // Calls f(cells) with the types of keys, times and values.
  template <class F>
  auto dispatch(const char* op, F&& f) const {
    return dispatch_index(op, "key", key, [&](auto key_type) {
      return dispatch_time(op, "time", time, [&](auto time_type) {
        return dispatch_full(op, "now", now, [&](auto type) {
          return f(checked<typename decltype(key_type)::type, typename decltype(time_type)::type,
                           typename decltype(type)::type>(op));
        });
      });
    });
  }
};

}  // namespace graphmem
