// cn_gather_sum: sums of feature rows over the common, left and right neighbours of each pair, and its gradient with
// respect to the features; see cuda/pairs.h. The bits are those of the CPU: a feature of a pair belongs to one thread, which
// adds its neighbours in ascending order.
//
// Gradient: the neighbours of all pairs are listed (count, running sum, fill), the list is sorted by node, stably, and
// each node adds its rows of `grad` in the order of the pairs. Nothing is atomic. The length of the list passes through the
// host: this operator waits for the stream once. Scratch space is about 40 bytes an entry of the list, of which kEntries
// are made at a time.
#include <algorithm>
#include <vector>

#include "cuda/algorithm.h"
#include "cuda/cn_count.h"
#include "cuda/cn_gather_sum.h"
#include "cuda/segment_gather.h"
#include "cuda/transpose.h"

namespace graphmem {
namespace {

#ifndef GRAPHMEM_BACKWARD_ENTRIES
#define GRAPHMEM_BACKWARD_ENTRIES (int64_t{1} << 24)
#endif
constexpr int64_t kEntries = GRAPHMEM_BACKWARD_ENTRIES;

Tensor cn_gather_sum_cuda(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a, std::optional<Tensor> weight_a,
                          Tensor rowptr_b, Tensor col_b, std::optional<Tensor> keep_b, std::optional<Tensor> weight_b,
                          Tensor pairs, Tensor x, bool exclude_endpoints, int64_t parts) {
  constexpr const char* kOp = "cn_gather_sum";
  const PairArguments args{
      {rowptr_a, col_a, keep_a, weight_a}, {rowptr_b, col_b, keep_b, weight_b}, pairs, exclude_endpoints, parts};
  const Device device(x);
  return args.dispatch(kOp, "x", x, [&](const auto& problem, auto feature) {
    using X = typename decltype(feature)::type;
    const X* rows = node_features<X>(kOp, x, problem.num_nodes);
    Tensor out = torch::stable::new_empty(x, {count_parts(parts), problem.num_pairs, x.size(1)});
    cn_gather(kOp, device, problem, pairs, rows, x.size(1), static_cast<X*>(out.mutable_data_ptr()));
    return out;
  });
}

// The neighbours of pairs: pair n has the entries [ends[n - 1], ends[n]), less `base`.
template <class Col, class Acc>
struct List {
  const int64_t* ends;
  int64_t first_pair, base, num_pairs;  // of all pairs, not of those that are listed now
  Col* node;
  int64_t* row;  // of `grad`
  Acc* weight;   // null where all are 1
};

__global__ void entries_of_pairs(const int64_t* sizes, int64_t num_pairs, int64_t parts, int64_t* entries) {
  const int64_t n = global_thread();
  if (n >= num_pairs) return;
  int64_t count = 0;
  for (int64_t part = kCn, row = 0; part <= kRight; part *= 2, ++row) {
    if (parts & part) count += sizes[row * num_pairs + n];
  }
  entries[n] = count;
}

template <class Group, class Col, class Acc>
__device__ void list_pair(const Group& group, const Problem<Col, Acc>& p, const Pair<Col>& pair, int64_t n,
                          const List<Col, Acc>& list) {
  const int64_t number = list.first_pair + n;
  int64_t at = (number == 0 ? 0 : list.ends[number - 1]) - list.base;
  for (int64_t part = kCn; part <= kRight; part *= 2) {
    if (!(p.parts & part)) continue;
    const int64_t row = part_row(p.parts, part) * list.num_pairs + number;
    visit_part(group, pair, part, 0, 1, [&](bool flag, Col u, int64_t slot_a, int64_t slot_b) {
      int total;
      const int64_t to = at + group.place(flag, total);
      at += total;
      if (!flag) return;
      list.node[to] = u;
      list.row[to] = row;
      if (list.weight != nullptr) list.weight[to] = part_weight(p, part, slot_a, slot_b);
    });
  }
}

template <class Col, class Acc>
__global__ void __launch_bounds__(kThreads) list_tile(Problem<Col, Acc> p, Hubs hubs, List<Col, Acc> list) {
  each_pair_of_tile(p, hubs, *shared_memory<TileMemory<Col>>(),
                    [&](const auto& group, int64_t n, const Pair<Col>& pair) { list_pair(group, p, pair, n, list); });
}

template <class Col, class Acc>
__global__ void __launch_bounds__(kThreads) list_hubs(Problem<Col, Acc> p, Hubs hubs, List<Col, Acc> list) {
  const Block block(shared_memory<int>());
  for (int64_t h = blockIdx.x; h < static_cast<int64_t>(*hubs.count); h += gridDim.x) {
    list_pair(block, p, pair_of(p, hubs.pair[h]), hubs.pair[h], list);
  }
}

__global__ void rows_in_order(const int64_t* slots, const int64_t* rows, int64_t entries, int64_t* out) {
  const int64_t k = global_thread();
  if (k < entries) out[k] = rows[slots[k]];
}

template <class Col, class X>
class Gradient {
 public:
  using Acc = typename Accumulate<X>::type;

