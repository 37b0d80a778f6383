// cn_index: the nodes (and edge slots) of the wanted parts of each pair, at offsets that the caller took from cn_count;
// see cuda/pairs.h. Layout of `idx`, `slot` and `slot_b` as in cpu/cn_index.cpp. Deterministic.
#include <tuple>

#include "cuda/pairs.h"

namespace graphmem {
namespace {

template <class Col>
struct Out {
  const int64_t* offsets;
  Col* idx;
  int64_t *slot, *slot_b;
};

template <class Group, class Col>
__device__ void fill(const Group& group, const Pair<Col>& pair, int64_t n, int64_t num_pairs, int64_t parts,
                     const Out<Col>& out) {
  for (int64_t part = kCn; part <= kRight; part *= 2) {
    if (!(parts & part)) continue;
    int64_t at = out.offsets[part_row(parts, part) * (num_pairs + 1) + n];
    visit_part(group, pair, part, 0, 1, [&](bool flag, Col u, int64_t slot_a, int64_t slot_b) {
      int total;
      const int64_t to = at + group.place(flag, total);
      at += total;
      if (!flag) return;
      out.idx[to] = u;
      out.slot[to] = part == kRight ? slot_b : slot_a;
      if (part == kCn) out.slot_b[to] = slot_b;
    });
  }
}

template <class Col>
__global__ void __launch_bounds__(kThreads) index_tile(Problem<Col, float> p, Hubs hubs, Out<Col> out) {
  each_pair_of_tile(
      p, hubs, *shared_memory<TileMemory<Col>>(),
      [&](const auto& group, int64_t n, const Pair<Col>& pair) { fill(group, pair, n, p.num_pairs, p.parts, out); });
}

template <class Col>
__global__ void __launch_bounds__(kThreads) index_hubs(Problem<Col, float> p, Hubs hubs, Out<Col> out) {
  const Block block(shared_memory<int>());
  for (int64_t h = blockIdx.x; h < static_cast<int64_t>(*hubs.count); h += gridDim.x) {
    fill(block, pair_of(p, hubs.pair[h]), hubs.pair[h], p.num_pairs, p.parts, out);
  }
}

std::tuple<Tensor, Tensor, Tensor> cn_index_cuda(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a,
                                                 Tensor rowptr_b, Tensor col_b, std::optional<Tensor> keep_b,
                                                 Tensor pairs, bool exclude_endpoints, int64_t parts, Tensor ptr,
                                                 int64_t total, int64_t num_cn) {
  constexpr const char* kOp = "cn_index";
  const Device device(pairs);
  const PairArguments args{{rowptr_a, col_a, keep_a}, {rowptr_b, col_b, keep_b}, pairs, exclude_endpoints, parts};
  return args.dispatch(kOp, [&]<class Col>(const Problem<Col, float>& problem) {
    const int64_t num_pairs = problem.num_pairs;
    const int64_t* starts = part_offsets(kOp, ptr, parts, num_pairs, total, num_cn);
    Tensor idx = torch::stable::new_empty(col_a, {total});
    Tensor slot = torch::stable::new_empty(pairs, {total});
    Tensor slot_b = torch::stable::new_empty(pairs, {num_cn});
    const Out<Col> out{starts, static_cast<Col*>(idx.mutable_data_ptr()),
                       static_cast<int64_t*>(slot.mutable_data_ptr()),
                       static_cast<int64_t*>(slot_b.mutable_data_ptr())};
    HubList list(pairs, num_pairs);
    launch(kOp, device, index_tile<Col>, {blocks_for(num_pairs, kTile)}, kThreads, sizeof(TileMemory<Col>), problem,
           list.hubs(), out);
    launch(kOp, device, index_hubs<Col>, {std::min(num_pairs, 4 * device.multiprocessors())}, kThreads,
           kThreads / 32 * sizeof(int), problem, list.hubs(), out);
    return std::tuple(idx, slot, slot_b);
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) { m.impl("cn_index", TORCH_BOX(&graphmem::cn_index_cuda)); }
