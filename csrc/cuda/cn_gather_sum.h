// The forward kernels of cn_gather_sum; see cuda/cn_gather_sum.cu.
#pragma once

#include "cuda/pairs.h"
#include "cuda/rows.h"

namespace graphmem {

// A group's list of neighbours that are to be summed next: one entry a thread.
template <class Col, class Acc>
struct Found {
  Col* node;
  Acc* weight;
};

// One part of one pair, a slice of the features: find a few neighbours, add their rows, find the next.
template <int kPack, int kPacks, class Group, class Col, class X, class Acc>
__device__ void gather_part(const Group& group, const Problem<Col, Acc>& p, const Pair<Col>& pair, int64_t part,
                            const Found<Col, Acc>& found, const X* x, int64_t slice, int64_t num_features, X* row) {
  Sums<Group::kSize, kPack, kPacks, Acc> sums(group.rank(), slice, num_features);
  visit_part(group, pair, part, 0, 1, [&](bool flag, Col u, int64_t slot_a, int64_t slot_b) {
    int total;
    const int at = group.place(flag, total);
    if (flag) {
      found.node[at] = u;
      found.weight[at] = part_weight(p, part, slot_a, slot_b);
    }
    group.sync();
    sums.add(
        total, [&](int64_t k) { return x + int64_t{found.node[k]} * num_features; },
        [&](int64_t k) { return found.weight[k]; });
    group.sync();
  });
  sums.store(row);
}

template <class Col, class Acc>
struct GatherMemory {
  TileMemory<Col> tile;
  Acc weight[kThreads];
  Col node[kThreads];
  int scratch[kThreads / 32];
};

template <class Col, class X, class Acc, int kPack>
__global__ void __launch_bounds__(kThreads)
    gather_tile(Problem<Col, Acc> p, Hubs hubs, const X* x, int64_t num_features, X* out) {
  auto& memory = *shared_memory<GatherMemory<Col, Acc>>();
  each_pair_of_tile(p, hubs, memory.tile, [&](const auto& group, int64_t n, const Pair<Col>& pair) {
    using Group = std::remove_cv_t<std::remove_reference_t<decltype(group)>>;
    const int first = static_cast<int>(threadIdx.x) / Group::kSize * Group::kSize;
    const Found<Col, Acc> found{memory.node + first, memory.weight + first};
    for (int64_t part = kCn; part <= kRight; part *= 2) {
      if (!(p.parts & part)) continue;
      X* row = out + (part_row(p.parts, part) * p.num_pairs + n) * num_features;
      constexpr int64_t kSlice = Sums<Group::kSize, kPack, 2, Acc>::kSlice;
      for (int64_t slice = 0; slice < num_features; slice += kSlice) {
        gather_part<kPack, 2>(group, p, pair, part, found, x, slice, num_features, row);
      }
    }
  });
}

// A block a hub pair and slice; the intersection is repeated once a slice.
template <class Col, class X, class Acc>
__global__ void __launch_bounds__(kThreads)
    gather_hubs(Problem<Col, Acc> p, Hubs hubs, const X* x, int64_t num_features, X* out) {
  auto& memory = *shared_memory<GatherMemory<Col, Acc>>();
  const Block block(memory.scratch);
  const Found<Col, Acc> found{memory.node, memory.weight};
  for (int64_t h = blockIdx.x; h < static_cast<int64_t>(*hubs.count); h += gridDim.x) {
    const int64_t n = hubs.pair[h];
    const Pair<Col> pair = pair_of(p, n);
    for (int64_t part = kCn; part <= kRight; part *= 2) {
      if (!(p.parts & part)) continue;
      X* row = out + (part_row(p.parts, part) * p.num_pairs + n) * num_features;
      gather_part<1, 1>(block, p, pair, part, found, x, int64_t{blockIdx.y} * kThreads, num_features, row);
    }
  }
}

template <class Col, class X>
void cn_gather(const char* op, const Device& device, const Problem<Col, typename Accumulate<X>::type>& problem,
               const Tensor& pairs, const X* x, int64_t num_features, X* out) {
  using Acc = typename Accumulate<X>::type;
  if (num_features == 0) return;
  HubList list(pairs, problem.num_pairs);
  const auto tile = by_four(x, num_features) ? gather_tile<Col, X, Acc, 4> : gather_tile<Col, X, Acc, 1>;
  launch(op, device, tile, {blocks_for(problem.num_pairs, kTile)}, kThreads, sizeof(GatherMemory<Col, Acc>), problem,
         list.hubs(), x, num_features, out);
  launch(op, device, gather_hubs<Col, X, Acc>,
         {std::min(problem.num_pairs, 2 * device.multiprocessors()), blocks_for(num_features, kThreads)}, kThreads,
         sizeof(GatherMemory<Col, Acc>), problem, list.hubs(), x, num_features, out);
}

}  // namespace graphmem
