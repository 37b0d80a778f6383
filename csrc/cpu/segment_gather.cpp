// segment_gather_sum: out_s = sum over the entries k of segment s of keep_q weight_q x[idx_k], q = slot_k or k. It is the
// encoder's masked SpMM, the second stage of completion and, on the transposed structure, its own gradient. The last
// three arguments are that structure, where the caller has it; only the gradient reads them.
// segment_gather_dot: the gradient with respect to the weights. A segment belongs to one thread, entries ascend.
#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "cpu/fresh.h"
#include "cpu/gather.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

Tensor segment_gather_sum_cpu(Tensor ptr, Tensor idx, std::optional<Tensor> slot, std::optional<Tensor> weight,
                              std::optional<Tensor> keep, Tensor x, std::optional<Tensor>, std::optional<Tensor>,
                              std::optional<Tensor>) {
  constexpr const char* kOp = "segment_gather_sum";
  const int64_t num_segments = ptr.size(0) - 1, num_features = x.size(1);
  Tensor out = fresh(x, {num_segments, num_features});
  dispatch_index(kOp, idx.scalar_type(), [&](auto index) {
    dispatch_feature(kOp, x.scalar_type(), [&](auto feature) {
      using Index = typename decltype(index)::type;
      using X = typename decltype(feature)::type;
      using Acc = typename Accumulate<X>::type;
      const Entries<Index, Acc> lists{data<int64_t>(kOp, "ptr", ptr), data<Index>(kOp, "idx", idx),
                                      data<int64_t>(kOp, "slot", slot), data<Acc>(kOp, "weight", weight),
                                      data<bool>(kOp, "keep", keep)};
      const X* rows = data<X>(kOp, "x", x);
      X* sums = static_cast<X*>(out.mutable_data_ptr());
      const bool far = x.numel() * int64_t{sizeof(X)} > kNear;
      parallel_chunks(num_segments, 64, [&](int64_t begin, int64_t end) {
        gather(lists, begin, end, num_features, far, num_features, rows, sums);
      });
    });
  });
  return out;
}

Tensor segment_gather_dot_cpu(Tensor ptr, Tensor idx, std::optional<Tensor> keep, Tensor x, Tensor grad) {
  constexpr const char* kOp = "segment_gather_dot";
  const int64_t num_segments = ptr.size(0) - 1, num_features = x.size(1);
  Tensor out = fresh(x, {idx.size(0)}, accumulate_dtype(x.scalar_type()));
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
