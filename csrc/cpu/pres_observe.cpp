// pres_observe: one more observation of how fast rows move.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <limits>

#include "cpu/fresh.h"
#include "cpu/pres.h"

namespace graphmem {
namespace {

Tensor pres_observe_cpu(Tensor n, Tensor mean, Tensor m2, Tensor scale, Tensor x, Maybe prev, Tensor nodes, Maybe slot,
                        int64_t capacity, Maybe weights, Maybe dt, Maybe tau, Maybe longest, double eps, double decay,
                        double scale_rate) {
  constexpr const char* kOp = "pres_observe";
  expect_shape(kOp, "n", n, {kAny, kAny});
  expect_shape(kOp, "x", x, {kAny, kAny});
  const int64_t rows = x.size(0), d = x.size(1), moments = n.size(0), num_kinds = n.size(1);
  expect_shape(kOp, "mean", mean, {moments, num_kinds, d});
  expect_number(kOp, "capacity", capacity, 0, moments);
  const Slots slots(kOp, nodes, rows, slot, moments);
  const Spans spans(kOp, rows, dt, tau, longest, eps);
  Tensor moved = fresh(mean, {rows, d});
  dispatch_full(kOp, "mean", mean, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *states = data<T>(kOp, "x", x, {rows, d}), *before = data<T>(kOp, "prev", prev, {rows, d});
    const T* shares = data<T>(kOp, "weights", weights, {rows, num_kinds});
    T *counts = writable<T>(kOp, "n", n, {moments, num_kinds}),
      *means = writable<T>(kOp, "mean", mean, {moments, num_kinds, d}), *out = numbers_of<T>(moved);
    const bool wide = m2.size(0) > 0, scaled = scale.numel() > 0;
    T* sums = writable<T>(kOp, "m2", m2, {wide ? moments : 0, num_kinds, d});
    T *square = writable<T>(kOp, "scale", scale, {scaled ? 1 : 0}), total = 0;
    for (int64_t r = 0; r < rows; ++r) {
      if (r + kRowsAhead < rows) {
        const int64_t next = slots.of(r + kRowsAhead);
        if (next >= 0 && next < capacity) fetch_columns(means + next * num_kinds * d, num_kinds * d);
      }
      const T* state = states + r * d;
      T* rate = out + r * d;
      if (before == nullptr) {
        std::copy_n(state, d, rate);
      } else {
        moved_row(state, before + r * d, static_cast<T>(spans.of(r, 1)), d, rate);
      }
      if (scaled) total += dot(state, state, d) / static_cast<T>(d);
      const int64_t at = slots.of(r);
      if (at < 0 || at >= capacity) continue;
      for (int64_t c = 0; c < num_kinds; ++c) {
        const int64_t place = at * num_kinds + c;
        const T w = shares == nullptr ? T(1) : shares[r * num_kinds + c];
        counts[place] = static_cast<T>(decay) * counts[place] + w;
        observe_row(rate, d, w, w / std::max(counts[place], std::numeric_limits<T>::min()), static_cast<T>(decay),
                    means + place * d, wide ? sums + place * d : nullptr);
      }
    }
    if (scaled && rows > 0) {
      total /= static_cast<T>(rows);
      *square = *square > 0 ? lerp(*square, total, static_cast<T>(scale_rate)) : total;
    }
  });
  return moved;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("pres_observe", TORCH_BOX(&graphmem::pres_observe_cpu)); }
