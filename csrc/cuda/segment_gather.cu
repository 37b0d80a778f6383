// segment_gather_sum: out_s = sum over the entries k of segment s of keep_q weight_q x[idx_k], q = slot_k or k. A warp, or 8
// lanes of one where rows are short, takes a segment and a slice of the features; entries ascend, as on the CPU.
// segment_gather_dot: the gradient with respect to the weights. A warp takes 32 entries; it reads their rows together and
// each lane adds up one product in ascending order of the features.
#include "cuda/group.h"
#include "cuda/segment_gather.h"

namespace graphmem {
namespace {

template <int kLanes, int kPack, class Index, class X, class Acc, class Out>
__global__ void __launch_bounds__(kThreads)
    sum_segments(Entries<Index, Acc> lists, int64_t count, const X* x, int64_t num_features, bool add, Out* out) {
  const Lanes<kLanes> group;
  const int64_t s = global_thread() / kLanes;
  if (s >= count) return;
  using Slice = Sums<kLanes, kPack, 1, Acc>;
  Slice sums(group.rank(), int64_t{blockIdx.y} * Slice::kSlice, num_features);
  Out* row = out + s * num_features;
  if (add) sums.start_from(row);
  const int64_t first = lists.ptr[s];
  const auto entry = [&](int64_t k) { return lists.slot == nullptr ? first + k : lists.slot[first + k]; };
  sums.add(
      lists.ptr[s + 1] - first,
      [&](int64_t k) {
        const bool kept = lists.keep == nullptr || lists.keep[entry(k)];
        return kept ? x + int64_t{lists.idx[first + k]} * num_features : nullptr;
      },
      [&](int64_t k) { return lists.weight == nullptr ? Acc(1) : lists.weight[entry(k)]; });
  sums.store(row);
}

constexpr int kDotWarps = 4;

template <class Index, class X, class Acc>
__global__ void __launch_bounds__(32 * kDotWarps)
    dot_entries(const int64_t* ptr, int64_t num_segments, const Index* idx, const bool* keep, int64_t entries,
                const X* x, const X* grad, int64_t num_features, Acc* dots) {
  const Lanes<32> warp;
  // Products of 32 entries and 32 features; a column of padding keeps lanes in different banks.
  Acc* products = shared_memory<Acc>() + threadIdx.x / 32 * (32 * 33);
  const int64_t base = global_thread() - warp.rank(), own = global_thread();
  const bool valid = own < entries && (keep == nullptr || keep[own]);
  const int64_t node = valid ? static_cast<int64_t>(idx[own]) : -1;
  const int64_t segment = valid ? lower_bound(ptr, 0, num_segments + 1, own + 1) - 1 : 0;
  Acc sum = 0;
  for (int64_t slice = 0; slice < num_features; slice += 32) {
    const int64_t f = slice + warp.rank(), width = num_features - slice < 32 ? num_features - slice : 32;
    for (int e = 0; e < 32 && base + e < entries; ++e) {
      const int64_t from = warp.shuffle(node, e), s = warp.shuffle(segment, e);
      if (from < 0 || f >= num_features) continue;
      products[e * 33 + warp.rank()] =
          static_cast<Acc>(grad[s * num_features + f]) * static_cast<Acc>(x[from * num_features + f]);
    }
    warp.sync();
    if (valid) {
      for (int64_t g = 0; g < width; ++g) sum += products[warp.rank() * 33 + g];
    }
    warp.sync();
  }
  if (own < entries) dots[own] = sum;
}

}  // namespace

template <class Index, class X, class Out>
void segment_sums(const char* op, const Device& device, const Entries<Index, typename Accumulate<X>::type>& lists,
                  int64_t count, const X* x, int64_t num_features, bool add, Out* out) {
  using Acc = typename Accumulate<X>::type;
  const bool fours = by_four(x, num_features) && by_four(out, num_features);
  const int64_t pack = fours ? 4 : 1, lanes = num_features <= 8 * pack ? 8 : 32;
  const auto kernel = lanes == 8
                          ? (fours ? sum_segments<8, 4, Index, X, Acc, Out> : sum_segments<8, 1, Index, X, Acc, Out>)
                          : (fours ? sum_segments<32, 4, Index, X, Acc, Out> : sum_segments<32, 1, Index, X, Acc, Out>);
  launch(op, device, kernel, {blocks_for(count, kThreads / lanes), blocks_for(num_features, lanes * pack)}, kThreads, 0,
         lists, count, x, num_features, add, out);
}

#define GRAPHMEM_SEGMENT_SUMS(Index, X, Out)                                                                           \
  template void segment_sums(const char*, const Device&, const Entries<Index, typename Accumulate<X>::type>&, int64_t, \
                             const X*, int64_t, bool, Out*);
using torch::headeronly::BFloat16;
using torch::headeronly::Half;
// For the gradient of cn_gather_sum, whose sums are rounded when all are added.
GRAPHMEM_SEGMENT_SUMS(int64_t, float, float)
GRAPHMEM_SEGMENT_SUMS(int64_t, double, double)
GRAPHMEM_SEGMENT_SUMS(int64_t, BFloat16, float)
GRAPHMEM_SEGMENT_SUMS(int64_t, Half, float)
#undef GRAPHMEM_SEGMENT_SUMS

namespace {

Tensor segment_gather_sum_cuda(Tensor ptr, Tensor idx, std::optional<Tensor> slot, std::optional<Tensor> weight,
                               std::optional<Tensor> keep, Tensor x, std::optional<Tensor> tptr,
                               std::optional<Tensor> trow, std::optional<Tensor> tslot) {
  constexpr const char* kOp = "segment_gather_sum";
  const SegmentArguments args{ptr, idx, slot, weight, keep, x, tptr, trow, tslot};
  const Device device(x);
  return args.dispatch(kOp, [&]<class X>(const auto& lists, int64_t count, const X* rows) {
    Tensor out = torch::stable::new_empty(x, {count, x.size(1)});
    segment_sums(kOp, device, lists, count, rows, x.size(1), false, static_cast<X*>(out.mutable_data_ptr()));
    return out;
  });
}

Tensor segment_gather_dot_cuda(Tensor ptr, Tensor idx, std::optional<Tensor> keep, Tensor x, Tensor grad) {
  constexpr const char* kOp = "segment_gather_dot";
  const SegmentArguments args{ptr, idx, std::nullopt, std::nullopt, keep, x};
  const Device device(x);
  return args.dispatch(
      kOp, [&]<class Index, class Acc, class X>(const Entries<Index, Acc>& lists, int64_t count, const X* rows) {
        const int64_t entries = idx.size(0);
        const X* grads = data<X>(kOp, "grad", grad, {count, x.size(1)});
        Tensor out = torch::stable::new_empty(x, {entries}, accumulate_dtype(x.scalar_type()));
        launch(kOp, device, dot_entries<Index, X, Acc>, {blocks_for(entries, 32 * kDotWarps)}, 32 * kDotWarps,
               kDotWarps * 32 * 33 * sizeof(Acc), lists.ptr, count, lists.idx, lists.keep, entries, rows, grads,
               x.size(1), static_cast<Acc*>(out.mutable_data_ptr()));
        return out;
      });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("segment_gather_dot", TORCH_BOX(&graphmem::segment_gather_dot_cuda));
  m.impl("segment_gather_sum", TORCH_BOX(&graphmem::segment_gather_sum_cuda));
}
