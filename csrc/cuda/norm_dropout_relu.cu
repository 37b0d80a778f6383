// norm_dropout_relu: y = relu(dropout(layer_norm(x))) and its gradient. A row belongs to 16 lanes: lane l adds the elements
// l, l + 16, ..., and the lanes are added 8, 4, 2, 1 apart, which is the order of cpu/norm_dropout_relu.cpp. So is that of
// the gradients of weight and bias: row by row in blocks of 64 rows, then block by block.
#include <tuple>

#include "common/dropout.h"
#include "cuda/group.h"

namespace graphmem {
namespace {

constexpr int kLanes = 16;

template <class Acc, class Value>
__device__ Acc row_sum(const Lanes<kLanes>& group, int64_t width, Value&& value) {
  Acc sum = 0;
  for (int64_t f = group.rank(); f < width; f += kLanes) sum += value(f);
  return group.sum(sum);
}

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
__global__ void __launch_bounds__(kThreads) backward_rows(NormBackward<X, Acc> a) {
  const Lanes<kLanes> group;
  const int64_t r = global_thread() / kLanes, at = r * a.width;
  if (r >= a.rows) return;
  const auto dy = [&](int64_t f) { return a.masked(at + f) * a.weight[f]; };
  const Acc count = static_cast<Acc>(a.width);
  const Acc m1 = row_sum<Acc>(group, a.width, dy) / count;
  const Acc m2 = row_sum<Acc>(group, a.width, [&](int64_t f) { return dy(f) * a.xhat(at + f, r); }) / count;
  for (int64_t f = group.rank(); f < a.width; f += kLanes) {
    a.dx[at + f] = static_cast<X>((dy(f) - m1 - a.xhat(at + f, r) * m2) * a.rstd[r]);
  }
}

// sums [blocks, 2, width]: of g * xhat and of g over 64 rows, a thread a feature.
template <class X, class Acc>
__global__ void block_sums(NormBackward<X, Acc> a, Acc* sums) {
  const int64_t f = int64_t{blockIdx.y} * kThreads + threadIdx.x, block = blockIdx.x;
  if (f >= a.width) return;
  const int64_t last = a.rows < (block + 1) * kNormRows ? a.rows : (block + 1) * kNormRows;
  Acc dweight = 0, dbias = 0;
#pragma unroll 4
  for (int64_t r = block * kNormRows; r < last; ++r) {
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
  return norm_forward(kOp, x, weight, bias, eps, p, seed, torch::stable::empty_like(x),
                      [&]<class X, class Acc>(const NormForward<X, Acc>& a) {
                        launch(kOp, device, forward_rows<X, Acc>, {blocks_for(a.rows, kThreads / kLanes)}, kThreads, 0,
                               a);
                      });
}

std::tuple<Tensor, Tensor, Tensor> norm_dropout_relu_backward_cuda(Tensor grad, Tensor y, Tensor x, Tensor mean,
                                                                   Tensor rstd, Tensor weight, double p) {
  constexpr const char* kOp = "norm_dropout_relu_backward";
  const Device device(x);
  return norm_backward(
      kOp, grad, y, x, mean, rstd, weight, p, torch::stable::empty_like(x),
      [&]<class X, class Acc>(const NormBackward<X, Acc>& a, Acc* dweight, Acc* dbias) {
        const int64_t width = a.width, blocks = blocks_for(a.rows, kNormRows);
        Tensor buffer = torch::stable::new_empty(weight, {2 * blocks * width});
        Acc* sums = static_cast<Acc*>(buffer.mutable_data_ptr());
        launch(kOp, device, backward_rows<X, Acc>, {blocks_for(a.rows, kThreads / kLanes)}, kThreads, 0, a);
        launch(kOp, device, block_sums<X, Acc>, {blocks, blocks_for(width, kThreads)}, kThreads, 0, a, sums);
        launch(kOp, device, add_blocks<Acc>, {blocks_for(2 * width, kThreads)}, kThreads, 0, sums, blocks, width,
               dweight, dbias);
      });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("norm_dropout_relu", TORCH_BOX(&graphmem::norm_dropout_relu_cuda));
  m.impl("norm_dropout_relu_backward", TORCH_BOX(&graphmem::norm_dropout_relu_backward_cuda));
}
