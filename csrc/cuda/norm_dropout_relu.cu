// norm_dropout_relu: y = relu(dropout(layer_norm(x))) and its gradient. A row belongs to 16 lanes: lane l adds the elements
// l, l + 16, ..., and the lanes are added 8, 4, 2, 1 apart, which is the order of cpu/norm_dropout_relu.cpp. So is that of
// the gradients of weight and bias: row by row in blocks of 64 rows, then block by block.
#include <cmath>
#include <tuple>

#include "common/dispatch.h"
#include "common/random.h"
#include "cuda/group.h"

namespace graphmem {
namespace {

constexpr int kLanes = 16;
constexpr int64_t kRows = 64;

template <class Acc, class Value>
__device__ Acc row_sum(const Lanes<kLanes>& group, int64_t width, Value&& value) {
  Acc sum = 0;
  for (int64_t f = group.rank(); f < width; f += kLanes) sum += value(f);
  return group.sum(sum);
}

template <class X, class Acc>
struct NormForward {
  const X* x;
  const Acc *weight, *bias;
  Acc eps, scale;
  uint32_t threshold;
  uint64_t seed;
  int64_t rows, width;
  X* y;
  Acc *mean, *rstd;
};

template <class X, class Acc>
__global__ void __launch_bounds__(kThreads) forward_rows(NormForward<X, Acc> a) {
  const Lanes<kLanes> group;
  const int64_t r = global_thread() / kLanes;
  if (r >= a.rows) return;
  const X* x = a.x + r * a.width;
  const Acc count = static_cast<Acc>(a.width);
  const Acc mean = row_sum<Acc>(group, a.width, [&](int64_t f) { return static_cast<Acc>(x[f]); }) / count;
  const Acc variance = row_sum<Acc>(group, a.width,
                                    [&](int64_t f) {
                                      const Acc d = static_cast<Acc>(x[f]) - mean;
                                      return d * d;
                                    }) /
                       count;
  const Acc rstd = Acc(1) / std::sqrt(variance + a.eps);
  if (group.rank() == 0) {
    a.mean[r] = mean;
    a.rstd[r] = rstd;
  }
  // Elements draw by their position in memory; a row may lie in several blocks of draws.
  int64_t block = -1;
  BlockKey key{};
  for (int64_t f = group.rank(); f < a.width; f += kLanes) {
    const int64_t position = r * a.width + f;
    if (position / kDropoutBlock != block) {
      block = position / kDropoutBlock;
      key = block_key(a.seed, static_cast<uint64_t>(block));
    }
    const Acc value = (((static_cast<Acc>(x[f]) - mean) * rstd) * a.weight[f] + a.bias[f]) * a.scale;
    const bool kept = element_draw(key, static_cast<uint32_t>(position % kDropoutBlock)) >= a.threshold;
    a.y[position] = static_cast<X>(kept && !(value <= Acc(0)) ? value : Acc(0));
  }
}

template <class X, class Acc>
struct NormBackward {
  const X *grad, *y, *x;
  const Acc *mean, *rstd, *weight;
  Acc scale;
  int64_t rows, width;

