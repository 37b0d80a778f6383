// What NAT's operators for training share; see cpu/nat_train.cpp.
#pragma once

#include "cpu/dropout.h"
#include "cpu/nat_layers.h"
#include "cpu/nat_pairs.h"

namespace graphmem {

// What the gradient reads of the scores, beside what they are computed from. m: nodes that have met another.
template <class T>
struct NatSaved {
  T *now, *inputs, *gates;   // [n, columns, f]; of the cell, [m, 2 d + raw + times] and [m, 4 d]
  T *mixed, *read, *hidden;  // of pairs: [pairs, mixes, features], what the hidden layer reads, and what it gives
};

struct NatQuestion {
  NatStored stored;
  Tensor nodes, place, t;
  std::vector<Tensor> layers;
  int64_t heads;
  double p;  // of dropout
  int64_t seed;

  // Calls f(layers, state, pairs, rate).
  template <class F>
  auto dispatch(const char* op, F&& f) const {
    expect_number(op, "layers with entries", static_cast<int64_t>(layers.size()), kAttn, kAttn + 1);
    expect_shape(op, "lin_state", layers[kLinState], {kAny, kAny});
    expect_shape(op, "time_weight", layers[kTimeWeight], {kAny, 1});
    expect_shape(op, "state", stored.state, {kAny, kAny});
    const int64_t raw = layers[kLinState].size(1) - stored.state.size(1) - layers[kTimeWeight].size(0);
    expect_number(op, "width of messages", raw);
    return stored.dispatch(op, raw, [&]<class Key, class Time, class Value>(NatState<Key, Time, Value> s) {
      auto of_model = checked_layers(op, s, layers, heads);
      of_model.fold();
      s.w = of_model.w;
      const int64_t* list = nodes_of(op, "nodes", nodes, {kAny}, s.cells.nodes);
      const Time* times = data<Time>(op, "t", t, {kAny});
      const int64_t b = t.size(0);
      const int64_t* places = nodes_of(op, "place", place, {kAny}, nodes.size(0));
      expect_number(op, "place with numbers", place.size(0), b);
      const int64_t c = b > 0 ? place.size(0) / b - 1 : 0;
      expect_shape(op, "place", place, {b * (1 + c)});
      const NatPairs pairs(s, list, nodes.size(0), places, places + b, times, b, c);
      return f(of_model, s, pairs, drop_rate(op, p));
    });
  }
};

}  // namespace graphmem