  Gradient(const char* op, const Device& device, const Problem<Col, Acc>& problem, const Tensor& pairs, const X* grad,
           Tensor& sums)
      : op_(op), device_(device), problem_(problem), pairs_(pairs), grad_(grad), sums_(sums) {}

  void run() {
    const int64_t num_pairs = problem_.num_pairs;
    if (num_pairs == 0 || sums_.numel() == 0) return;
    Tensor ends = count_entries();
    ends_ = static_cast<const int64_t*>(ends.const_data_ptr());
    int64_t total = 0;
    device_.read(op_, &total, ends_ + num_pairs - 1, 1);
    if (total <= kEntries) return chunk(0, num_pairs, 0, total);
    std::vector<int64_t> host(num_pairs);
    device_.read(op_, host.data(), ends_, num_pairs);
    for (int64_t first = 0; first < num_pairs;) {
      const int64_t base = first == 0 ? 0 : host[first - 1];
      const auto limit = std::upper_bound(host.begin() + first, host.end(), base + kEntries);
      const int64_t last = std::max<int64_t>(limit - host.begin(), first + 1);
      chunk(first, last, base, host[last - 1] - base);
      first = last;
    }
  }

 private:
  Tensor count_entries() {
    const auto &a = problem_.a, &b = problem_.b;
    const int64_t num_pairs = problem_.num_pairs;
    const Problem<Col, float> unweighted{{a.rowptr, a.col, a.keep, nullptr},
                                         {b.rowptr, b.col, b.keep, nullptr},
                                         problem_.source,
                                         problem_.target,
                                         num_pairs,
                                         problem_.num_nodes,
                                         problem_.exclude_endpoints,
                                         problem_.parts};
    const Tensor sizes = cn_sizes(op_, device_, unweighted, pairs_);
    Tensor counts = torch::stable::new_empty(pairs_, {num_pairs}), ends = torch::stable::new_empty(pairs_, {num_pairs});
    int64_t* entries = static_cast<int64_t*>(counts.mutable_data_ptr());
    launch(op_, device_, entries_of_pairs, {blocks_for(num_pairs, kThreads)}, kThreads, 0,
           static_cast<const int64_t*>(sizes.const_data_ptr()), num_pairs, problem_.parts, entries);
    running_sum(op_, device_, pairs_, entries, static_cast<int64_t*>(ends.mutable_data_ptr()), num_pairs);
    return ends;
  }

