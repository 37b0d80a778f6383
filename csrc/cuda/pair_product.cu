// pair_product: e_b = x_i * x_j element by element, for node pairs; and its gradient, summed over the pairs of each node in
// ascending order of (role, pair), as on the CPU. A thread owns an element of the output.
#include "common/dispatch.h"
#include "cuda/runtime.h"

namespace graphmem {
namespace {

template <class X, class Acc>
__global__ void products(const X* x, const int64_t* pairs, int64_t num_pairs, int64_t num_features, X* out) {
  const int64_t at = global_thread();
  if (at >= num_pairs * num_features) return;
  const int64_t n = at / num_features, f = at % num_features;
  const X a = x[pairs[n] * num_features + f], b = x[pairs[num_pairs + n] * num_features + f];
  out[at] = static_cast<X>(static_cast<Acc>(a) * static_cast<Acc>(b));
}

template <class X, class Acc>
__global__ void product_gradients(const X* grad, const X* x, const int64_t* ends, int64_t num_pairs, const int64_t* ptr,
                                  const int64_t* slots, int64_t num_nodes, int64_t num_features, X* out) {
  const int64_t at = global_thread();
  if (at >= num_nodes * num_features) return;
  const int64_t node = at / num_features, f = at % num_features, last = ptr[node + 1];
  Acc sum = 0;
#pragma unroll 4
  for (int64_t k = ptr[node]; k < last; ++k) {
    const int64_t end_number = slots[k];
    const int64_t n = end_number < num_pairs ? end_number : end_number - num_pairs;
    const int64_t other = ends[end_number < num_pairs ? end_number + num_pairs : n];
    sum += static_cast<Acc>(grad[n * num_features + f]) * static_cast<Acc>(x[other * num_features + f]);
  }
  out[at] = static_cast<X>(sum);
}

Tensor pair_product_cuda(Tensor x, Tensor pairs) {
  constexpr const char* kOp = "pair_product";
  const Device device(x);
  expect_shape(kOp, "x", x, {kAny, kAny});
  const int64_t* ends = data<int64_t>(kOp, "pairs", pairs, {2, kAny});
  const int64_t num_pairs = pairs.size(1), num_features = x.size(1);
  expect_rows(kOp, "x", x, num_pairs > 0);
  Tensor out = torch::stable::new_empty(x, {num_pairs, num_features});
  dispatch_feature(kOp, "x", x, [&](auto feature) {
    using X = typename decltype(feature)::type;
    launch(kOp, device, products<X, typename Accumulate<X>::type>, {blocks_for(num_pairs * num_features, kThreads)},
           kThreads, 0, data<X>(kOp, "x", x, {kAny, num_features}), ends, num_pairs, num_features,
           static_cast<X*>(out.mutable_data_ptr()));
  });
  return out;
}

// tptr [N + 1] and tslot [2 B] are csr_transpose of the 2 B ends, sources first.
Tensor pair_product_backward_cuda(Tensor grad, Tensor x, Tensor pairs, Tensor tptr, Tensor tslot) {
  constexpr const char* kOp = "pair_product_backward";
  const Device device(x);
  expect_shape(kOp, "x", x, {kAny, kAny});
  const int64_t* ends = data<int64_t>(kOp, "pairs", pairs, {2, kAny});
  const int64_t num_pairs = pairs.size(1), num_features = x.size(1), num_nodes = x.size(0);
  expect_rows(kOp, "x", x, num_pairs > 0);
  expect_shape(kOp, "tptr", tptr, {num_nodes + 1});
  const int64_t* starts = offsets(kOp, "tptr", tptr, 2 * num_pairs);
  const int64_t* slots = data<int64_t>(kOp, "tslot", tslot, {2 * num_pairs});
  Tensor out = torch::stable::empty_like(x);
  dispatch_feature(kOp, "x", x, [&](auto feature) {
    using X = typename decltype(feature)::type;
    launch(kOp, device, product_gradients<X, typename Accumulate<X>::type>, {blocks_for(x.numel(), kThreads)}, kThreads,
           0, data<X>(kOp, "grad", grad, {num_pairs, num_features}), data<X>(kOp, "x", x, {num_nodes, num_features}),
           ends, num_pairs, starts, slots, num_nodes, num_features, static_cast<X*>(out.mutable_data_ptr()));
  });
  return out;
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("pair_product", TORCH_BOX(&graphmem::pair_product_cuda));
  m.impl("pair_product_backward", TORCH_BOX(&graphmem::pair_product_backward_cuda));
}
