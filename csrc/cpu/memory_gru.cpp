// memory_gru: the next states of nodes with one message each, by a GRU cell:
//
//   x = [s_node, s_other, message, cos(w dt + b)], g = W_ih x + b_ih, h = W_hh s_node + b_hh
//   r = sigmoid(g_r + h_r), z = sigmoid(g_z + h_z), n = tanh(g_n + r h_n), s' = n + z (s_node - n)
//
// Without columns for s_node in W_ih it reads the state as its state alone; a node whose s_other is none (-1) stays as it is.
//
// One task takes 48 rows from the gather to the gates, so that nothing but x and the gates, which the gradient reads,
// goes through memory. The products are those of cpu/gemm.h; the gradients of w and b are added over blocks of 48 rows, in
// order. So the bits do not depend on the number of threads.
//
// The gradient gives D = (d g_r, d g_z, d g_n, d h_n) and those of w and b; those of the matrices are the product D^T x,
// for its own s_node is the first part of x. States have no gradient.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/dispatch.h"
#include "cpu/cell_gradient.h"
#include "cpu/fresh.h"
#include "cpu/gemm.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

constexpr int64_t kRows = kCellRows;

// The transpose of a weight [n, k], packed. On one thread: waking another takes longer than the usual hundred kilobytes.
template <class T>
Tensor packed_transpose(const Tensor& like, const T* weight, int64_t n, int64_t k) {
  Tensor out = torch::stable::new_empty(like, {packed_size<T>(k, n)});
  pack_panels(weight, 1, k, k, n, 0, num_panels<T>(n), static_cast<T*>(out.mutable_data_ptr()));
  return out;
}

std::tuple<Tensor, Tensor, Tensor> memory_gru_cpu(Tensor memory, Tensor node, Tensor other, Tensor msg, Tensor dt,
                                                  Tensor time_weight, Tensor time_bias, Tensor weight_ih,
                                                  Tensor weight_hh, Tensor bias_ih, Tensor bias_hh, bool save) {
  constexpr const char* kOp = "memory_gru";
  expect_shape(kOp, "memory", memory, {kAny, kAny});
  expect_shape(kOp, "msg", msg, {kAny, kAny});
  expect_shape(kOp, "time_weight", time_weight, {kAny});
  const int64_t* nodes = data<int64_t>(kOp, "node", node, {kAny});
  const int64_t rows = node.size(0), d = memory.size(1), raw = msg.size(1), times = time_weight.size(0);
  const int64_t width = 2 * d + raw + times;
  expect_rows(kOp, "memory", memory, rows > 0);
  const int64_t* others = data<int64_t>(kOp, "other", other, {rows});
  const double* steps = data<double>(kOp, "dt", dt, {rows});
  Tensor out = fresh(memory, {rows, d}), x = fresh(memory, {save ? rows : 0, width});
  Tensor gates = fresh(memory, {save ? rows : 0, 4 * d});
  dispatch_full(kOp, "memory", memory, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *states = data<T>(kOp, "memory", memory, {kAny, d}), *messages = data<T>(kOp, "msg", msg, {rows, raw});
    const T* w = data<T>(kOp, "time_weight", time_weight, {times});
    const T* b = data<T>(kOp, "time_bias", time_bias, {times});
    expect_shape(kOp, "weight_ih", weight_ih, {3 * d, kAny});
    const int64_t from = weight_ih.size(1) == width - d ? d : 0;  // the first column of x that W_ih reads
    const T* w_ih = data<T>(kOp, "weight_ih", weight_ih, {3 * d, width - from});
    const T* w_hh = data<T>(kOp, "weight_hh", weight_hh, {3 * d, d});
    const T *b_ih = data<T>(kOp, "bias_ih", bias_ih, {3 * d}), *b_hh = data<T>(kOp, "bias_hh", bias_hh, {3 * d});
    const Tensor ih = packed_transpose(memory, w_ih, 3 * d, width - from);
    const Tensor hh = packed_transpose(memory, w_hh, 3 * d, d);
    T *saved_x = static_cast<T*>(x.mutable_data_ptr()), *saved_gates = static_cast<T*>(gates.mutable_data_ptr());
    T* result = static_cast<T*>(out.mutable_data_ptr());
    const CellInputs<T> inputs{states, d, raw, times, w, b};
    parallel_chunks(rows, kRows, [&](int64_t first, int64_t last) {
      Tensor buffers = torch::stable::new_empty(memory, {kRows * (width + 10 * d)});
      T* g = static_cast<T*>(buffers.mutable_data_ptr());
      T *h = g + kRows * 3 * d, *own_gates = h + kRows * 3 * d, *own_x = own_gates + kRows * 4 * d;
      for (int64_t begin = first; begin < last; begin += kRows) {
        const int64_t count = std::min(kRows, last - begin);
        T* in = save ? saved_x + begin * width : own_x;
        for (int64_t i = 0; i < count; ++i) {
          const int64_t n = begin + i;
          inputs.put(nodes[n], others[n], messages + n * raw, steps[n], in + i * width);
        }
        multiply_packed(in + from, width, 1, static_cast<const T*>(ih.const_data_ptr()), b_ih, count, width - from,
                        3 * d, g);
        multiply_packed(in, width, 1, static_cast<const T*>(hh.const_data_ptr()), b_hh, count, d, 3 * d, h);
        T* to = save ? saved_gates + begin * 4 * d : own_gates;
        for (int64_t i = 0; i < count; ++i) {
          inputs.finish(g + i * 3 * d, h + i * 3 * d, in + i * width, others[begin + i], to + i * 4 * d,
                        result + (begin + i) * d);
        }
      }
    });
  });
  return {out, x, gates};
}

