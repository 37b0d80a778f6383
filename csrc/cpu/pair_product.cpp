// pair_product: e_b = x_i * x_j element by element, for node pairs; and its gradient, summed over the pairs of each node
// in ascending order of (role, pair), so the same bits for every number of threads.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "common/dispatch.h"
#include "cpu/fresh.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

template <class X, class Acc>
inline void product_row(X* out, const X* a, const X* b, int64_t n) {
  for (int64_t f = 0; f < n; ++f) out[f] = static_cast<X>(static_cast<Acc>(a[f]) * static_cast<Acc>(b[f]));
}

template <class X, class Acc>
inline void add_product_row(Acc* sum, const X* a, const X* b, int64_t n) {
  for (int64_t f = 0; f < n; ++f) sum[f] += static_cast<Acc>(a[f]) * static_cast<Acc>(b[f]);
}

Tensor pair_product_cpu(Tensor x, Tensor pairs) {
  constexpr const char* kOp = "pair_product";
  expect_shape(kOp, "x", x, {kAny, kAny});
  const int64_t* source = data<int64_t>(kOp, "pairs", pairs, {2, kAny});
  const int64_t num_pairs = pairs.size(1), num_features = x.size(1);
  expect_rows(kOp, "x", x, num_pairs > 0);
  Tensor out = fresh(x, {num_pairs, num_features});
  dispatch_feature(kOp, "x", x, [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const X* rows = data<X>(kOp, "x", x, {kAny, num_features});
    X* products = static_cast<X*>(out.mutable_data_ptr());
    parallel_chunks(num_pairs, 128, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        product_row<X, Acc>(products + n * num_features, rows + source[n] * num_features,
                            rows + source[num_pairs + n] * num_features, num_features);
      }
    });
  });
  return out;
}

// tptr [N + 1] and tslot [2 B] are csr_transpose of the 2 B ends, sources first.
Tensor pair_product_backward_cpu(Tensor grad, Tensor x, Tensor pairs, Tensor tptr, Tensor tslot) {
  constexpr const char* kOp = "pair_product_backward";
  expect_shape(kOp, "x", x, {kAny, kAny});
  const int64_t* ends = data<int64_t>(kOp, "pairs", pairs, {2, kAny});
  const int64_t num_pairs = pairs.size(1), num_features = x.size(1), num_nodes = x.size(0);
  expect_rows(kOp, "x", x, num_pairs > 0);
  expect_shape(kOp, "tptr", tptr, {num_nodes + 1});
  const int64_t* starts = offsets(kOp, "tptr", tptr, 2 * num_pairs);
  const int64_t* slots = data<int64_t>(kOp, "tslot", tslot, {2 * num_pairs});
  Tensor out = fresh_like(x);
  dispatch_feature(kOp, "x", x, [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const X* rows = data<X>(kOp, "x", x, {num_nodes, num_features});
    const X* grads = data<X>(kOp, "grad", grad, {num_pairs, num_features});
    X* result = static_cast<X*>(out.mutable_data_ptr());
    parallel_chunks(num_nodes, 64, [&](int64_t begin, int64_t end) {
      std::vector<Acc> sums(num_features);
      for (int64_t node = begin; node < end; ++node) {
        std::fill(sums.begin(), sums.end(), Acc(0));
        for (int64_t k = starts[node]; k < starts[node + 1]; ++k) {
          const int64_t end_number = slots[k];
          const int64_t n = end_number < num_pairs ? end_number : end_number - num_pairs;
          const int64_t other = ends[end_number < num_pairs ? end_number + num_pairs : n];
          add_product_row<X, Acc>(sums.data(), grads + n * num_features, rows + other * num_features, num_features);
        }
        store(result + node * num_features, sums.data(), num_features);
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("pair_product", TORCH_BOX(&graphmem::pair_product_cpu));
  m.impl("pair_product_backward", TORCH_BOX(&graphmem::pair_product_backward_cpu));
}
