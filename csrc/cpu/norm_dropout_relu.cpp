// norm_dropout_relu: y = relu(dropout(layer_norm(x))) in one pass over each row, and its gradient in another.
// The framework's normalisation adds the gradients of weight and bias in one part per thread, so their last bits change
// with the number of threads; here they are added over blocks of 64 rows, in order. A row's sums are those of cpu/lanes.h.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "common/dropout.h"
#include "cpu/fresh.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

template <class X, class Acc>
GRAPHMEM_INLINE void forward_row(const NormForward<X, Acc>& a, int64_t r) {
  const X* x = a.x + r * a.width;
  X* y = a.y + r * a.width;
  const Acc count = static_cast<Acc>(a.width);
  const Acc mean = lane_sum<Acc>(a.width, [&](int64_t f) { return static_cast<Acc>(x[f]); }) / count;
  const Acc variance = lane_sum<Acc>(a.width,
                                     [&](int64_t f) {
                                       const Acc d = static_cast<Acc>(x[f]) - mean;
                                       return d * d;
                                     }) /
                       count;
  const Acc rstd = Acc(1) / std::sqrt(variance + a.eps);
  a.mean[r] = mean;
  a.rstd[r] = rstd;
  // Elements draw by their position in memory; a row may lie in two blocks of draws.
  for (int64_t f = 0; f < a.width;) {
    const int64_t position = r * a.width + f;
    const int64_t element = position % kDropoutBlock;
    const int64_t end = std::min(a.width, f + kDropoutBlock - element);
    const BlockKey key = block_key(a.seed, static_cast<uint64_t>(position / kDropoutBlock));
    for (int64_t g = f; g < end; ++g) {
      const Acc value = (((static_cast<Acc>(x[g]) - mean) * rstd) * a.weight[g] + a.bias[g]) * a.scale;
      const bool kept = element_draw(key, static_cast<uint32_t>(element + g - f)) >= a.threshold;
      y[g] = static_cast<X>(kept && !(value <= Acc(0)) ? value : Acc(0));
    }
    f = end;
  }
}

// One row; `dweight` and `dbias` are the sums of the row's block.
template <class X, class Acc>
GRAPHMEM_INLINE void backward_row(const NormBackward<X, Acc>& a, int64_t r, Acc* dweight, Acc* dbias, Acc* dy,
                                  Acc* xhat) {
  const int64_t at = r * a.width;
  const Acc mean = a.mean[r], rstd = a.rstd[r];
  for (int64_t f = 0; f < a.width; ++f) {
    const Acc masked = a.masked(at + f);
    xhat[f] = (static_cast<Acc>(a.x[at + f]) - mean) * rstd;
    dweight[f] += masked * xhat[f];
    dbias[f] += masked;
    dy[f] = masked * a.weight[f];
  }
  const Acc count = static_cast<Acc>(a.width);
  const Acc m1 = lane_sum<Acc>(a.width, [&](int64_t f) { return dy[f]; }) / count;
  const Acc m2 = lane_sum<Acc>(a.width, [&](int64_t f) { return dy[f] * xhat[f]; }) / count;
  for (int64_t f = 0; f < a.width; ++f) a.dx[at + f] = static_cast<X>((dy[f] - m1 - xhat[f] * m2) * rstd);
}

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_NORM_CLONES(X, Acc)                                                                         \
  GRAPHMEM_CLONES void run_forward(const NormForward<X, Acc>& a, int64_t begin, int64_t end) {               \
    for (int64_t r = begin; r < end; ++r) forward_row(a, r);                                                 \
  }                                                                                                          \
  GRAPHMEM_CLONES void run_backward(const NormBackward<X, Acc>& a, int64_t begin, int64_t end, Acc* dweight, \
                                    Acc* dbias, Acc* dy, Acc* xhat) {                                        \
    for (int64_t r = begin; r < end; ++r) backward_row(a, r, dweight, dbias, dy, xhat);                      \
  }
GRAPHMEM_NORM_CLONES(float, float)
GRAPHMEM_NORM_CLONES(double, double)
GRAPHMEM_NORM_CLONES(torch::headeronly::BFloat16, float)
GRAPHMEM_NORM_CLONES(torch::headeronly::Half, float)
#undef GRAPHMEM_NORM_CLONES

std::tuple<Tensor, Tensor, Tensor> norm_dropout_relu_cpu(Tensor x, Tensor weight, Tensor bias, double eps, double p,
                                                         int64_t seed) {
  constexpr const char* kOp = "norm_dropout_relu";
  return norm_forward(kOp, x, weight, bias, eps, p, seed, fresh_like(x), [](const auto& a) {
    parallel_chunks(a.rows, kNormRows, [&](int64_t begin, int64_t end) { run_forward(a, begin, end); });
  });
}

std::tuple<Tensor, Tensor, Tensor> norm_dropout_relu_backward_cpu(Tensor grad, Tensor y, Tensor x, Tensor mean,
                                                                  Tensor rstd, Tensor weight, double p) {
  constexpr const char* kOp = "norm_dropout_relu_backward";
  return norm_backward(kOp, grad, y, x, mean, rstd, weight, p, fresh_like(x),
                       []<class X, class Acc>(const NormBackward<X, Acc>& a, Acc* dweight, Acc* dbias) {
                         const int64_t width = a.width, blocks = (a.rows + kNormRows - 1) / kNormRows;
                         std::vector<Acc> sums(2 * blocks * width, Acc(0));
                         parallel_chunks(blocks, 1, [&](int64_t begin, int64_t end) {
                           std::vector<Acc> scratch(2 * width);
                           for (int64_t block = begin; block < end; ++block) {
                             Acc* block_sums = sums.data() + 2 * block * width;
                             run_backward(a, block * kNormRows, std::min(a.rows, (block + 1) * kNormRows), block_sums,
                                          block_sums + width, scratch.data(), scratch.data() + width);
                           }
                         });
                         std::fill_n(dweight, width, Acc(0));
                         std::fill_n(dbias, width, Acc(0));
                         for (int64_t block = 0; block < blocks; ++block) {
                           axpy(dweight, Acc(1), sums.data() + 2 * block * width, width);
                           axpy(dbias, Acc(1), sums.data() + (2 * block + 1) * width, width);
                         }
                       });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("norm_dropout_relu", TORCH_BOX(&graphmem::norm_dropout_relu_cpu));
  m.impl("norm_dropout_relu_backward", TORCH_BOX(&graphmem::norm_dropout_relu_backward_cpu));
}