  __device__ Acc masked(int64_t at) const {
    return static_cast<Acc>(y[at]) > Acc(0) ? static_cast<Acc>(grad[at]) * scale : Acc(0);
  }
  __device__ Acc xhat(int64_t at, int64_t r) const { return (static_cast<Acc>(x[at]) - mean[r]) * rstd[r]; }
};

template <class X, class Acc>
__global__ void __launch_bounds__(kThreads) backward_rows(NormBackward<X, Acc> a, X* dx) {
  const Lanes<kLanes> group;
  const int64_t r = global_thread() / kLanes, at = r * a.width;
  if (r >= a.rows) return;
  const auto dy = [&](int64_t f) { return a.masked(at + f) * a.weight[f]; };
  const Acc count = static_cast<Acc>(a.width);
  const Acc m1 = row_sum<Acc>(group, a.width, dy) / count;
  const Acc m2 = row_sum<Acc>(group, a.width, [&](int64_t f) { return dy(f) * a.xhat(at + f, r); }) / count;
  for (int64_t f = group.rank(); f < a.width; f += kLanes) {
    dx[at + f] = static_cast<X>((dy(f) - m1 - a.xhat(at + f, r) * m2) * a.rstd[r]);
  }
}

// sums [blocks, 2, width]: of g * xhat and of g over 64 rows, a thread a feature.
template <class X, class Acc>
__global__ void block_sums(NormBackward<X, Acc> a, Acc* sums) {
  const int64_t f = int64_t{blockIdx.y} * kThreads + threadIdx.x, block = blockIdx.x;
  if (f >= a.width) return;
  const int64_t last = a.rows < (block + 1) * kRows ? a.rows : (block + 1) * kRows;
  Acc dweight = 0, dbias = 0;
#pragma unroll 4
  for (int64_t r = block * kRows; r < last; ++r) {
    const Acc g = a.masked(r * a.width + f);
    dweight += g * a.xhat(r * a.width + f, r);
    dbias += g;
  }
  sums[2 * block * a.width + f] = dweight;
  sums[(2 * block + 1) * a.width + f] = dbias;
}

template <class Acc>
__global__ void add_blocks(const Acc* sums, int64_t blocks, int64_t width, Acc* dweight, Acc* dbias) {
  const int64_t at = global_thread();
  if (at >= 2 * width) return;
  Acc sum = 0;
#pragma unroll 8
  for (int64_t block = 0; block < blocks; ++block) sum += sums[2 * block * width + at];
  *(at < width ? dweight + at : dbias + at - width) = sum;
}

std::tuple<Tensor, Tensor, Tensor> norm_dropout_relu_cuda(Tensor x, Tensor weight, Tensor bias, double eps, double p,
                                                          int64_t seed) {
  constexpr const char* kOp = "norm_dropout_relu";
  const Device device(x);
  const int64_t rows = x.size(0), width = x.size(1);
  Tensor y = torch::stable::empty_like(x);
  Tensor mean = torch::stable::new_empty(weight, {rows}), rstd = torch::stable::new_empty(weight, {rows});
  dispatch_feature(kOp, x.scalar_type(), [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const NormForward<X, Acc> a{data<X>(kOp, "x", x),
                                data<Acc>(kOp, "weight", weight),
                                data<Acc>(kOp, "bias", bias),
                                static_cast<Acc>(eps),
                                static_cast<Acc>(1.0 / (1.0 - p)),
                                static_cast<uint32_t>(std::floor(p * 4294967296.0)),
                                static_cast<uint64_t>(seed),
                                rows,
                                width,
                                static_cast<X*>(y.mutable_data_ptr()),
                                static_cast<Acc*>(mean.mutable_data_ptr()),
                                static_cast<Acc*>(rstd.mutable_data_ptr())};
    launch(kOp, device, forward_rows<X, Acc>, {blocks_for(rows, kThreads / kLanes)}, kThreads, 0, a);
  });
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor> norm_dropout_relu_backward_cuda(Tensor grad, Tensor y, Tensor x, Tensor mean,
                                                                   Tensor rstd, Tensor weight, double p) {
  constexpr const char* kOp = "norm_dropout_relu_backward";
  const Device device(x);
  const int64_t rows = x.size(0), width = x.size(1), blocks = (rows + kRows - 1) / kRows;
  Tensor dx = torch::stable::empty_like(x);
  Tensor dweight = torch::stable::new_empty(weight, {width}), dbias = torch::stable::new_empty(weight, {width});
  Tensor buffer = torch::stable::new_empty(weight, {2 * blocks * width});
  dispatch_feature(kOp, x.scalar_type(), [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const NormBackward<X, Acc> a{data<X>(kOp, "grad", grad),
                                 data<X>(kOp, "y", y),
                                 data<X>(kOp, "x", x),
                                 data<Acc>(kOp, "mean", mean),
                                 data<Acc>(kOp, "rstd", rstd),
                                 data<Acc>(kOp, "weight", weight),
                                 static_cast<Acc>(1.0 / (1.0 - p)),
                                 rows,
                                 width};
    Acc* sums = static_cast<Acc*>(buffer.mutable_data_ptr());
    launch(kOp, device, backward_rows<X, Acc>, {blocks_for(rows, kThreads / kLanes)}, kThreads, 0, a,
           static_cast<X*>(dx.mutable_data_ptr()));
    launch(kOp, device, block_sums<X, Acc>, {blocks, blocks_for(width, kThreads)}, kThreads, 0, a, sums);
    launch(kOp, device, add_blocks<Acc>, {blocks_for(2 * width, kThreads)}, kThreads, 0, sums, blocks, width,
           static_cast<Acc*>(dweight.mutable_data_ptr()), static_cast<Acc*>(dbias.mutable_data_ptr()));
  });
  return {dx, dweight, dbias};
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("norm_dropout_relu", TORCH_BOX(&graphmem::norm_dropout_relu_cuda));
  m.impl("norm_dropout_relu_backward", TORCH_BOX(&graphmem::norm_dropout_relu_backward_cuda));
}
