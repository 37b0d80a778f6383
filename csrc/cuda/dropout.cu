// dropout: inverted dropout with a counter-based mask, optionally followed by ReLU; see cpu/dropout.cpp. A block of threads
// takes 4,096 elements, which lie in one block of draws, so that a thread mixes one key.
#include <limits>

#include "common/dropout.h"
#include "cuda/runtime.h"

namespace graphmem {
namespace {

constexpr int64_t kChunk = 4096;
static_assert(kDropoutBlock % kChunk == 0);

template <class T, class Acc>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const T* x, int64_t count, uint32_t threshold, Acc scale, uint64_t seed, Acc floor, T* y) {
  const int64_t first = int64_t{blockIdx.x} * kChunk, last = count < first + kChunk ? count : first + kChunk;
  const int64_t block = first / kDropoutBlock;
  const BlockKey key = block_key(seed, static_cast<uint64_t>(block));
  for (int64_t e = first + threadIdx.x; e < last; e += kThreads) {
    const Acc value = static_cast<Acc>(x[e]) * scale;
    const bool kept = element_draw(key, static_cast<uint32_t>(e - block * kDropoutBlock)) >= threshold;
    y[e] = static_cast<T>(kept && !(value <= floor) ? value : Acc(0));
  }
}

template <class T, class Acc>
__global__ void dropout_relu_backward_kernel(const T* grad, const T* y, int64_t count, Acc scale, T* out) {
  const int64_t e = global_thread();
  if (e >= count) return;
  const Acc value = static_cast<Acc>(grad[e]) * scale;
  out[e] = static_cast<T>(static_cast<Acc>(y[e]) > Acc(0) ? value : Acc(0));
}

Tensor dropout_cuda(Tensor x, double p, int64_t seed, bool relu) {
  constexpr const char* kOp = "dropout";
  const DropRate rate = drop_rate(kOp, p);
  const Device device(x);
  Tensor out = torch::stable::empty_like(x);
  dispatch_feature(kOp, "x", x, [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    launch(kOp, device, dropout_kernel<X, Acc>, {blocks_for(x.numel(), kChunk)}, kThreads, 0,
           data<X>(kOp, "x", x, x.sizes()), x.numel(), rate.threshold, static_cast<Acc>(rate.scale),
           static_cast<uint64_t>(seed), relu ? Acc(0) : std::numeric_limits<Acc>::quiet_NaN(),
           static_cast<X*>(out.mutable_data_ptr()));
  });
  return out;
}

Tensor dropout_relu_backward_cuda(Tensor grad, Tensor y, double p) {
  constexpr const char* kOp = "dropout_relu_backward";
  const Device device(y);
  Tensor out = torch::stable::empty_like(y);
  dispatch_feature(kOp, "y", y, [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    launch(kOp, device, dropout_relu_backward_kernel<X, Acc>, {blocks_for(y.numel(), kThreads)}, kThreads, 0,
           data<X>(kOp, "grad", grad, y.sizes()), data<X>(kOp, "y", y, y.sizes()), y.numel(),
           static_cast<Acc>(drop_rate(kOp, p).scale), static_cast<X*>(out.mutable_data_ptr()));
  });
  return out;
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("dropout", TORCH_BOX(&graphmem::dropout_cuda));
  m.impl("dropout_relu_backward", TORCH_BOX(&graphmem::dropout_relu_backward_cuda));
}
