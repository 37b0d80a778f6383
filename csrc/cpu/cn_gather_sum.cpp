// cn_gather_sum: sums of feature rows over the common, left and right neighbours of each pair, and its gradient with
// respect to the features. Fused: no index list is stored, memory is inputs + outputs.
//
// Forward: a pair's rows belong to one thread, nodes ascend. Backward: a thread owns a slice of the features and walks
// all pairs in order, so that every element of the gradient is a sum in a fixed order without atomics; the intersection
// is repeated once per slice. Both give the same bits for every number of threads.
#include <torch/csrc/stable/library.h>

#include <type_traits>
#include <vector>

#include "common/parts.h"
#include "cpu/dispatch.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

template <class Col, class Weight, class Add>
void visit_weighted(const Csr<Col, Weight>& a, const Csr<Col, Weight>& b, int64_t i, int64_t j, bool exclude_endpoints,
                    int64_t parts, Add&& add) {
  auto on_cn = [&](Col u, int64_t p, int64_t q) { add(kCn, u, a.weight_of(p) * b.weight_of(q)); };
  if (parts == kCn) {
    visit_common(a, b, i, j, exclude_endpoints, on_cn);
    return;
  }
  visit_parts(
      a, b, i, j, exclude_endpoints,
      [&](Col u, int64_t p, int64_t q) {
        if (parts & kCn) on_cn(u, p, q);
      },
      [&](Col u, int64_t p) {
        if (parts & kLeft) add(kLeft, u, a.weight_of(p));
      },
      [&](Col u, int64_t q) {
        if (parts & kRight) add(kRight, u, b.weight_of(q));
      });
}

template <class Col, class X, class Acc>
void forward(const Csr<Col, Acc>& a, const Csr<Col, Acc>& b, const int64_t* pairs, int64_t num_pairs, const X* x,
             int64_t num_features, bool exclude_endpoints, int64_t parts, X* out) {
  const int64_t num_parts = count_parts(parts);
  parallel_chunks(num_pairs, 64, [&](int64_t begin, int64_t end) {
    std::vector<Acc> sums(num_parts * num_features);
    for (int64_t n = begin; n < end; ++n) {
      std::fill(sums.begin(), sums.end(), Acc(0));
      visit_weighted(
          a, b, pairs[n], pairs[num_pairs + n], exclude_endpoints, parts, [&](int64_t part, Col u, Acc weight) {
            axpy(sums.data() + part_row(parts, part) * num_features, weight, x + u * num_features, num_features);
          });
      for (int64_t r = 0; r < num_parts; ++r) {
        store(out + (r * num_pairs + n) * num_features, sums.data() + r * num_features, num_features);
      }
    }
  });
}

template <class Col, class X, class Acc>
void backward(const Csr<Col, Acc>& a, const Csr<Col, Acc>& b, const int64_t* pairs, int64_t num_pairs, const X* grad,
              int64_t num_features, bool exclude_endpoints, int64_t parts, Acc* sums) {
  // At least a cache line of floats per slice: narrower slices would only repeat the intersections.
  const int64_t slices = std::clamp<int64_t>(num_features / 16, 1, torch::stable::get_num_threads());
  const int64_t width = (num_features + slices - 1) / slices;
  parallel_chunks(num_features, width, [&](int64_t begin, int64_t end) {
    for (int64_t n = 0; n < num_pairs; ++n) {
      visit_weighted(a, b, pairs[n], pairs[num_pairs + n], exclude_endpoints, parts,
                     [&](int64_t part, Col u, Acc weight) {
                       const X* row = grad + (part_row(parts, part) * num_pairs + n) * num_features;
                       axpy(sums + u * num_features + begin, weight, row + begin, end - begin);
                     });
    }
  });
}

Tensor cn_gather_sum_cpu(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a, std::optional<Tensor> weight_a,
                         Tensor rowptr_b, Tensor col_b, std::optional<Tensor> keep_b, std::optional<Tensor> weight_b,
                         Tensor pairs, Tensor x, bool exclude_endpoints, int64_t parts) {
  constexpr const char* kOp = "cn_gather_sum";
  const int64_t num_pairs = pairs.size(1), num_features = x.size(1);
  Tensor out = torch::stable::new_empty(x, {count_parts(parts), num_pairs, num_features});
  dispatch_index(kOp, col_a.scalar_type(), [&](auto index) {
    dispatch_feature(kOp, x.scalar_type(), [&](auto feature) {
      using Col = typename decltype(index)::type;
      using X = typename decltype(feature)::type;
      using Acc = typename Accumulate<X>::type;
      forward<Col, X, Acc>(make_csr<Col, Acc>(kOp, rowptr_a, col_a, keep_a, weight_a),
                           make_csr<Col, Acc>(kOp, rowptr_b, col_b, keep_b, weight_b),
                           data<int64_t>(kOp, "pairs", pairs), num_pairs, data<X>(kOp, "x", x), num_features,
                           exclude_endpoints, parts, static_cast<X*>(out.mutable_data_ptr()));
    });
  });
  return out;
}

Tensor cn_gather_sum_backward_cpu(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a,
                                  std::optional<Tensor> weight_a, Tensor rowptr_b, Tensor col_b,
                                  std::optional<Tensor> keep_b, std::optional<Tensor> weight_b, Tensor pairs,
                                  Tensor grad, int64_t num_nodes, bool exclude_endpoints, int64_t parts) {
  constexpr const char* kOp = "cn_gather_sum_backward";
  const int64_t num_pairs = pairs.size(1), num_features = grad.size(2);
  Tensor sums = torch::stable::new_zeros(grad, {num_nodes, num_features}, accumulate_dtype(grad.scalar_type()));
  dispatch_index(kOp, col_a.scalar_type(), [&](auto index) {
    dispatch_feature(kOp, grad.scalar_type(), [&](auto feature) {
      using Col = typename decltype(index)::type;
      using X = typename decltype(feature)::type;
      using Acc = typename Accumulate<X>::type;
      backward<Col, X, Acc>(make_csr<Col, Acc>(kOp, rowptr_a, col_a, keep_a, weight_a),
                            make_csr<Col, Acc>(kOp, rowptr_b, col_b, keep_b, weight_b),
                            data<int64_t>(kOp, "pairs", pairs), num_pairs, data<X>(kOp, "grad", grad), num_features,
                            exclude_endpoints, parts, static_cast<Acc*>(sums.mutable_data_ptr()));
    });
  });
  if (sums.scalar_type() == grad.scalar_type()) return sums;
  return torch::stable::to(sums, grad.scalar_type());
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("cn_gather_sum", TORCH_BOX(&graphmem::cn_gather_sum_cpu));
  m.impl("cn_gather_sum_backward", TORCH_BOX(&graphmem::cn_gather_sum_backward_cpu));
}
