// pres_correct: what an updater made of rows, mixed with where the running rates of the rows say that they would be; and
// its gradient. A pass over some hundred rows, in place of some tens of operations, whose calls would take longer than
// what they compute.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "cpu/block_sums.h"
#include "cpu/fresh.h"
#include "cpu/parallel.h"
#include "cpu/pres.h"
#include "cpu/room.h"

namespace graphmem {
namespace {

constexpr int64_t kRows = 64;  // whose gradients are added before those of other rows

template <class T>
struct Moments {
  const T *n, *mean, *m2;
  int64_t kinds, width;
  T min_count;

  bool known(int64_t slot) const {
    const T* counts = n + slot * kinds;
    return std::any_of(counts, counts + kinds, [&](T count) { return count >= min_count; });
  }

  // Mean and, with m2, variance of the mixture of kinds, in `own`, which has room for a number a kind, and two a column.
  std::pair<const T*, const T*> mixture(int64_t slot, const T* asked, T* own) const {
    const T *counts = n + slot * kinds, *means = mean + slot * kinds * width;
    if (kinds == 1 && m2 == nullptr) return {means, nullptr};
    T *rate = own + kinds, *variance = rate + width, *share = own, total = 0;
    for (const bool all : {false, true}) {
      if (all && (asked == nullptr || total > 0)) break;
      for (int64_t c = 0; c < kinds; ++c) {
        share[c] = counts[c] < min_count ? T(0) : asked == nullptr || all ? counts[c] : asked[c];
        total += share[c];
      }
    }
    std::fill_n(rate, 2 * width, T(0));
    for (int64_t c = 0; c < kinds; ++c) axpy(rate, share[c] /= total, means + c * width, width);
    if (m2 == nullptr) return {rate, nullptr};
    const T* sums = m2 + slot * kinds * width;
    for (int64_t c = 0; c < kinds; ++c) {
      const T count = std::max(counts[c], T(1));
      for (int64_t f = 0; f < width; ++f) {
        const T off = means[c * width + f] - rate[f];
        variance[f] += share[c] * (sums[c * width + f] / count + off * off);
      }
    }
    return {rate, variance};
  }
};

// Columns of the weight [1, *]: one for all, or one each.
int64_t weights_of(const char* op, const Tensor& weight, int64_t columns) {
  expect_shape(op, "weight", weight, {1, kAny});
  const int64_t width = weight.size(1);
  STD_TORCH_CHECK(width == 1 || width == columns, op, ": expected weight with 1 column, or ", columns, ", got ", width);
  return width;
}

// What corrects a row: its prediction, and the weight of the measurement.
template <class T>
struct Corrector {
  Moments<T> moments;
  const T *weight, *asked;
  T bound;
  bool kalman, alike;  // one weight for all columns

