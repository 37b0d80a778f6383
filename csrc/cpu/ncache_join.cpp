// ncache_join: the keys that the dictionaries of tuples of nodes hold together, each once, and which cells hold them.
//
// A key has one place in each dictionary, so that a cell of a tuple of q nodes asks q (H + 1) cells whether they hold its
// key, and the first of these stands for it: nothing is sorted, and no table is built. Keys are counted first, and
// written in a second pass; a tuple's are in the order of its nodes and of their columns.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "common/ncache.h"
#include "cpu/fresh.h"
#include "cpu/ids.h"
#include "cpu/parallel.h"
#include "cpu/room.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "ncache_join";
constexpr int64_t kTuples = 32;  // of a task

template <class Key>
struct Tuples {
  Cells<Key> cells;
  Dictionaries layout;
  const int64_t* nodes;
  int64_t count, size;

  int64_t dictionaries() const { return size * layout.kinds(); }

  // Calls f(key) for each key of a tuple, whose cells are in `holds` [dictionaries] then, -1 where one does not.
  template <class F>
  void keys(int64_t tuple, int64_t* holds, const F& f) const {
    const int64_t *of = nodes + tuple * size, columns = cells.columns;
    for (int64_t side = 0; side < size; ++side) {
      for (int64_t hop = 0, column = 0; column < columns; ++column) {
        hop += column == layout.first[hop + 1];
        const int64_t key = cells.key_at(of[side], column);
        if (key >= 0 && stands(of, key, side * layout.kinds() + hop, holds)) f(key);
      }
    }
  }

 private:
  // Whether no dictionary before `own` holds the key.
  bool stands(const int64_t* of, int64_t key, int64_t own, int64_t* holds) const {
    const uint64_t hash = layout.hash(key);
    int64_t dictionary = 0;
    for (int64_t side = 0; side < size; ++side) {
      for (int64_t hop = 0; hop < layout.kinds(); ++hop, ++dictionary) {
        const int64_t column = hop == 0 ? 0 : layout.place(hash, hop);
        const bool there = cells.key_at(of[side], column) == key;
        if (there && dictionary < own) return false;
        holds[dictionary] = there ? of[side] * cells.columns + column : -1;
      }
    }
    return holds[own] >= 0;
  }
};

std::tuple<Tensor, Tensor, Tensor> ncache_join_cpu(Tensor key, std::vector<int64_t> sizes, bool reference_hash,
                                                   int64_t seed, Tensor nodes) {
  const Dictionaries layout = make_dictionaries(kOp, sizes, reference_hash, seed);
  expect_shape(kOp, "nodes", nodes, {kAny, kAny});
  return dispatch_index(kOp, "key", key, [&](auto type) {
    using Key = typename decltype(type)::type;
    data<Key>(kOp, "key", key, {kAny, layout.columns()});
    const Cells<Key> cells{static_cast<Key*>(key.mutable_data_ptr()), nullptr, key.size(0), layout.columns()};
    const Tuples<Key> tuples{cells, layout, nodes_of(kOp, "nodes", nodes, {kAny, kAny}, cells.nodes), nodes.size(0),
                             nodes.size(1)};
    const int64_t wide = tuples.dictionaries(), work = 2 * tuples.size * cells.columns * wide * tuples.count;
    Tensor ptr = torch::stable::new_empty(nodes, {tuples.count + 1});
    int64_t* begin = static_cast<int64_t*>(ptr.mutable_data_ptr());
    begin[0] = 0;
    parallel_chunks(tuples.count, kTuples, work, [&](int64_t from, int64_t to) {
      Room<int64_t> holds(wide);
      for (int64_t n = from; n < to; ++n) {
        int64_t found = 0;
        tuples.keys(n, holds.data(), [&](int64_t) { ++found; });
        begin[n + 1] = found;
      }
    });
    for (int64_t n = 0; n < tuples.count; ++n) begin[n + 1] += begin[n];
    Tensor found = fresh(nodes, {begin[tuples.count]}), cell = fresh(nodes, {begin[tuples.count], wide});
    int64_t *of_keys = static_cast<int64_t*>(found.mutable_data_ptr()),
            *of_cells = static_cast<int64_t*>(cell.mutable_data_ptr());
    parallel_chunks(tuples.count, kTuples, work, [&](int64_t from, int64_t to) {
      Room<int64_t> holds(wide);
      for (int64_t n = from; n < to; ++n) {
        int64_t at = begin[n];
        tuples.keys(n, holds.data(), [&](int64_t one) {
          of_keys[at] = one;
          std::copy_n(holds.data(), wide, of_cells + at++ * wide);
        });
      }
    });
    return std::tuple(ptr, found, cell);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("ncache_join", TORCH_BOX(&graphmem::ncache_join_cpu)); }
