// Dropout alone and behind a normalisation, for host and device.
#pragma once

#include <cmath>
#include <tuple>

#include "common/dispatch.h"
#include "common/random.h"

namespace graphmem {

// Draws from `threshold` on are kept, and what is kept is multiplied by `scale`.
struct DropRate {
  uint32_t threshold;
  double scale;
};

// `p`: probability of a zero.
inline DropRate drop_rate(const char* op, double p) {
  STD_TORCH_CHECK(p >= 0 && p < 1, op, ": expected p in [0, 1), got ", p);
  return {static_cast<uint32_t>(std::floor(p * 4294967296.0)), 1.0 / (1.0 - p)};
}

// Rows whose gradients of weight and bias are added up before those of other rows.
constexpr int64_t kNormRows = 64;

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
struct NormBackward {
  const X *grad, *y, *x;
  const Acc *mean, *rstd, *weight;
  Acc scale;
  int64_t rows, width;
  X* dx;

  GRAPHMEM_HD Acc masked(int64_t at) const {
    return static_cast<Acc>(y[at]) > Acc(0) ? static_cast<Acc>(grad[at]) * scale : Acc(0);
  }
  GRAPHMEM_HD Acc xhat(int64_t at, int64_t r) const { return (static_cast<Acc>(x[at]) - mean[r]) * rstd[r]; }
};

// norm_dropout_relu, but for the loop over the rows: run(NormForward). `y`: where the result goes.
template <class Run>
std::tuple<Tensor, Tensor, Tensor> norm_forward(const char* op, const Tensor& x, const Tensor& weight,
                                                const Tensor& bias, double eps, double p, int64_t seed, Tensor y,
                                                const Run& run) {
  return dispatch_feature(op, "x", x, [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const X* in = data<X>(op, "x", x, {kAny, kAny});
    const int64_t rows = x.size(0), width = x.size(1);
    const DropRate rate = drop_rate(op, p);
    const Acc *scales = data<Acc>(op, "weight", weight, {width}), *shifts = data<Acc>(op, "bias", bias, {width});
    Tensor mean = torch::stable::new_empty(weight, {rows}), rstd = torch::stable::new_empty(weight, {rows});
    run(NormForward<X, Acc>{in, scales, shifts, static_cast<Acc>(eps), static_cast<Acc>(rate.scale), rate.threshold,
                            static_cast<uint64_t>(seed), rows, width, static_cast<X*>(y.mutable_data_ptr()),
                            static_cast<Acc*>(mean.mutable_data_ptr()), static_cast<Acc*>(rstd.mutable_data_ptr())});
    return std::tuple(y, mean, rstd);
  });
}

// Its gradient: run(NormBackward, dweight, dbias), of which run writes the last two too. `dx`: where that of x goes.
template <class Run>
std::tuple<Tensor, Tensor, Tensor> norm_backward(const char* op, const Tensor& grad, const Tensor& y, const Tensor& x,
                                                 const Tensor& mean, const Tensor& rstd, const Tensor& weight, double p,
                                                 Tensor dx, const Run& run) {
  return dispatch_feature(op, "x", x, [&](auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    const X* in = data<X>(op, "x", x, {kAny, kAny});
    const int64_t rows = x.size(0), width = x.size(1);
    const NormBackward<X, Acc> a{data<X>(op, "grad", grad, {rows, width}),
                                 data<X>(op, "y", y, {rows, width}),
                                 in,
                                 data<Acc>(op, "mean", mean, {rows}),
                                 data<Acc>(op, "rstd", rstd, {rows}),
                                 data<Acc>(op, "weight", weight, {width}),
                                 static_cast<Acc>(drop_rate(op, p).scale),
                                 rows,
                                 width,
                                 static_cast<X*>(dx.mutable_data_ptr())};
    Tensor dweight = torch::stable::new_empty(weight, {width}), dbias = torch::stable::new_empty(weight, {width});
    run(a, static_cast<Acc*>(dweight.mutable_data_ptr()), static_cast<Acc*>(dbias.mutable_data_ptr()));
    return std::tuple(dx, dweight, dbias);
  });
}

}  // namespace graphmem
