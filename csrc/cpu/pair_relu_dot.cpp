// pair_relu_dot: logits of one source against many candidates by a perceptron whose first layer is split between them:
//
//   out_bc = <weight, relu(h[src_b, :F] + h[dst_bc, F:])> + bias
//
// h [n, 2 F] holds every node's projection as a source and as a destination. The hidden layer [B, C, F] never exists. In
// the gradient threads own slices of features and add pair by pair, so the bits do not depend on the number of threads.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/dispatch.h"
#include "cpu/fresh.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

constexpr int64_t kPairs = 64;  // of a task

template <class T>
GRAPHMEM_INLINE T hidden(T a, T b) {
  const T sum = a + b;
  return sum <= T(0) ? T(0) : sum;  // a nan stays one
}

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_RELU_DOT_CLONES(T)                                                                           \
  GRAPHMEM_CLONES T relu_dot(const T* a, const T* b, const T* w, int64_t n) {                                 \
    return lane_sum<T>(n, [&](int64_t f) { return w[f] * hidden(a[f], b[f]); });                              \
  }                                                                                                           \
  GRAPHMEM_CLONES void relu_dot_gradient(T grad, const T* a, const T* b, const T* w, int64_t n, T* da, T* db, \
                                         T* __restrict__ dw) {                                                \
    for (int64_t f = 0; f < n; ++f) {                                                                         \
      const T value = hidden(a[f], b[f]), slope = value > T(0) ? grad * w[f] : T(0);                          \
      dw[f] += grad * value;                                                                                  \
      da[f] += slope;                                                                                         \
      db[f] += slope;                                                                                         \
    }                                                                                                         \
  }
GRAPHMEM_RELU_DOT_CLONES(float)
GRAPHMEM_RELU_DOT_CLONES(double)
#undef GRAPHMEM_RELU_DOT_CLONES

template <class T>
struct Problem {
  const T *h, *weight;
  const int64_t *src, *dst;
  int64_t rows, candidates, width;
};

template <class T>
Problem<T> problem(const char* op, const Tensor& h, const Tensor& src, const Tensor& dst, const Tensor& weight) {
  expect_shape(op, "weight", weight, {kAny});
  expect_shape(op, "dst", dst, {kAny, kAny});
  const int64_t rows = dst.size(0), width = weight.size(0);
  const Problem<T> p{data<T>(op, "h", h, {kAny, 2 * width}),
                     data<T>(op, "weight", weight, {width}),
                     data<int64_t>(op, "src", src, {rows}),
                     data<int64_t>(op, "dst", dst, {rows, kAny}),
                     rows,
                     dst.size(1),
                     width};
  expect_rows(op, "h", h, rows * p.candidates > 0);
  return p;
}

Tensor pair_relu_dot_cpu(Tensor h, Tensor src, Tensor dst, Tensor weight, Tensor bias) {
  constexpr const char* kOp = "pair_relu_dot";
  expect_shape(kOp, "dst", dst, {kAny, kAny});
  Tensor out = fresh(h, dst.sizes());
  dispatch_full(kOp, "h", h, [&](auto type) {
    using T = typename decltype(type)::type;
    const Problem<T> p = problem<T>(kOp, h, src, dst, weight);
    const T offset = *data<T>(kOp, "bias", bias, {1});
    T* logits = static_cast<T*>(out.mutable_data_ptr());
    parallel_chunks(p.rows * p.candidates, kPairs, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const T *a = p.h + p.src[n / p.candidates] * 2 * p.width, *b = p.h + (p.dst[n] * 2 + 1) * p.width;
        logits[n] = relu_dot(a, b, p.weight, p.width) + offset;
      }
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> pair_relu_dot_backward_cpu(Tensor grad, Tensor h, Tensor src, Tensor dst, Tensor weight) {
  constexpr const char* kOp = "pair_relu_dot_backward";
  Tensor dh = fresh_zeros(h, h.sizes(), h.scalar_type());
  Tensor dweight = fresh_zeros(weight, weight.sizes(), weight.scalar_type());
  dispatch_full(kOp, "h", h, [&](auto type) {
    using T = typename decltype(type)::type;
    const Problem<T> p = problem<T>(kOp, h, src, dst, weight);
    const T* slopes = data<T>(kOp, "grad", grad, {p.rows, p.candidates});
    T *of_h = static_cast<T*>(dh.mutable_data_ptr()), *of_weight = static_cast<T*>(dweight.mutable_data_ptr());
    parallel_slices(p.width, p.rows * p.candidates * p.width / 4, [&](int64_t first, int64_t last) {
      for (int64_t n = 0; n < p.rows * p.candidates; ++n) {
        const int64_t a = p.src[n / p.candidates] * 2 * p.width + first, b = (p.dst[n] * 2 + 1) * p.width + first;
        relu_dot_gradient(slopes[n], p.h + a, p.h + b, p.weight + first, last - first, of_h + a, of_h + b,
                          of_weight + first);
      }
    });
  });
  return {dh, dweight};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("pair_relu_dot", TORCH_BOX(&graphmem::pair_relu_dot_cpu));
  m.impl("pair_relu_dot_backward", TORCH_BOX(&graphmem::pair_relu_dot_backward_cpu));
}
