// segment_gather_sum: out_s = sum over the entries k of segment s of keep_q weight_q x[idx_k], q = slot_k or k. It is the
// encoder's masked SpMM, the second stage of completion and, on the transposed structure, its own gradient. The last
// three arguments are that structure, where the caller has it; only the gradient reads them.
// segment_gather_dot: the gradient with respect to the weights. A segment belongs to one thread, entries ascend.
#include <torch/csrc/stable/library.h>

#include "common/segments.h"
#include "cpu/fresh.h"
#include "cpu/gather.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

// About how many nanoseconds a thread takes for rows that lie in its caches.
int64_t effort(int64_t num_segments, int64_t num_entries, int64_t num_features) {
  return 4 * num_segments + num_entries * (4 + num_features / 8);
}

Tensor segment_gather_sum_cpu(Tensor ptr, Tensor idx, std::optional<Tensor> slot, std::optional<Tensor> weight,
                              std::optional<Tensor> keep, Tensor x, std::optional<Tensor> tptr,
                              std::optional<Tensor> trow, std::optional<Tensor> tslot) {
  const SegmentArguments args{ptr, idx, slot, weight, keep, x, tptr, trow, tslot};
  return args.dispatch("segment_gather_sum", [&]<class X>(const auto& lists, int64_t num_segments, const X* rows) {
    const int64_t num_features = x.size(1);
    Tensor out = fresh(x, {num_segments, num_features});
    X* sums = static_cast<X*>(out.mutable_data_ptr());
    const bool far = x.numel() * int64_t{sizeof(X)} > kNear;
    const int64_t work = effort(num_segments, idx.size(0), num_features);
    parallel_chunks(num_segments, 64, far ? kWorthWaking : work, [&](int64_t begin, int64_t end) {
      gather(lists, begin, end, num_features, far, num_features, rows, sums);
    });
    return out;
  });
}

Tensor segment_gather_dot_cpu(Tensor ptr, Tensor idx, std::optional<Tensor> keep, Tensor x, Tensor grad) {
  constexpr const char* kOp = "segment_gather_dot";
  const SegmentArguments args{ptr, idx, std::nullopt, std::nullopt, keep, x};
  return args.dispatch(kOp, [&]<class X>(const auto& lists, int64_t num_segments, const X* values) {
    using Acc = typename Accumulate<X>::type;
    const int64_t num_features = x.size(1);
    const X* grads = data<X>(kOp, "grad", grad, {num_segments, num_features});
    Tensor out = fresh(x, {idx.size(0)}, accumulate_dtype(x.scalar_type()));
    Acc* dots = static_cast<Acc*>(out.mutable_data_ptr());
    const int64_t work = effort(num_segments, idx.size(0), num_features);
    parallel_chunks(num_segments, 64, work, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        for (int64_t k = lists.ptr[s]; k < lists.ptr[s + 1]; ++k) {
          Acc sum = 0;
          if (lists.keep == nullptr || lists.keep[k]) {
            const X* row = values + lists.idx[k] * num_features;
            for (int64_t f = 0; f < num_features; ++f) {
              sum += static_cast<Acc>(grads[s * num_features + f]) * static_cast<Acc>(row[f]);
            }
          }
          dots[k] = sum;
        }
      }
    });
    return out;
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("segment_gather_dot", TORCH_BOX(&graphmem::segment_gather_dot_cpu));
  m.impl("segment_gather_sum", TORCH_BOX(&graphmem::segment_gather_sum_cpu));
}
