// Weights of NAT as the model has them, for training; see cpu/nat_train.cpp.
#pragma once

#include <vector>

#include "cpu/nat.h"
#include "cpu/products.h"
#include "cpu/vector.h"

namespace graphmem {

// Numbers of the layers in the list, in the order of graphmem.ops.NATLayers.
enum Layer : int64_t {
  kTimeWeight,
  kTimeBias,
  kLinState,
  kLinValue,
  kStateIh,
  kStateHh,
  kStateBiasIh,
  kStateBiasHh,
  kValueIh,
  kValueHh,
  kValueBiasIh,
  kValueBiasHh,
  kPosition,
  kPool,
  kPoolBias,
  kHidden,
  kHiddenBias,
  kOut,
  kOutBias,
  kAttn,  // not there for sums
};

template <class T>
struct NatLayers {
  NatWeights<T> w;       // pointers into the layers, or into `room`
  const T* layer[20];    // null where there is none
  int64_t heads, width;  // of the pooling, and what a head makes of a mix
  Room<T> room;
  Room<T> projection, offset;  // [mixes, width, features] and [mixes, width]

  int64_t inputs() const { return w.d + w.raw + w.times; }
  int64_t pooled() const { return w.mixes() * width; }
  int64_t read() const { return pooled() + 2 * w.d + w.ages; }  // columns of the hidden layer

  // Sets what is read of the layers: some are multiplied with each other, or stored in another way.
  void fold() {
    const int64_t d = w.d, f = w.f, wide = padded(3 * d), features = w.features();
    w.time_weight = layer[kTimeWeight], w.time_bias = layer[kTimeBias];
    w.bias_ih = layer[kStateBiasIh], w.bias_hh = layer[kStateBiasHh];
    w.value_ih = layer[kValueIh], w.value_hh = layer[kValueHh];
    w.value_bias_ih = layer[kValueBiasIh], w.value_bias_hh = layer[kValueBiasHh];
    w.position = layer[kPosition], w.hidden_bias = layer[kHiddenBias];
    w.out = layer[kOut], w.out_bias = layer[kOutBias];
    room.resize((inputs() + d) * wide + (d + w.raw) * padded(f) + f * w.times + w.heads * (features + 1));
    T* at = room.data();
    Room<T> cell(inputs() * 3 * d);
    Products<T> products;
    products.add(rows_of(layer[kLinState], inputs()).t(), rows_of(layer[kStateIh], d).t(), inputs(), d, 3 * d,
                 cell.data());
    products.run();
    w.cell_ih = pad(rows_of(static_cast<const T*>(cell.data()), 3 * d), inputs(), 3 * d, at);
    w.cell_hh = pad(rows_of(layer[kStateHh], d).t(), d, 3 * d, at);
    const Matrix<T> value = rows_of(layer[kLinValue], inputs());
    w.value_state = pad(value.t(), d, f, at);
    w.value_message = pad(value.from(0, d).t(), w.raw, f, at);
    w.value_time = at;
    for (int64_t j = 0; j < f; ++j, at += w.times) std::copy_n(value.from(j, d + w.raw).data, w.times, at);
    project();
    w.query = at, w.constant = at + w.heads * features;
    for (int64_t h = 0; h < w.heads; ++h, at += features) {
      const T *attn = layer[kAttn] + h * width, *weight = projection.data() + h * width * features;
      std::fill_n(at, features, T(0));
      for (int64_t k = 0; k < width; ++k) axpy(at, attn[k], weight + k * features, features);
      room[w.constant - room.data() + h] = dot(attn, offset.data() + h * width, width);
    }
  }

 private:
  // Rows of a matrix [k, n], padded, to `at`, which moves behind them.
  static const T* pad(const Matrix<T>& from, int64_t k, int64_t n, T*& at) {
    const T* out = at;
    for (int64_t p = 0; p < k; ++p, at += padded(n)) {
      for (int64_t j = 0; j < n; ++j) at[j] = from.from(p, j).data[0];
    }
    return out;
  }

  // Sums are averaged over heads, which is one head of mean weights.
  void project() {
    const int64_t of_head = width * w.features();
    projection.assign(layer[kPool], layer[kPool] + w.mixes() * of_head);
    offset.assign(layer[kPoolBias], layer[kPoolBias] + pooled());
    if (w.heads > 0) return;
    for (int64_t h = 1; h < heads; ++h) {
      axpy(projection.data(), T(1), layer[kPool] + h * of_head, of_head);
      axpy(offset.data(), T(1), layer[kPoolBias] + h * width, width);
    }
    for (T& x : projection) x /= static_cast<T>(heads);
    for (T& x : offset) x /= static_cast<T>(heads);
  }
};

// The layers of a state, looked at.
template <class State>
NatLayers<typename State::T> checked_layers(const char* op, const State& s, const std::vector<Tensor>& list,
                                            int64_t heads) {
  using T = typename State::T;
  expect_number(op, "layers with entries", static_cast<int64_t>(list.size()), kAttn, kAttn + 1);
  expect_number(op, "heads", heads, 1, int64_t{1} << 20);
  NatLayers<T> n{s.w, {}, heads, 0, {}, {}, {}};
  const auto look = [&](Layer number, const char* name, Shape shape) {
    n.layer[number] = data<T>(op, name, list[number], shape);
  };
  NatWeights<T>& w = n.w;
  look(kTimeWeight, "time_weight", {kAny, 1});
  w.times = list[kTimeWeight].size(0);
  look(kTimeBias, "time_bias", {w.times});
  const int64_t d = w.d, f = w.f;
  look(kLinState, "lin_state", {d, n.inputs()}), look(kLinValue, "lin_value", {f, n.inputs()});
  look(kStateIh, "state_ih", {3 * d, d}), look(kStateHh, "state_hh", {3 * d, d});
  look(kStateBiasIh, "state_bias_ih", {3 * d}), look(kStateBiasHh, "state_bias_hh", {3 * d});
  look(kValueIh, "value_ih", {3 * f, f}), look(kValueHh, "value_hh", {3 * f, f});
  look(kValueBiasIh, "value_bias_ih", {3 * f}), look(kValueBiasHh, "value_bias_hh", {3 * f});
  look(kPosition, "position", {w.masks, kAny});
  w.depth = list[kPosition].size(1);
  look(kPool, "pool", {kAny, w.features()});
  n.width = list[kPool].size(0) / heads;
  look(kPool, "pool", {heads * n.width, w.features()}), look(kPoolBias, "pool_bias", {heads * n.width});
  if (list.size() > kAttn) {
    look(kAttn, "attn", {heads, n.width});
    w.heads = heads;
  }
  look(kHidden, "hidden", {kAny, n.read()});
  w.hidden = list[kHidden].size(0);
  look(kHiddenBias, "hidden_bias", {w.hidden});
  look(kOut, "out", {1, w.hidden}), look(kOutBias, "out_bias", {1});
  return n;
}

}  // namespace graphmem
