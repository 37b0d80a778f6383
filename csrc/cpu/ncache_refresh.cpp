// ncache_refresh: what every cell of some rows is worth, once the event that filled it has passed a small GRU cell:
//
//   x = W [s_key, message, cos(w dt + b)], z' = GRU(x, z) where a cell has an event, else z
//
// The parts of x that depend on the key and on the message alone are computed once for each, however many cells hold it:
// products of cpu/gemm.h. The rest takes 64 cells at a time, a cell a lane, whatever the width is: all loops are over
// lanes. Nothing is kept for the gradient, which computes the cell anew; sums over cells go over blocks of 64, in order,
// so that the bits do not depend on the number of threads.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/fresh.h"
#include "cpu/refresh_gradient.h"

namespace graphmem {
namespace {

// The weights' columns of a part, packed, times its rows.
template <class T>
void multiply(Part<T>& part, const GruCells<T>& c) {
  std::vector<T> packed(packed_size<T>(part.depth, c.width));
  pack_panels(c.weight + part.column, 1, c.inputs(), part.depth, c.width, 0, num_panels<T>(c.width), packed.data());
  part.multiply(packed_panels<T>(packed.data(), part.depth), c.width);
}

template <class Key, class Time, class Value, class T>
Refresh<Value, T> prepare(const StoredCells<Key, Time, Value>& stored, const GruCells<T>& c) {
  Refresh<Value, T> r;
  r.gates = {c.width,     c.times,     c.inputs(), c.time_weight, c.time_bias, c.weight + c.of_state + c.of_message,
             c.weight_ih, c.weight_hh, c.bias_ih,  c.bias_hh};
  r.state.table = c.state, r.state.depth = c.of_state;
  r.message.table = c.messages, r.message.depth = c.of_message, r.message.column = c.of_state;
  r.collect(stored, c.messages != nullptr, [&](int64_t n, int64_t) { return c.row[n]; });
  r.state.number(r.keys);
  multiply(r.state, c);
  if (c.messages != nullptr) {
    r.message.number(r.letters);
    multiply(r.message, c);
  }
  return r;
}

Tensor ncache_refresh_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes, Tensor state,
                          std::optional<Tensor> messages, std::optional<Tensor> row, bool delta, Tensor time_weight,
                          Tensor time_bias, Tensor weight, Tensor weight_ih, Tensor weight_hh, Tensor bias_ih,
                          Tensor bias_hh) {
  const RefreshedArguments arguments{key,   eid,         time,      value,  nodes,     state,     messages, row,
                                     delta, time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih,  bias_hh};
  return arguments.dispatch("ncache_refresh", [&]<class T>(const auto& cells, const GruCells<T>& gru) {
    const auto r = prepare(cells, gru);
    const int64_t width = r.gates.width;
    Tensor now = fresh(state, {r.rows, r.columns, width});
    T* out = static_cast<T*>(now.mutable_data_ptr());
    r.run(out);
    return now;
  });
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Gradients ncache_refresh_backward_cpu(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes,
                                      Tensor state, std::optional<Tensor> messages, std::optional<Tensor> row,
                                      bool delta, Tensor time_weight, Tensor time_bias, Tensor weight, Tensor weight_ih,
                                      Tensor weight_hh, Tensor bias_ih, Tensor bias_hh) {
  const RefreshedArguments arguments{key,   eid,         time,      value,  nodes,     state,     messages, row,
                                     delta, time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih,  bias_hh};
  constexpr const char* kOp = "ncache_refresh_backward";
  return arguments.dispatch(kOp, [&]<class T>(const auto& cells, const GruCells<T>& gru) {
    auto r = prepare(cells, gru);
    const Gates<T>& p = r.gates;
    const int64_t width = p.width;
    const T* slopes = data<T>(kOp, "grad", grad, {r.rows, r.columns, width});
    Tensor dweight = torch::stable::new_empty(weight, {width, p.row});
    std::vector<T> total(p.sums());
    differentiate(r, slopes, p.row, static_cast<T*>(dweight.mutable_data_ptr()), total.data());
    const auto part = [&](const Tensor& like, int64_t from) {
      Tensor out = torch::stable::empty_like(like);
      std::copy_n(total.data() + from, out.numel(), static_cast<T*>(out.mutable_data_ptr()));
      return out;
    };
    Tensor dbias_hh = part(bias_hh, p.of_bias());  // r, z; then the hidden part of n
    std::copy_n(total.data() + p.of_bias() + 3 * width, width,
                static_cast<T*>(dbias_hh.mutable_data_ptr()) + 2 * width);
    return Gradients(part(time_weight, p.of_time()), part(time_bias, p.of_time() + p.times), dweight,
                     part(weight_ih, p.of_ih()), part(weight_hh, p.of_hh()), part(bias_ih, p.of_bias()), dbias_hh);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("ncache_refresh", TORCH_BOX(&graphmem::ncache_refresh_cpu));
  m.impl("ncache_refresh_backward", TORCH_BOX(&graphmem::ncache_refresh_backward_cpu));
}
