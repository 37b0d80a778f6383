// coherence: how far rows turned, the mean of one minus the cosine; and its gradient.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "cpu/fresh.h"
#include "cpu/ids.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

// The row of x [*, d] that each row of prev [n, d] is compared with.
const int64_t* rows_of(const char* op, const Tensor& x, const Tensor& row, const Tensor& prev) {
  expect_shape(op, "x", x, {kAny, kAny});
  expect_shape(op, "prev", prev, {kAny, kAny});
  expect_rows(op, "x", x, prev.size(0) > 0);
  return nodes_of(op, "row", row, {prev.size(0)}, x.size(0));
}

// Saved of each row: the cosine, one over the product of both norms (0 where there is no previous state), and one over the
// squared norm of the new one.
std::tuple<Tensor, Tensor> coherence_cpu(Tensor x, Tensor row, Tensor prev) {
  constexpr const char* kOp = "coherence";
  const int64_t* at = rows_of(kOp, x, row, prev);
  const int64_t rows = prev.size(0), d = x.size(1);
  Tensor loss = torch::stable::new_empty(x, {}), saved = fresh(x, {rows, 3});
  dispatch_full(kOp, "x", x, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *now = data<T>(kOp, "x", x, {kAny, d}), *before = data<T>(kOp, "prev", prev, {rows, d});
    T* numbers = static_cast<T*>(saved.mutable_data_ptr());
    parallel_chunks(rows, 64, rows * d * 3, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const T *a = now + at[r] * d, *b = before + r * d;
        const T aa = dot(a, a, d), bb = dot(b, b, d), ab = dot(a, b, d);
        T* own = numbers + r * 3;
        const T norm = std::sqrt(std::max(aa, std::numeric_limits<T>::min()));
        own[0] = bb != 0 ? ab / (norm * std::sqrt(bb)) : T(0);
        own[1] = bb != 0 ? T(1) / (norm * std::sqrt(bb)) : T(0);
        own[2] = aa > std::numeric_limits<T>::min() ? T(1) / aa : T(0);
      }
    });
    T sum = 0, count = 0;
    for (int64_t r = 0; r < rows; ++r) {
      if (numbers[r * 3 + 1] == 0) continue;
      sum += T(1) - numbers[r * 3];
      count += T(1);
    }
    *static_cast<T*>(loss.mutable_data_ptr()) = sum / std::max(count, T(1));
  });
  return {loss, saved};
}

Tensor coherence_backward_cpu(Tensor grad, Tensor x, Tensor row, Tensor prev, Tensor saved) {
  constexpr const char* kOp = "coherence_backward";
  const int64_t* at = rows_of(kOp, x, row, prev);
  const int64_t rows = prev.size(0), d = x.size(1);
  Tensor out = fresh_zeros(x, {x.size(0), d}, x.scalar_type());
  dispatch_full(kOp, "x", x, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *now = data<T>(kOp, "x", x, {kAny, d}), *before = data<T>(kOp, "prev", prev, {rows, d});
    const T *slope = data<T>(kOp, "grad", grad, {}), *numbers = data<T>(kOp, "saved", saved, {rows, 3});
    T* dx = static_cast<T*>(out.mutable_data_ptr());
    const auto counted = [&](int64_t r) { return numbers[r * 3 + 1] != 0; };
    T count = 0;
    for (int64_t r = 0; r < rows; ++r) count += counted(r);
    const T each = *slope / std::max(count, T(1));
    for (int64_t r = 0; r < rows; ++r) {  // one after the other: a row may be there twice
      if (!counted(r)) continue;
      const T *own = numbers + r * 3, *a = now + at[r] * d, *b = before + r * d, toward = each * own[0] * own[2];
      T* sum = dx + at[r] * d;
      axpy(sum, toward, a, d);
      axpy(sum, -each * own[1], b, d);
    }
  });
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("coherence", TORCH_BOX(&graphmem::coherence_cpu));
  m.impl("coherence_backward", TORCH_BOX(&graphmem::coherence_backward_cpu));
}