  // Adds the terms of the pairs [first, last), which have `entries` neighbours.
  void chunk(int64_t first, int64_t last, int64_t base, int64_t entries) {
    if (entries == 0) return;
    Tensor node = torch::stable::new_empty(pairs_, {entries}, sizeof(Col) == 4 ? ScalarType::Int : ScalarType::Long);
    Tensor row = torch::stable::new_empty(pairs_, {entries}), sorted = torch::stable::new_empty(pairs_, {entries});
    const bool weighted = problem_.weighted();
    Tensor weight = torch::stable::new_empty(sums_, {weighted ? entries : 0});
    Acc* weights = weighted ? static_cast<Acc*>(weight.mutable_data_ptr()) : nullptr;
    const List<Col, Acc> list{ends_,
                              first,
                              base,
                              problem_.num_pairs,
                              static_cast<Col*>(node.mutable_data_ptr()),
                              static_cast<int64_t*>(row.mutable_data_ptr()),
                              weights};
    auto part = problem_;
    part.source += first;
    part.target += first;
    part.num_pairs = last - first;
    HubList hubs(pairs_, part.num_pairs);
    launch(op_, device_, list_tile<Col, Acc>, {blocks_for(part.num_pairs, kTile)}, kThreads, sizeof(TileMemory<Col>),
           part, hubs.hubs(), list);
    launch(op_, device_, list_hubs<Col, Acc>, {std::min(part.num_pairs, 4 * device_.multiprocessors())}, kThreads,
           kThreads / 32 * sizeof(int), part, hubs.hubs(), list);
    const int64_t num_nodes = sums_.size(0);
    const ByColumn order = by_column(op_, device_, pairs_, list.node, entries, num_nodes);
    const int64_t* slots = static_cast<const int64_t*>(order.slot.const_data_ptr());
    int64_t* rows = static_cast<int64_t*>(sorted.mutable_data_ptr());
    launch(op_, device_, rows_in_order, {blocks_for(entries, kThreads)}, kThreads, 0, slots, list.row, entries, rows);
    const Entries<int64_t, Acc> lists{static_cast<const int64_t*>(order.ptr.const_data_ptr()), rows, slots, weights,
                                      nullptr};
    segment_sums(op_, device_, lists, num_nodes, grad_, sums_.size(1), true,
                 static_cast<Acc*>(sums_.mutable_data_ptr()));
  }

  const char* op_;
  const Device& device_;
  const Problem<Col, Acc>& problem_;
  const Tensor& pairs_;
  const X* grad_;
  Tensor& sums_;
  const int64_t* ends_ = nullptr;
};

Tensor cn_gather_sum_backward_cuda(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a,
                                   std::optional<Tensor> weight_a, Tensor rowptr_b, Tensor col_b,
                                   std::optional<Tensor> keep_b, std::optional<Tensor> weight_b, Tensor pairs,
                                   Tensor grad, int64_t num_nodes, bool exclude_endpoints, int64_t parts) {
  constexpr const char* kOp = "cn_gather_sum_backward";
  const PairArguments args{
      {rowptr_a, col_a, keep_a, weight_a}, {rowptr_b, col_b, keep_b, weight_b}, pairs, exclude_endpoints, parts};
  const Device device(grad);
  return args.dispatch(kOp, "grad", grad, [&]<class Col, class Acc>(const Problem<Col, Acc>& problem, auto feature) {
    using X = typename decltype(feature)::type;
    expect_number(kOp, "num_nodes", num_nodes, problem.num_nodes);
    const X* rows = data<X>(kOp, "grad", grad, {count_parts(parts), problem.num_pairs, kAny});
    Tensor sums = torch::stable::new_zeros(grad, {num_nodes, grad.size(2)}, accumulate_dtype(grad.scalar_type()));
    Gradient<Col, X>(kOp, device, problem, pairs, rows, sums).run();
    return std::is_same_v<X, Acc> ? sums : torch::stable::to(sums, grad.scalar_type());
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("cn_gather_sum", TORCH_BOX(&graphmem::cn_gather_sum_cuda));
  m.impl("cn_gather_sum_backward", TORCH_BOX(&graphmem::cn_gather_sum_backward_cuda));
}
