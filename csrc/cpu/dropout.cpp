// dropout: inverted dropout with a counter-based mask, optionally followed by ReLU, in one pass. Nothing but the seed is
// stored: the mask is drawn again in the backward pass, and with ReLU it can be read off the output.
// Why not the framework's: its generator is sequential and cost as much as the matrix product beside it.
#include "cpu/dropout.h"

#include <torch/csrc/stable/library.h>

#include <limits>

#include "cpu/fresh.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

template <class T, class Acc>
inline void backward_rows(T* out, const T* grad, const T* y, int64_t n, Acc scale) {
  for (int64_t e = 0; e < n; ++e) {
    const Acc value = static_cast<Acc>(grad[e]) * scale;
    out[e] = static_cast<T>(static_cast<Acc>(y[e]) > Acc(0) ? value : Acc(0));
  }
}

// The other dtypes.
template <class T>
void dropout_block(T* y, const T* x, int64_t first, int64_t n, uint32_t threshold, float scale, BlockKey key,
                   float floor) {
  dropout_rows<T, float>(y, x, first, n, threshold, scale, key, floor);
}

GRAPHMEM_CLONES void backward_block(float* out, const float* grad, const float* y, int64_t n, float scale) {
  backward_rows<float, float>(out, grad, y, n, scale);
}
GRAPHMEM_CLONES void backward_block(double* out, const double* grad, const double* y, int64_t n, double scale) {
  backward_rows<double, double>(out, grad, y, n, scale);
}
template <class T>
void backward_block(T* out, const T* grad, const T* y, int64_t n, float scale) {
  backward_rows<T, float>(out, grad, y, n, scale);
}

Tensor dropout_cpu(Tensor x, double p, int64_t seed, bool relu) {
  constexpr const char* kOp = "dropout";
  const DropRate rate = drop_rate(kOp, p);
  Tensor out = fresh_like(x);
  const int64_t n = x.numel();
  dispatch_feature(kOp, "x", x, [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const X* in = data<X>(kOp, "x", x, x.sizes());
    X* y = static_cast<X*>(out.mutable_data_ptr());
    const Acc scale = static_cast<Acc>(rate.scale);
    const Acc floor = relu ? Acc(0) : std::numeric_limits<Acc>::quiet_NaN();
    parallel_chunks((n + kDropoutBlock - 1) / kDropoutBlock, 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t at = block * kDropoutBlock;
        dropout_block(y + at, in + at, 0, std::min(kDropoutBlock, n - at), rate.threshold, scale,
                      block_key(static_cast<uint64_t>(seed), static_cast<uint64_t>(block)), floor);
      }
    });
  });
  return out;
}

Tensor dropout_relu_backward_cpu(Tensor grad, Tensor y, double p) {
  constexpr const char* kOp = "dropout_relu_backward";
  Tensor out = fresh_like(y);
  dispatch_feature(kOp, "y", y, [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const X* grads = data<X>(kOp, "grad", grad, y.sizes());
    const X* outputs = data<X>(kOp, "y", y, y.sizes());
    X* result = static_cast<X*>(out.mutable_data_ptr());
    const Acc scale = static_cast<Acc>(drop_rate(kOp, p).scale);
    parallel_chunks(y.numel(), kDropoutBlock, [&](int64_t begin, int64_t end) {
      backward_block(result + begin, grads + begin, outputs + begin, end - begin, scale);
    });
  });
  return out;
}

}  // namespace

}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("dropout", TORCH_BOX(&graphmem::dropout_cpu));
  m.impl("dropout_relu_backward", TORCH_BOX(&graphmem::dropout_relu_backward_cpu));
}
