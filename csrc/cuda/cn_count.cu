// cn_count: sizes of the common, left and right neighbour sets of each pair, int64 [3, B]; see cuda/pairs.h.
// The shorter row is looked up in the longer one; with masks or exclusions every slot of both rows is looked at as well.
// A hub pair is shared by the warps of several blocks, which add their integers. Deterministic.
#include "cuda/cn_count.h"

namespace graphmem {
namespace {

// Blocks that share a hub pair.
constexpr int64_t kShares = 8;

// What this thread saw of a stretch of the pair.
struct Seen {
  int64_t cn = 0, a = 0, b = 0;
};

template <class Group, class Col>
__device__ int64_t count_present(const Group& group, const Pair<Col>& pair, const Row<Col>& row, int64_t share,
                                 int64_t shares) {
  int64_t seen = 0;
  const int64_t end = row.length * (share + 1) / shares;
  for (int64_t k = row.length * share / shares + group.rank(); k < end; k += Group::kSize) {
    seen += row.present(k) && pair.wanted(row.col[k]);
  }
  return seen;
}

template <class Group, class Col>
__device__ Seen count(const Group& group, const Pair<Col>& pair, int64_t share, int64_t shares) {
  Seen seen;
  visit_part(group, pair, kCn, share, shares, [&](bool flag, Col, int64_t, int64_t) { seen.cn += flag; });
  if (pair.a.keep == nullptr && pair.b.keep == nullptr && !pair.exclude_endpoints) {
    // Without masks and exclusions the differences follow from the row lengths.
    if (share == 0 && group.rank() == 0) seen.a = pair.a.length, seen.b = pair.b.length;
  } else {
    seen.a = count_present(group, pair, pair.a, share, shares);
    seen.b = count_present(group, pair, pair.b, share, shares);
  }
  return {group.sum(seen.cn), group.sum(seen.a), group.sum(seen.b)};
}

template <class Col>
__global__ void __launch_bounds__(kThreads) count_tile(Problem<Col, float> p, Hubs hubs, int64_t* sizes) {
  each_pair_of_tile(p, hubs, *shared_memory<TileMemory<Col>>(),
                    [&](const auto& group, int64_t n, const Pair<Col>& pair) {
                      const Seen seen = count(group, pair, 0, 1);
                      if (group.rank() != 0) return;
                      sizes[n] = seen.cn;
                      sizes[p.num_pairs + n] = seen.a - seen.cn;
                      sizes[2 * p.num_pairs + n] = seen.b - seen.cn;
                    });
}

template <class Col>
__global__ void __launch_bounds__(kThreads) count_hubs(Problem<Col, float> p, Hubs hubs, int64_t* sizes) {
  const Lanes<32> warp;
  constexpr int64_t kWarps = kThreads / 32;
  const int64_t share = blockIdx.y * kWarps + threadIdx.x / 32, shares = gridDim.y * kWarps;
  for (int64_t h = blockIdx.x; h < static_cast<int64_t>(*hubs.count); h += gridDim.x) {
    const int64_t n = hubs.pair[h];
    const Seen seen = count(warp, pair_of(p, n), share, shares);
    if (warp.rank() != 0) continue;
    auto add = [&](int64_t row, int64_t value) {
      atomicAdd(reinterpret_cast<unsigned long long*>(sizes) + row * p.num_pairs + n,
                static_cast<unsigned long long>(value));
    };
    add(0, seen.cn);
    add(1, seen.a - seen.cn);
    add(2, seen.b - seen.cn);
  }
}

}  // namespace

template <class Col>
Tensor cn_sizes(const char* op, const Device& device, Problem<Col, float> problem, const Tensor& pairs) {
  const int64_t shape[] = {3, problem.num_pairs};  // nvcc 13.0 spoils a braced list of a template's argument
  Tensor out = torch::stable::new_zeros(pairs, Shape(shape, 2));
  int64_t* sizes = static_cast<int64_t*>(out.mutable_data_ptr());
  // With masks all of both rows is walked, otherwise the shorter one alone.
  problem.parts = problem.masked() ? kCn | kLeft | kRight : kCn;
  HubList list(pairs, problem.num_pairs);
  launch(op, device, count_tile<Col>, {blocks_for(problem.num_pairs, kTile)}, kThreads, sizeof(TileMemory<Col>),
         problem, list.hubs(), sizes);
  launch(op, device, count_hubs<Col>, {std::min(problem.num_pairs, device.multiprocessors()), kShares}, kThreads, 0,
         problem, list.hubs(), sizes);
  return out;
}

template Tensor cn_sizes(const char*, const Device&, Problem<int32_t, float>, const Tensor&);
template Tensor cn_sizes(const char*, const Device&, Problem<int64_t, float>, const Tensor&);

namespace {

Tensor cn_count_cuda(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a, Tensor rowptr_b, Tensor col_b,
                     std::optional<Tensor> keep_b, Tensor pairs, bool exclude_endpoints) {
  constexpr const char* kOp = "cn_count";
  const Device device(pairs);
  const PairArguments args{{rowptr_a, col_a, keep_a}, {rowptr_b, col_b, keep_b}, pairs, exclude_endpoints};
  return args.dispatch(kOp, [&](const auto& problem) { return cn_sizes(kOp, device, problem, pairs); });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) { m.impl("cn_count", TORCH_BOX(&graphmem::cn_count_cuda)); }
