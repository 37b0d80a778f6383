// norm_dropout_relu: y = relu(dropout(layer_norm(x))) in one pass over each row, and its gradient in another.
// The framework's normalisation adds the gradients of weight and bias in one part per thread, so their last bits change
// with the number of threads; here they are added over blocks of 64 rows, in order.
//
// A row's sums run in 16 lanes (element f in lane f mod 16, ascending), lanes are then added pairwise (8, 4, 2, 1 apart):
// an order that every instruction set can follow, so all give the same bits.
#include <torch/csrc/stable/library.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "common/dispatch.h"
#include "common/random.h"
#include "cpu/fresh.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kRows = 64;

template <class Acc>
GRAPHMEM_INLINE Acc add_lanes(Acc* lanes) {
  for (int64_t step = kLanes / 2; step > 0; step /= 2) {
    for (int64_t l = 0; l < step; ++l) lanes[l] += lanes[l + step];
  }
  return lanes[0];
}

// Sum of value(f) over f in [0, n).
template <class Acc, class Value>
GRAPHMEM_INLINE Acc lane_sum(int64_t n, Value&& value) {
  Acc lanes[kLanes] = {};
  int64_t f = 0;
  for (; f + kLanes <= n; f += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += value(f + l);
  }
  for (int64_t l = 0; f + l < n; ++l) lanes[l] += value(f + l);
  return add_lanes(lanes);
}

template <class X, class Acc>
struct Forward {
  const X* x;
  const Acc* weight;
  const Acc* bias;
  Acc eps, scale;
  uint32_t threshold;
  uint64_t seed;
  int64_t width;
  X* y;
  Acc* mean;
  Acc* rstd;
};

template <class X, class Acc>
GRAPHMEM_INLINE void forward_row(const Forward<X, Acc>& a, int64_t r) {
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

template <class X, class Acc>
struct Backward {
  const X* grad;
  const X* y;
  const X* x;
  const Acc* mean;
  const Acc* rstd;
  const Acc* weight;
  Acc scale;
  int64_t width;
  X* dx;
};

// One row; `dweight` and `dbias` are the sums of the row's block.
template <class X, class Acc>
GRAPHMEM_INLINE void backward_row(const Backward<X, Acc>& a, int64_t r, Acc* dweight, Acc* dbias, Acc* dy, Acc* xhat) {
  const int64_t at = r * a.width;
  const Acc mean = a.mean[r], rstd = a.rstd[r];
  for (int64_t f = 0; f < a.width; ++f) {
    const Acc g = static_cast<Acc>(a.grad[at + f]) * a.scale;
    const Acc masked = static_cast<Acc>(a.y[at + f]) > Acc(0) ? g : Acc(0);
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
#define GRAPHMEM_NORM_CLONES(X, Acc)                                                                                 \
  GRAPHMEM_CLONES void run_forward(const Forward<X, Acc>& a, int64_t begin, int64_t end) {                           \
    for (int64_t r = begin; r < end; ++r) forward_row(a, r);                                                         \
  }                                                                                                                  \
  GRAPHMEM_CLONES void run_backward(const Backward<X, Acc>& a, int64_t begin, int64_t end, Acc* dweight, Acc* dbias, \
                                    Acc* dy, Acc* xhat) {                                                            \
    for (int64_t r = begin; r < end; ++r) backward_row(a, r, dweight, dbias, dy, xhat);                              \
  }
GRAPHMEM_NORM_CLONES(float, float)
GRAPHMEM_NORM_CLONES(double, double)
GRAPHMEM_NORM_CLONES(torch::headeronly::BFloat16, float)
GRAPHMEM_NORM_CLONES(torch::headeronly::Half, float)
#undef GRAPHMEM_NORM_CLONES

std::tuple<Tensor, Tensor, Tensor> norm_dropout_relu_cpu(Tensor x, Tensor weight, Tensor bias, double eps, double p,
                                                         int64_t seed) {
  constexpr const char* kOp = "norm_dropout_relu";
  const int64_t rows = x.size(0), width = x.size(1);
  Tensor y = fresh_like(x);
  Tensor mean = torch::stable::new_empty(weight, {rows}), rstd = torch::stable::new_empty(weight, {rows});
  dispatch_feature(kOp, x.scalar_type(), [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const Forward<X, Acc> a{data<X>(kOp, "x", x),
                            data<Acc>(kOp, "weight", weight),
                            data<Acc>(kOp, "bias", bias),
                            static_cast<Acc>(eps),
                            static_cast<Acc>(1.0 / (1.0 - p)),
                            static_cast<uint32_t>(std::floor(p * 4294967296.0)),
                            static_cast<uint64_t>(seed),
                            width,
                            static_cast<X*>(y.mutable_data_ptr()),
                            static_cast<Acc*>(mean.mutable_data_ptr()),
                            static_cast<Acc*>(rstd.mutable_data_ptr())};
    parallel_chunks(rows, kRows, [&](int64_t begin, int64_t end) { run_forward(a, begin, end); });
  });
  return {y, mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor> norm_dropout_relu_backward_cpu(Tensor grad, Tensor y, Tensor x, Tensor mean,
                                                                  Tensor rstd, Tensor weight, double p) {
  constexpr const char* kOp = "norm_dropout_relu_backward";
  const int64_t rows = x.size(0), width = x.size(1), blocks = (rows + kRows - 1) / kRows;
  Tensor dx = fresh_like(x);
  Tensor dweight = torch::stable::new_zeros(weight, {width}), dbias = torch::stable::new_zeros(weight, {width});
  dispatch_feature(kOp, x.scalar_type(), [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const Backward<X, Acc> a{data<X>(kOp, "grad", grad),
                             data<X>(kOp, "y", y),
                             data<X>(kOp, "x", x),
                             data<Acc>(kOp, "mean", mean),
                             data<Acc>(kOp, "rstd", rstd),
                             data<Acc>(kOp, "weight", weight),
                             static_cast<Acc>(1.0 / (1.0 - p)),
                             width,
                             static_cast<X*>(dx.mutable_data_ptr())};
    std::vector<Acc> sums(2 * blocks * width, Acc(0));
    parallel_chunks(blocks, 1, [&](int64_t begin, int64_t end) {
      std::vector<Acc> scratch(2 * width);
      for (int64_t block = begin; block < end; ++block) {
        Acc* block_sums = sums.data() + 2 * block * width;
        run_backward(a, block * kRows, std::min(rows, (block + 1) * kRows), block_sums, block_sums + width,
                     scratch.data(), scratch.data() + width);
      }
    });
    Acc* weight_sum = static_cast<Acc*>(dweight.mutable_data_ptr());
    Acc* bias_sum = static_cast<Acc*>(dbias.mutable_data_ptr());
    for (int64_t block = 0; block < blocks; ++block) {
      axpy(weight_sum, Acc(1), sums.data() + 2 * block * width, width);
      axpy(bias_sum, Acc(1), sums.data() + (2 * block + 1) * width, width);
    }
  });
  return {dx, dweight, dbias};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("norm_dropout_relu", TORCH_BOX(&graphmem::norm_dropout_relu_cpu));
  m.impl("norm_dropout_relu_backward", TORCH_BOX(&graphmem::norm_dropout_relu_backward_cpu));
}
