// The keys that the dictionaries of tuples of nodes hold together, for host and device.
//
// A key has one place in each dictionary, so that a cell of a tuple of q nodes asks q (H + 1) cells whether they hold its
// key, and the first of these stands for it: nothing is sorted, and no table is built.
#pragma once

#include <optional>

#include "common/ncache.h"

namespace graphmem {

template <class Key>
struct Tuples {
  Cells<Key> cells;
  Dictionaries layout;
  const int64_t* nodes;  // [count, size]
  int64_t count, size;

  GRAPHMEM_HD int64_t dictionaries() const { return size * layout.kinds(); }
  // Cells of a tuple's nodes.
  GRAPHMEM_HD int64_t room() const { return size * cells.columns; }

  // Whether a cell of a tuple stands for its key: it lies in a column of its dictionary where that key belongs, and no
  // dictionary before holds the key. Calls keep(dictionary, cell) for those that it asks, all of them where it is so; -1
  // for a cell of another key.
  template <class F>
  GRAPHMEM_HD bool stands(int64_t tuple, int64_t key, int64_t own, int64_t own_column, F&& keep) const {
    const int64_t* of = nodes + tuple * size;
    const uint64_t hash = layout.hash(key);
    bool held = false;
    int64_t dictionary = 0;
    for (int64_t side = 0; side < size; ++side) {
      for (int64_t hop = 0; hop < layout.kinds(); ++hop, ++dictionary) {
        const int64_t column = hop == 0 ? 0 : layout.place(hash, hop);
        const bool there = cells.key_at(of[side], column) == key;
        if (there && dictionary < own) return false;
        held |= dictionary == own && column == own_column;
        keep(dictionary, there ? of[side] * cells.columns + column : -1);
      }
    }
    return held;
  }
};

// What the operator is given, looked at but for ids. Calls f(tuples) with the type of their keys.
template <class F>
auto with_tuples(const char* op, const Tensor& key, const std::vector<int64_t>& sizes, bool reference_hash,
                 int64_t seed, const Tensor& nodes, const std::optional<int64_t>& capacity, F&& f) {
  const Dictionaries layout = make_dictionaries(op, sizes, reference_hash, seed);
  const int64_t* ids = data<int64_t>(op, "nodes", nodes, {kAny, kAny});
  if (capacity) expect_number(op, "capacity", *capacity);
  return dispatch_index(op, "key", key, [&](auto type) {
    using Key = typename decltype(type)::type;
    data<Key>(op, "key", key, {kAny, layout.columns()});
    const Cells<Key> cells{static_cast<Key*>(key.mutable_data_ptr()), nullptr, key.size(0), layout.columns()};
    return f(Tuples<Key>{cells, layout, ids, nodes.size(0), nodes.size(1)});
  });
}

}  // namespace graphmem
