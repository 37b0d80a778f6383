// What the pair operators share: which threads take a pair, and how they find what its two rows have in common.
//
// A block takes 32 pairs at a time. By the number of entries to walk, a pair goes to 8 lanes, to a warp, or to a list of
// hubs that a second kernel serves, a block a pair; nothing is sorted, and the host learns nothing of it. Where the 32
// pairs share their source, as in evaluation, its row is read from shared memory. The thresholds are starting points:
// they have not been measured on a device.
#pragma once

#include "common/problem.h"
#include "cuda/group.h"

namespace graphmem {

constexpr int kTile = 32;
constexpr int64_t kSmall = 8, kMedium = 1024;
// Entries of a source's row that fit beside the other buffers.
constexpr int64_t kStaged = 1024;

// One row: `col` counts from the row's start, and may lie in shared memory.
template <class Col>
struct Row {
  const Col* col;
  const bool* keep;
  int64_t first, length;

  __device__ bool present(int64_t k) const { return keep == nullptr || keep[k]; }
};

template <class Col, class Weight>
__device__ Row<Col> row_of(const Csr<Col, Weight>& g, int64_t node) {
  const int64_t first = g.rowptr[node];
  return {g.col + first, g.keep == nullptr ? nullptr : g.keep + first, first, g.rowptr[node + 1] - first};
}

template <class Col>
struct Pair {
  int64_t i, j;
  Row<Col> a, b;
  bool exclude_endpoints;

  __device__ bool wanted(Col u) const { return !(exclude_endpoints && (u == i || u == j)); }
};

template <class Col, class Weight>
__device__ Pair<Col> pair_of(const Problem<Col, Weight>& p, int64_t n) {
  const int64_t i = p.source[n], j = p.target[n];
  return {i, j, row_of(p.a, i), row_of(p.b, j), p.exclude_endpoints};
}

// Entries to walk for the wanted parts.
template <class Col, class Weight>
__device__ int64_t work_of(const Problem<Col, Weight>& p, int64_t n) {
  const int64_t i = p.source[n], j = p.target[n];
  const int64_t len_a = p.a.rowptr[i + 1] - p.a.rowptr[i], len_b = p.b.rowptr[j + 1] - p.b.rowptr[j];
  const int64_t shorter = len_a < len_b ? len_a : len_b;
  if (p.parts == kCn) return shorter;
  return ((p.parts & kCn) ? shorter : 0) + ((p.parts & kLeft) ? len_a : 0) + ((p.parts & kRight) ? len_b : 0);
}

// Walks [begin, end) of the ascending row `one`, a group's width at a time, and looks each entry up in `other`. Calls
// visit(k, valid, at) with the entry's place in both rows; `at` is -1 where it is absent there, `valid` false past the
// end. A step narrows the search for the next: 32 (8) places are probed at once, ever further apart.
template <class Group, class Col, class Visit>
__device__ void walk(const Group& group, const Row<Col>& one, int64_t begin, int64_t end, const Row<Col>& other,
                     Visit&& visit) {
  constexpr int kProbes = Group::kSize < 32 ? Group::kSize : 32;
  const Lanes<kProbes> lanes;
  int64_t low = 0;
  for (int64_t base = begin; base < end; base += Group::kSize) {
    const int64_t k = base + group.rank();
    const bool valid = k < end;
    int64_t high = other.length, next = low;
    if (base + Group::kSize < end) {
      const Col last = one.col[base + Group::kSize - 1];
      for (int64_t stride = kProbes;; stride *= kProbes) {
        const int64_t probe = next + (lanes.rank() + 1) * stride - 1;
        const int below = __popc(lanes.ballot(probe < other.length && other.col[probe] < last));
        next += below * stride;
        if (below == kProbes) continue;
        const int64_t bound = next + stride - 1;
        if (bound < high) high = bound;
        break;
      }
    }
    int64_t at = -1;
    if (valid) {
      const Col u = one.col[k];
      const int64_t found = lower_bound(other.col, low, high, u);
      if (found < other.length && other.col[found] == u) at = found;
    }
    visit(k, valid, at);
    low = next;
  }
}

// Calls visit(flag, u, slot_a, slot_b) for a part's entries, ascending: `flag` tells whether this thread has one. The
// slots are edge slots; the one that the part does not name is -1 where there is none. `share` of `shares`: a stretch of
// the walk, for several groups on one pair.
template <class Group, class Col, class Visit>
__device__ void visit_part(const Group& group, const Pair<Col>& pair, int64_t part, int64_t share, int64_t shares,
                           Visit&& visit) {
  const bool from_b = part == kRight || (part == kCn && pair.b.length < pair.a.length);
  const Row<Col> one = from_b ? pair.b : pair.a, other = from_b ? pair.a : pair.b;
  const int64_t begin = one.length * share / shares, end = one.length * (share + 1) / shares;
  walk(group, one, begin, end, other, [&](int64_t k, bool valid, int64_t at) {
    const Col u = valid ? one.col[k] : Col(0);
    const bool common = at >= 0 && other.present(at);
    const bool flag = valid && one.present(k) && pair.wanted(u) && common == (part == kCn);
    const int64_t slot_one = one.first + k, slot_other = at < 0 ? -1 : other.first + at;
    visit(flag, u, from_b ? slot_other : slot_one, from_b ? slot_one : slot_other);
  });
}

// Weight of an entry of a part.
template <class Col, class Weight>
__device__ Weight part_weight(const Problem<Col, Weight>& p, int64_t part, int64_t slot_a, int64_t slot_b) {
  if (part == kLeft) return p.a.weight_of(slot_a);
  if (part == kRight) return p.b.weight_of(slot_b);
  return p.a.weight_of(slot_a) * p.b.weight_of(slot_b);
}

// Pairs that a block has to take, by number; their order does not show in any result.
struct Hubs {
  int64_t* pair;
  unsigned long long* count;

