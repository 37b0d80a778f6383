// segment_gather_sum: out_s = sum over the entries k of segment s of keep_q weight_q x[idx_k], q = slot_k or k. It is the
// encoder's masked SpMM, the second stage of completion and, on the transposed structure, its own gradient. The last
// three arguments are that structure, where the caller has it; only the gradient reads them.
// segment_gather_dot: the gradient with respect to the weights. A segment belongs to one thread, entries ascend.
#include <torch/csrc/stable/library.h>

#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

// Features are summed in blocks that stay in registers, so that an entry costs one load a lane; entries still ascend.
constexpr int64_t kBlock = 64;

template <class Index, class X, class Acc>
struct Gather {
  const int64_t* ptr;
  const Index* idx;
  const int64_t* slot;
  const Acc* weight;
  const bool* keep;
  const X* x;
  int64_t num_features;
  X* out;
};

template <int64_t kWidth, class Index, class X, class Acc>
GRAPHMEM_INLINE void gather_block(const Gather<Index, X, Acc>& g, int64_t s, int64_t f, int64_t width) {
  Acc sums[kWidth] = {};
  for (int64_t k = g.ptr[s]; k < g.ptr[s + 1]; ++k) {
    const int64_t q = g.slot == nullptr ? k : g.slot[k];
    if (g.keep != nullptr && !g.keep[q]) continue;
    const Acc w = g.weight == nullptr ? Acc(1) : g.weight[q];
    const X* row = g.x + g.idx[k] * g.num_features + f;
    if (width == kWidth) {
      for (int64_t n = 0; n < kWidth; ++n) sums[n] += w * static_cast<Acc>(row[n]);
    } else {
      for (int64_t n = 0; n < width; ++n) sums[n] += w * static_cast<Acc>(row[n]);
    }
  }
  X* out = g.out + s * g.num_features + f;
  for (int64_t n = 0; n < width; ++n) out[n] = static_cast<X>(sums[n]);
}

template <class Index, class X, class Acc>
GRAPHMEM_INLINE void gather_rows(const Gather<Index, X, Acc>& g, int64_t begin, int64_t end) {
  for (int64_t s = begin; s < end; ++s) {
    int64_t f = 0;
    for (; f + kBlock <= g.num_features; f += kBlock) gather_block<kBlock>(g, s, f, kBlock);
    if (f < g.num_features) gather_block<kBlock>(g, s, f, g.num_features - f);
  }
}

// Function multiversioning does not reach into templates, so each hot combination has a clone of its own.
#define GRAPHMEM_GATHER_CLONE(Index, X, Acc)                                                    \
  GRAPHMEM_CLONES void run_gather(const Gather<Index, X, Acc>& g, int64_t begin, int64_t end) { \
    gather_rows(g, begin, end);                                                                 \
  }
GRAPHMEM_GATHER_CLONE(int32_t, float, float)
GRAPHMEM_GATHER_CLONE(int64_t, float, float)
GRAPHMEM_GATHER_CLONE(int32_t, double, double)
GRAPHMEM_GATHER_CLONE(int64_t, double, double)
GRAPHMEM_GATHER_CLONE(int32_t, torch::headeronly::BFloat16, float)
GRAPHMEM_GATHER_CLONE(int64_t, torch::headeronly::BFloat16, float)
GRAPHMEM_GATHER_CLONE(int32_t, torch::headeronly::Half, float)
GRAPHMEM_GATHER_CLONE(int64_t, torch::headeronly::Half, float)
#undef GRAPHMEM_GATHER_CLONE

Tensor segment_gather_sum_cpu(Tensor ptr, Tensor idx, std::optional<Tensor> slot, std::optional<Tensor> weight,
                              std::optional<Tensor> keep, Tensor x, std::optional<Tensor>, std::optional<Tensor>,
                              std::optional<Tensor>) {
  constexpr const char* kOp = "segment_gather_sum";
  const int64_t num_segments = ptr.size(0) - 1, num_features = x.size(1);
  Tensor out = torch::stable::new_empty(x, {num_segments, num_features});
  dispatch_index(kOp, idx.scalar_type(), [&](auto index) {
    dispatch_feature(kOp, x.scalar_type(), [&](auto feature) {
      using Index = typename decltype(index)::type;
      using X = typename decltype(feature)::type;
      using Acc = typename Accumulate<X>::type;
      const Gather<Index, X, Acc> gather{data<int64_t>(kOp, "ptr", ptr),
                                         data<Index>(kOp, "idx", idx),
                                         data<int64_t>(kOp, "slot", slot),
                                         data<Acc>(kOp, "weight", weight),
                                         data<bool>(kOp, "keep", keep),
                                         data<X>(kOp, "x", x),
                                         num_features,
                                         static_cast<X*>(out.mutable_data_ptr())};
      parallel_chunks(num_segments, 64, [&](int64_t begin, int64_t end) { run_gather(gather, begin, end); });
    });
  });
  return out;
}

Tensor segment_gather_dot_cpu(Tensor ptr, Tensor idx, std::optional<Tensor> keep, Tensor x, Tensor grad) {
  constexpr const char* kOp = "segment_gather_dot";
  const int64_t num_segments = ptr.size(0) - 1, num_features = x.size(1);
  Tensor out = torch::stable::new_empty(x, {idx.size(0)}, accumulate_dtype(x.scalar_type()));
  const int64_t* offsets = data<int64_t>(kOp, "ptr", ptr);
  const bool* kept = data<bool>(kOp, "keep", keep);
  dispatch_index(kOp, idx.scalar_type(), [&](auto index) {
    dispatch_feature(kOp, x.scalar_type(), [&](auto feature) {
      using Index = typename decltype(index)::type;
      using X = typename decltype(feature)::type;
      using Acc = typename Accumulate<X>::type;
      const Index* columns = data<Index>(kOp, "idx", idx);
      const X* values = data<X>(kOp, "x", x);
      const X* grads = data<X>(kOp, "grad", grad);
      Acc* dots = static_cast<Acc*>(out.mutable_data_ptr());
      parallel_chunks(num_segments, 64, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; ++s) {
          for (int64_t k = offsets[s]; k < offsets[s + 1]; ++k) {
            Acc sum = 0;
            if (kept == nullptr || kept[k]) {
              const X* row = values + columns[k] * num_features;
              for (int64_t f = 0; f < num_features; ++f) {
                sum += static_cast<Acc>(grads[s * num_features + f]) * static_cast<Acc>(row[f]);
              }
            }
            dots[k] = sum;
          }
        }
      });
    });
  });
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("segment_gather_dot", TORCH_BOX(&graphmem::segment_gather_dot_cpu));
  m.impl("segment_gather_sum", TORCH_BOX(&graphmem::segment_gather_sum_cpu));
}
