// ncache_join, see common/ncache_join.h. Keys are counted first, and written in a second pass; a tuple's are in the order
// of its nodes and of their columns.
#include "common/ncache_join.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "cpu/fresh.h"
#include "cpu/ids.h"
#include "cpu/parallel.h"
#include "cpu/room.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "ncache_join";
constexpr int64_t kTuples = 32;  // of a task

// Calls f(key) for each key of a tuple, whose cells are in `holds` [dictionaries] then.
template <class Key, class F>
void each_key(const Tuples<Key>& tuples, int64_t tuple, int64_t* holds, const F& f) {
  const Dictionaries& layout = tuples.layout;
  const auto keep = [&](int64_t dictionary, int64_t cell) { holds[dictionary] = cell; };
  for (int64_t side = 0; side < tuples.size; ++side) {
    for (int64_t hop = 0, column = 0; column < tuples.cells.columns; ++column) {
      hop += column == layout.first[hop + 1];
      const int64_t key = tuples.cells.key_at(tuples.nodes[tuple * tuples.size + side], column);
      if (key >= 0 && tuples.stands(tuple, key, side * layout.kinds() + hop, column, keep)) f(key);
    }
  }
}

std::tuple<Tensor, Tensor, Tensor> ncache_join_cpu(Tensor key, std::vector<int64_t> sizes, bool reference_hash,
                                                   int64_t seed, Tensor nodes, std::optional<int64_t> capacity) {
  return with_tuples(kOp, key, sizes, reference_hash, seed, nodes, capacity, [&](const auto& tuples) {
    nodes_of(kOp, "nodes", nodes, {kAny, kAny}, tuples.cells.nodes);
    const int64_t wide = tuples.dictionaries(), work = 2 * tuples.room() * wide * tuples.count;
    Tensor ptr = torch::stable::new_empty(nodes, {tuples.count + 1});
    int64_t* begin = static_cast<int64_t*>(ptr.mutable_data_ptr());
    begin[0] = 0;
    parallel_chunks(tuples.count, kTuples, work, [&](int64_t from, int64_t to) {
      Room<int64_t> holds(wide);
      for (int64_t n = from; n < to; ++n) {
        int64_t found = 0;
        each_key(tuples, n, holds.data(), [&](int64_t) { ++found; });
        begin[n + 1] = found;
      }
    });
    for (int64_t n = 0; n < tuples.count; ++n) begin[n + 1] += begin[n];
    const int64_t keys = begin[tuples.count], room = capacity.value_or(keys);
    Tensor found = fresh(nodes, {room}), cell = fresh(nodes, {room, wide});
    int64_t *of_keys = static_cast<int64_t*>(found.mutable_data_ptr()),
            *of_cells = static_cast<int64_t*>(cell.mutable_data_ptr());
    parallel_chunks(tuples.count, kTuples, work, [&](int64_t from, int64_t to) {
      Room<int64_t> holds(wide);
      for (int64_t n = from; n < to; ++n) {
        int64_t at = begin[n];
        each_key(tuples, n, holds.data(), [&](int64_t one) {
          if (at < room) {
            of_keys[at] = one;
            std::copy_n(holds.data(), wide, of_cells + at * wide);
          }
          ++at;
        });
      }
    });
    for (int64_t n = keys; n < room; ++n) {
      of_keys[n] = -1;
      std::fill_n(of_cells + n * wide, wide, -1);
    }
    return std::tuple(ptr, found, cell);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("ncache_join", TORCH_BOX(&graphmem::ncache_join_cpu)); }