  // [d] each; `alpha` is written with the Kalman gate. `own` has room for a number a kind, and two of each column.
  void row(int64_t slot, int64_t r, T span, T events, const T* measured, const T* prev, T* own, T* out, T* guess,
           T* alpha) const {
    const int64_t d = moments.width, kinds = moments.kinds;
    std::pair<const T*, const T*> known{own + kinds, own + kinds};
    if (slot < 0) {
      std::fill_n(own + kinds, d, T(0));
    } else {
      known = moments.mixture(slot, asked == nullptr ? nullptr : asked + r * kinds, own);
    }
    predict_row(prev, known.first, span, bound, d, guess);
    if (kalman) {
      const T noise = std::max(*weight * events, std::numeric_limits<T>::min());
      for (int64_t f = 0; f < d; ++f) {
        const T p = span * span * known.second[f];
        alpha[f] = p / (p + noise);
      }
    }
    mix_row(guess, measured, kalman ? alpha : weight, !kalman && alike, d, out);
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> pres_correct_cpu(Tensor measured, Tensor prev, Tensor nodes, Maybe affected,
                                                            Maybe slot, Tensor n, Tensor mean, Maybe m2, Maybe kinds,
                                                            Maybe dt, Maybe tau, Maybe longest, Maybe count,
                                                            Maybe scale, Tensor weight, double eps, double max_shift,
                                                            double min_count, bool kalman, bool by_node, bool save) {
  constexpr const char* kOp = "pres_correct";
  expect_shape(kOp, "measured", measured, {kAny, kAny});
  expect_shape(kOp, "n", n, {kAny, kAny});
  const int64_t rows = measured.size(0), d = measured.size(1), moments = n.size(0), num_kinds = n.size(1);
  const Slots slots(kOp, nodes, rows, slot, moments);
  const int64_t width = weights_of(kOp, weight, kalman ? 1 : d);
  STD_TORCH_CHECK(!kalman || m2.has_value(), kOp, ": expected m2 with the Kalman gate");
  const int64_t table = by_node ? slots.nodes() : rows;
  const bool* late = data<bool>(kOp, "affected", affected, {table});
  const int64_t* events = data<int64_t>(kOp, "count", count, {table});
  const Spans spans(kOp, rows, dt, tau, longest, eps);
  Tensor out = fresh(measured, {rows, d}), guess = fresh(measured, {save ? rows : 0, d});
  Tensor alpha = fresh(measured, {kalman ? rows : 0, d});
  Tensor hit = torch::stable::new_empty(measured, {rows}, ScalarType::Bool);
  dispatch_full(kOp, "measured", measured, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *now = data<T>(kOp, "measured", measured, {rows, d}), *before = data<T>(kOp, "prev", prev, {table, d});
    const T* square = data<T>(kOp, "scale", scale, {});
    const Moments<T> of{data<T>(kOp, "n", n, {moments, num_kinds}),
                        data<T>(kOp, "mean", mean, {moments, num_kinds, d}),
                        kalman ? data<T>(kOp, "m2", m2, {moments, num_kinds, d}) : nullptr,
                        num_kinds,
                        d,
                        static_cast<T>(min_count)};
    const Corrector<T> corrector{
        of,
        data<T>(kOp, "weight", weight, {1, width}),
        data<T>(kOp, "kinds", kinds, {rows, num_kinds}),
        square == nullptr ? std::numeric_limits<T>::infinity() : static_cast<T>(max_shift) * std::sqrt(*square),
        kalman,
        width == 1};
    T *mixed = numbers_of<T>(out), *guesses = numbers_of<T>(guess), *gates = numbers_of<T>(alpha);
    bool* hits = numbers_of<bool>(hit);
    parallel_chunks(rows, kRows, rows * d * 2, [&](int64_t begin, int64_t end) {
      Room<T> own(num_kinds + 3 * d);
      for (int64_t r = begin; r < end; ++r) {
        if (const int64_t next = r + kRowsAhead; by_node && next < end && (late == nullptr || late[slots.node(next)])) {
          fetch_columns(before + slots.node(next) * d, d);
          if (const int64_t at = slots.of(next); at >= 0) fetch_columns(of.mean + at * num_kinds * d, num_kinds * d);
        }
        const int64_t at = slots.of(r), known = at >= 0 && of.known(at) ? at : -1, from = by_node ? slots.node(r) : r;
        hits[r] = late == nullptr || (late[from] && known >= 0);
        T *gate = kalman ? gates + r * d : nullptr, *expected = save ? guesses + r * d : own.data() + num_kinds + 2 * d;
        if (hits[r]) {
          const int64_t q = events == nullptr ? 1 : events[from];
          corrector.row(known, r, static_cast<T>(spans.of(r, q)), static_cast<T>(q), now + r * d, before + from * d,
                        own.data(), mixed + r * d, expected, gate);
          continue;
        }
        std::copy_n(now + r * d, d, mixed + r * d);
        if (save) std::copy_n(now + r * d, d, expected);
        if (kalman) std::fill_n(gate, d, T(0));
      }
    });
  });
  return {out, guess, alpha, hit};
}

std::tuple<Tensor, Tensor> pres_correct_backward_cpu(Tensor grad, Tensor measured, Tensor guess, Tensor alpha,
                                                     Tensor hit, Tensor weight) {
  constexpr const char* kOp = "pres_correct_backward";
  expect_shape(kOp, "measured", measured, {kAny, kAny});
  const int64_t rows = measured.size(0), d = measured.size(1);
  expect_shape(kOp, "grad", grad, {rows, d});
  const int64_t width = weights_of(kOp, weight, d);
  const bool* hits = data<bool>(kOp, "hit", hit, {rows});
  const bool kalman = alpha.size(0) > 0;
  Tensor dmeasured = fresh(measured, {rows, d}), dweight = torch::stable::new_empty(weight, {1, width});
  dispatch_full(kOp, "measured", measured, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *slopes = data<T>(kOp, "grad", grad, {rows, d}), *now = data<T>(kOp, "measured", measured, {rows, d});
    const T *guesses = data<T>(kOp, "guess", guess, {rows, d}), *w = data<T>(kOp, "weight", weight, {1, width});
    const T* gates = data<T>(kOp, "alpha", alpha, {kalman ? rows : 0, d});
    T* out = numbers_of<T>(dmeasured);
    BlockSums<T> sums((rows + kRows - 1) / kRows, width);
    parallel_chunks(sums.blocks(), 1, rows * d * 2, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin * kRows; r < std::min(rows, end * kRows); ++r) {
        const T *slope = slopes + r * d, *gate = gates + r * d, *to = now + r * d, *from = guesses + r * d;
        T *result = out + r * d, *sum = sums.of(r / kRows);
        if (!hits[r]) {
          std::copy_n(slope, d, result);
          continue;
        }
        if (!kalman) {
          unmix_row(slope, from, to, w, width == 1, d, result, sum);
          continue;
        }
        for (int64_t f = 0; f < d; ++f) {
          result[f] = slope[f] * gate[f];
          // alpha = p / (p + R0 q): its slope is - alpha (1 - alpha) / R0.
          *sum -= slope[f] * (to[f] - from[f]) * gate[f] * (T(1) - gate[f]) / *w;
        }
      }
    });
    sums.total(0, width, numbers_of<T>(dweight));
  });
  return {dmeasured, dweight};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("pres_correct", TORCH_BOX(&graphmem::pres_correct_cpu));
  m.impl("pres_correct_backward", TORCH_BOX(&graphmem::pres_correct_backward_cpu));
}