  __device__ void add(int64_t n) const { pair[atomicAdd(count, 1ull)] = n; }
};

// Owns the list.
class HubList {
 public:
  HubList(const Tensor& like, int64_t num_pairs)
      : pair_(torch::stable::new_empty(like, {num_pairs}, ScalarType::Long)),
        count_(torch::stable::new_zeros(like, {1}, ScalarType::Long)) {}
  Hubs hubs() {
    return {static_cast<int64_t*>(pair_.mutable_data_ptr()),
            static_cast<unsigned long long*>(count_.mutable_data_ptr())};
  }

 private:
  Tensor pair_, count_;
};

// Shared memory of `each_pair_of_tile`.
template <class Col>
struct TileMemory {
  Col staged[kStaged];
  unsigned small, medium;
  bool one_source;
};

// Calls f(group, n, pair) for the small and medium pairs of this block's tile; passes the others to `hubs`.
template <class Col, class Weight, class F>
__device__ void each_pair_of_tile(const Problem<Col, Weight>& p, const Hubs& hubs, TileMemory<Col>& memory, F&& f) {
  const int64_t first = int64_t{blockIdx.x} * kTile;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  if (warp == 0) {
    const int64_t n = first + thread;
    const bool inside = n < p.num_pairs;
    const int64_t work = inside ? work_of(p, n) : 0;
    const unsigned small = __ballot_sync(0xFFFFFFFFu, inside && work <= kSmall);
    const unsigned medium = __ballot_sync(0xFFFFFFFFu, inside && work > kSmall && work <= kMedium);
    const bool one_source = __all_sync(0xFFFFFFFFu, !inside || p.source[n] == p.source[first]);
    if (inside && work > kMedium) hubs.add(n);
    if (thread == 0) {
      memory.small = small;
      memory.medium = medium;
      memory.one_source = one_source;
    }
  }
  __syncthreads();
  const unsigned small = memory.small, medium = memory.medium;
  const Row<Col> source = row_of(p.a, p.source[first]);
  const bool staged = memory.one_source && source.length <= kStaged;
  if (staged) {
    for (int64_t k = thread; k < source.length; k += kThreads) memory.staged[k] = source.col[k];
    __syncthreads();
  }
  const auto take = [&](const auto& group, int n) {
    Pair<Col> pair = pair_of(p, first + n);
    if (staged) pair.a.col = memory.staged;
    f(group, first + n, pair);
  };
  if (small >> (thread / 8) & 1) take(Lanes<8>(), thread / 8);
  __syncwarp();
  int turn = 0;
  for (unsigned rest = medium; rest != 0; rest &= rest - 1, ++turn) {
    if (turn % (kThreads / 32) == warp) take(Lanes<32>(), __ffs(static_cast<int>(rest)) - 1);
  }
}

}  // namespace graphmem
