// gru_step: the state behind a GRU cell from what its two matrices give, and its gradient:
//
//   r = sigmoid(g_r + h_r), z = sigmoid(g_z + h_z), n = tanh(g_n + r h_n), s' = n + z (s - n)
//
// One pass over the rows in place of a dozen, each of which would wake the other threads.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "common/dispatch.h"
#include "cpu/fresh.h"
#include "cpu/gates.h"
#include "cpu/parallel.h"
#include "cpu/room.h"

namespace graphmem {
namespace {

constexpr int64_t kRows = 32;  // of a task
// Nanoseconds that a thread takes for a number of a row, with its three gates.
constexpr int64_t kNanoseconds = 4;

std::tuple<Tensor, Tensor> gru_step_cpu(Tensor g, Tensor h, Tensor state, bool save) {
  constexpr const char* kOp = "gru_step";
  expect_shape(kOp, "state", state, {kAny, kAny});
  const int64_t rows = state.size(0), d = state.size(1);
  Tensor out = fresh(state, {rows, d}), gates = fresh(state, {save ? rows : 0, 4 * d});
  dispatch_full(kOp, "state", state, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *of_input = data<T>(kOp, "g", g, {rows, 3 * d}), *of_state = data<T>(kOp, "h", h, {rows, 3 * d});
    const T* before = data<T>(kOp, "state", state, {rows, d});
    T *after = static_cast<T*>(out.mutable_data_ptr()), *saved = static_cast<T*>(gates.mutable_data_ptr());
    parallel_chunks(rows, kRows, rows * d * kNanoseconds, [&](int64_t begin, int64_t end) {
      Room<T> own(save ? 0 : 4 * d);
      for (int64_t n = begin; n < end; ++n) {
        gate(of_input + n * 3 * d, of_state + n * 3 * d, before + n * d, d, save ? saved + n * 4 * d : own.data(),
             after + n * d);
      }
    });
  });
  return {out, gates};
}

std::tuple<Tensor, Tensor, Tensor> gru_step_backward_cpu(Tensor grad, Tensor gates, Tensor state) {
  constexpr const char* kOp = "gru_step_backward";
  expect_shape(kOp, "state", state, {kAny, kAny});
  const int64_t rows = state.size(0), d = state.size(1);
  Tensor dg = fresh(state, {rows, 3 * d}), dh = fresh(state, {rows, 3 * d}), dstate = fresh(state, {rows, d});
  dispatch_full(kOp, "state", state, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *slopes = data<T>(kOp, "grad", grad, {rows, d}), *saved = data<T>(kOp, "gates", gates, {rows, 4 * d});
    const T* before = data<T>(kOp, "state", state, {rows, d});
    T *of_input = static_cast<T*>(dg.mutable_data_ptr()), *of_state = static_cast<T*>(dh.mutable_data_ptr());
    T* of_before = static_cast<T*>(dstate.mutable_data_ptr());
    parallel_chunks(rows, kRows, rows * d * kNanoseconds, [&](int64_t begin, int64_t end) {
      Room<T> own(4 * d);  // r, z and n of the input's part, n of the state's
      for (int64_t n = begin; n < end; ++n) {
        const T *slope = slopes + n * d, *z = saved + n * 4 * d + d, *all = own.data();
        gate_gradient(slope, saved + n * 4 * d, before + n * d, d, own.data());
        std::copy(all, all + 3 * d, of_input + n * 3 * d);
        std::copy(all, all + 2 * d, of_state + n * 3 * d);
        std::copy(all + 3 * d, all + 4 * d, of_state + n * 3 * d + 2 * d);
        for (int64_t f = 0; f < d; ++f) of_before[n * d + f] = slope[f] * z[f];
      }
    });
  });
  return {dg, dh, dstate};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("gru_step", TORCH_BOX(&graphmem::gru_step_cpu));
  m.impl("gru_step_backward", TORCH_BOX(&graphmem::gru_step_backward_cpu));
}
