// ncache_join, see common/ncache_join.h: a warp a tuple, 32 of its cells at a time, each of which asks whether it stands
// for its key. Keys are counted, their places are a running sum, and they are found anew to be written: a tuple's are in
// the order of its cells, as on the CPU. With a capacity nothing waits for the device.
#include <tuple>

#include "common/ncache_join.h"
#include "cuda/algorithm.h"
#include "cuda/group.h"
#include "cuda/scratch.h"

namespace graphmem {
namespace {

// A cell of a tuple, and the key that it stands for; -1: none.
template <class Key>
struct Standing {
  int64_t key = -1, own = 0, column = 0;

  __device__ Standing(const Tuples<Key>& tuples, int64_t tuple, int64_t cell) {
    if (cell >= tuples.room()) return;
    const int64_t columns = tuples.cells.columns, side = cell / columns;
    int64_t hop = 0;
    column = cell % columns;
    while (column >= tuples.layout.first[hop + 1]) ++hop;
    own = side * tuples.layout.kinds() + hop;
    const int64_t held = tuples.cells.key_at(tuples.nodes[tuple * tuples.size + side], column);
    if (held >= 0 && tuples.stands(tuple, held, own, column, [](int64_t, int64_t) {})) key = held;
  }
};

template <class Key>
__global__ void __launch_bounds__(kThreads) count_keys(Tuples<Key> tuples, int64_t* counts) {
  const Lanes<32> warp;
  const int64_t tuple = global_thread() / 32;
  if (tuple >= tuples.count) return;
  int64_t found = 0;
  for (int64_t from = 0; from < tuples.room(); from += 32) {
    const Standing<Key> one(tuples, tuple, from + warp.rank());
    found += __popc(warp.ballot(one.key >= 0));
  }
  if (warp.rank() == 0) counts[tuple] = found;
}

template <class Key>
__global__ void __launch_bounds__(kThreads)
    write_keys(Tuples<Key> tuples, const int64_t* ptr, int64_t room, int64_t* found, int64_t* cell) {
  const Lanes<32> warp;
  const int64_t tuple = global_thread() / 32;
  if (tuple >= tuples.count) return;
  int64_t at = ptr[tuple];
  for (int64_t from = 0; from < tuples.room(); from += 32) {
    const Standing<Key> one(tuples, tuple, from + warp.rank());
    int total;
    const int64_t to = at + warp.place(one.key >= 0, total);
    at += total;
    if (one.key < 0 || to >= room) continue;
    found[to] = one.key;
    int64_t* row = cell + to * tuples.dictionaries();
    tuples.stands(tuple, one.key, one.own, one.column,
                  [row](int64_t dictionary, int64_t place) { row[dictionary] = place; });
  }
}

// -1 behind the last key; a thread a number, of a row's `wide` cells and then its key.
__global__ void clear_rest(const int64_t* ptr, int64_t count, int64_t room, int64_t wide, int64_t* found,
                           int64_t* cell) {
  const int64_t n = global_thread(), row = n / (wide + 1), column = n % (wide + 1);
  if (row >= room || row < ptr[count]) return;
  (column < wide ? cell[row * wide + column] : found[row]) = -1;
}

std::tuple<Tensor, Tensor, Tensor> ncache_join_cuda(Tensor key, std::vector<int64_t> sizes, bool reference_hash,
                                                    int64_t seed, Tensor nodes, std::optional<int64_t> capacity) {
  constexpr const char* kOp = "ncache_join";
  const Device device(key);
  return with_tuples(kOp, key, sizes, reference_hash, seed, nodes, capacity, [&]<class Key>(const Tuples<Key>& tuples) {
    const int64_t wide = tuples.dictionaries();
    const Grid warps{blocks_for(tuples.count, kThreads / 32)};
    Tensor counts = unset<int64_t>(nodes, tuples.count), ptr = all_zeros<int64_t>(nodes, tuples.count + 1);
    int64_t* begin = static_cast<int64_t*>(ptr.mutable_data_ptr());
    if (tuples.count > 0) {
      int64_t* of_tuples = static_cast<int64_t*>(counts.mutable_data_ptr());
      launch(kOp, device, count_keys<Key>, warps, kThreads, 0, tuples, of_tuples);
      running_sum(kOp, device, nodes, of_tuples, begin + 1, tuples.count);
    }
    int64_t room = 0;
    if (capacity) {
      room = *capacity;
    } else {
      device.read(kOp, &room, begin + tuples.count, 1);
    }
    Tensor found = unset<int64_t>(nodes, room), cell = unset<int64_t>(nodes, room, wide);
    int64_t *of_keys = static_cast<int64_t*>(found.mutable_data_ptr()),
            *of_cells = static_cast<int64_t*>(cell.mutable_data_ptr());
    launch(kOp, device, write_keys<Key>, warps, kThreads, 0, tuples, begin, room, of_keys, of_cells);
    if (capacity)
      launch(kOp, device, clear_rest, {blocks_for(room * (wide + 1), kThreads)}, kThreads, 0, begin, tuples.count, room,
             wide, of_keys, of_cells);
    return std::tuple(ptr, found, cell);
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) { m.impl("ncache_join", TORCH_BOX(&graphmem::ncache_join_cuda)); }
