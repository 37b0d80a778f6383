// What every cell of some rows is worth, once the event that filled it has passed a small GRU cell; see
// cpu/ncache_refresh.cpp. Here the functions of one number of one cell, for host and device.
#pragma once

#include <cmath>

#include "common/events.h"
#include "common/ncache.h"

namespace graphmem {

// Cells as they are stored; n counts those of all rows.
template <class Key, class Time, class Value>
struct StoredCells {
  Cells<Key> cells;
  const Time* time;
  const Value* value;
  const int64_t* nodes;
  int64_t rows, width;
  bool delta;

  GRAPHMEM_HD int64_t count() const { return rows * cells.columns; }
  GRAPHMEM_HD int64_t cell(int64_t n) const { return nodes[n / cells.columns] * cells.columns + n % cells.columns; }
  // -1 where no event has filled the cell.
  GRAPHMEM_HD int64_t known(int64_t n) const {
    return cells.eid[cell(n)] < 0 ? -1 : cells.key_at(nodes[n / cells.columns], n % cells.columns);
  }
  GRAPHMEM_HD double step(int64_t n) const {
    const int64_t at = cell(n);
    return static_cast<double>(delta ? time[at - n % cells.columns] - time[at] : time[at]);
  }
};

// Cells as they are computed with.
template <class T>
struct GruCells {
  int64_t count, width, times, of_state, of_message;  // F, T, and columns of state and messages
  const int64_t *known, *row;                         // row: of messages
  const double* step;
  const T *stored, *state, *messages;
  const T *time_weight, *time_bias, *weight, *weight_ih, *weight_hh, *bias_ih, *bias_hh;

  GRAPHMEM_HD int64_t inputs() const { return of_state + of_message + times; }
  GRAPHMEM_HD bool filled(int64_t n) const { return known[n] >= 0; }

  // In float64, so that a phase keeps its digits for times of millions of seconds.
  GRAPHMEM_HD double phase(int64_t n, int64_t k) const {
    return step[n] * static_cast<double>(time_weight[k]) + static_cast<double>(time_bias[k]);
  }

  // Number d of [state, message, code]. `code` [count, T].
  GRAPHMEM_HD T part(int64_t n, int64_t d, const T* code) const {
    if (d < of_state) return state[known[n] * of_state + d];
    if (d >= of_state + of_message) return code[n * times + d - of_state - of_message];
    return messages != nullptr ? messages[row[n] * of_message + d - of_state] : T(0);
  }

  // Unit f of the GRU's input, the product of the weights and these.
  GRAPHMEM_HD T input(int64_t n, int64_t f, const T* code) const {
    T sum = 0;
    for (int64_t d = 0; d < inputs(); ++d) sum += weight[f * inputs() + d] * part(n, d, code);
    return sum;
  }

  // Gate j of the parts of r, z and n that belong to the input x [F], or to what is stored.
  GRAPHMEM_HD T of_input(int64_t j, const T* x) const {
    T sum = bias_ih[j];
    for (int64_t f = 0; f < width; ++f) sum += weight_ih[j * width + f] * x[f];
    return sum;
  }
  GRAPHMEM_HD T of_stored(int64_t j, int64_t n) const {
    T sum = bias_hh[j];
    for (int64_t f = 0; f < width; ++f) sum += weight_hh[j * width + f] * stored[n * width + f];
    return sum;
  }
};

template <class T>
GRAPHMEM_HD T logistic(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

// Unit f of the GRU: its gates, and what the cell is worth.
template <class T>
struct GruUnit {
  T z, r, u, n, hidden;  // z: what is stored; hidden: the part of n that r scales

  GRAPHMEM_HD GruUnit(const GruCells<T>& c, int64_t cell, int64_t f, const T* x) : z(c.stored[cell * c.width + f]) {
    const int64_t second = c.width + f, third = second + c.width;
    hidden = c.of_stored(third, cell);
    r = logistic(c.of_input(f, x) + c.of_stored(f, cell));
    u = logistic(c.of_input(second, x) + c.of_stored(second, cell));
    n = std::tanh(c.of_input(third, x) + r * hidden);
  }

  GRAPHMEM_HD T worth() const { return n + u * (z - n); }

  // Gradients of the pre-activations: of r, z and n for the input, and of n for what is stored, [4 F] with unit f's apart.
  GRAPHMEM_HD void differentiate(T grad, int64_t width, T* slope) const {
    const T dn = grad * (1 - u) * (1 - n * n);
    slope[0] = dn * hidden * (r * (1 - r));
    slope[width] = grad * (z - n) * (u * (1 - u));
    slope[2 * width] = dn;
    slope[3 * width] = dn * r;
  }
};

struct RefreshedArguments {
  Tensor key, eid, time, value, nodes, state;
  std::optional<Tensor> messages, row;
  bool delta;
  Tensor time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih, bias_hh;

  template <class Key, class Time, class Value>
  StoredCells<Key, Time, Value> cells(const char* op) const {
    StoredCells<Key, Time, Value> c{};
    c.cells = make_cells<Key>(op, key, eid);
    c.time = data<Time>(op, "time", time, {c.cells.nodes, c.cells.columns});
    c.value = data<Value>(op, "value", value, {c.cells.nodes, c.cells.columns, kAny});
    c.nodes = data<int64_t>(op, "nodes", nodes, {kAny});
    c.rows = nodes.size(0), c.width = value.size(2), c.delta = delta;
    return c;
  }

  // Without what is read of the cells.
  template <class T>
  GruCells<T> gru(const char* op) const {
    GruCells<T> r{};
    r.count = nodes.size(0) * key.size(1), r.width = value.size(2);
    expect_shape(op, "time_weight", time_weight, {kAny});
    r.times = time_weight.size(0);
    r.state = data<T>(op, "state", state, {key.size(0), kAny});
    r.of_state = state.size(1);
    r.row = data<int64_t>(op, "row", row, {nodes.size(0), key.size(1)});
    STD_TORCH_CHECK(messages.has_value() == row.has_value(), op, ": expected both or neither of messages and row");
    r.messages = data<T>(op, "messages", messages, {kAny, kAny});
    r.of_message = messages.has_value() ? messages->size(1) : 0;
    r.time_weight = data<T>(op, "time_weight", time_weight, {r.times});
    r.time_bias = data<T>(op, "time_bias", time_bias, {r.times});
    r.weight = data<T>(op, "weight", weight, {r.width, r.inputs()});
    r.weight_ih = data<T>(op, "weight_ih", weight_ih, {3 * r.width, r.width});
    r.weight_hh = data<T>(op, "weight_hh", weight_hh, {3 * r.width, r.width});
    r.bias_ih = data<T>(op, "bias_ih", bias_ih, {3 * r.width});
    r.bias_hh = data<T>(op, "bias_hh", bias_hh, {3 * r.width});
    return r;
  }

  // Calls f(cells, gru) with the types of keys, times and values.
  template <class F>
  auto dispatch(const char* op, F&& f) const {
    return dispatch_index(op, "key", key, [&](auto key_type) {
      return dispatch_time(op, "time", time, [&](auto time_type) {
        return dispatch_feature(op, "value", value, [&](auto value_type) {
          using Value = typename decltype(value_type)::type;
          const auto stored = cells<typename decltype(key_type)::type, typename decltype(time_type)::type, Value>(op);
          return f(stored, gru<typename Accumulate<Value>::type>(op));
        });
      });
    });
  }
};

}  // namespace graphmem