std::tuple<Tensor, Tensor, Tensor> memory_gru_backward_cpu(Tensor grad, Tensor inputs, Tensor gates, Tensor dt,
                                                           Tensor time_weight, Tensor time_bias, Tensor weight_ih) {
  constexpr const char* kOp = "memory_gru_backward";
  expect_shape(kOp, "grad", grad, {kAny, kAny});
  expect_shape(kOp, "inputs", inputs, {kAny, kAny});
  expect_shape(kOp, "time_weight", time_weight, {kAny});
  const int64_t rows = grad.size(0), d = grad.size(1), width = inputs.size(1), times = time_weight.size(0);
  expect_number(kOp, "inputs with columns", width, 2 * d + times);
  const double* steps = data<double>(kOp, "dt", dt, {rows});
  Tensor out = fresh_like(gates);
  Tensor dweight = torch::stable::new_empty(time_weight, {times}), dbias = torch::stable::new_empty(time_bias, {times});
  dispatch_full(kOp, "grad", grad, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *slopes = data<T>(kOp, "grad", grad, {rows, d}), *in = data<T>(kOp, "inputs", inputs, {rows, width});
    const T* saved = data<T>(kOp, "gates", gates, {rows, 4 * d});
    const T* w = data<T>(kOp, "time_weight", time_weight, {times});
    const T* b = data<T>(kOp, "time_bias", time_bias, {times});
    expect_shape(kOp, "weight_ih", weight_ih, {3 * d, kAny});
    const int64_t columns = weight_ih.size(1) == width - d ? width - d : width;
    const T* w_ih = data<T>(kOp, "weight_ih", weight_ih, {3 * d, columns});
    // The last columns of W_ih lead to the time code: [3 d, times] as it lies.
    Tensor buffer = torch::stable::new_empty(grad, {packed_size<T>(3 * d, times)});
    T* packed = static_cast<T*>(buffer.mutable_data_ptr());
    pack_panels(w_ih + columns - times, columns, 1, 3 * d, times, 0, num_panels<T>(times), packed);
    T* result = static_cast<T*>(out.mutable_data_ptr());
    const CellRows<T> cells{rows, d, width, times, in, saved, w, b, packed};
    differentiate(
        cells, [&](int64_t i) { return slopes + i * d; }, [&](int64_t i) { return steps[i]; }, result,
        static_cast<T*>(dweight.mutable_data_ptr()), static_cast<T*>(dbias.mutable_data_ptr()));
  });
  return {out, dweight, dbias};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("memory_gru", TORCH_BOX(&graphmem::memory_gru_cpu));
  m.impl("memory_gru_backward", TORCH_BOX(&graphmem::memory_gru_backward_cpu));
}
