// What NAT's operators share: its weights as one row of numbers, the state that they read, and what some nodes are worth
// with their last events applied; see graphmem/ops/nat.py.
#pragma once

#include <algorithm>
#include <vector>

#include "common/ncache_pool.h"
#include "cpu/cell_rows.h"
#include "cpu/distinct.h"
#include "cpu/gemm.h"
#include "cpu/ids.h"
#include "cpu/parallel.h"
#include "cpu/refresh.h"

namespace graphmem {

// The parts in their order, all of padded length; matrices are transposed, with padded rows.
template <class T>
struct NatWeights {
  int64_t d, f, raw, times, depth, heads, hidden, ages, masks;
  const T *cell_ih, *cell_hh, *bias_ih, *bias_hh;
  const T *time_weight, *time_bias;
  const T *value_state, *value_message, *value_time, *value_ih, *value_hh, *value_bias_ih, *value_bias_hh;
  const T *position, *query, *constant;
  const T *pool, *source, *target, *since, *hidden_bias, *out, *out_bias;

  int64_t features() const { return f + depth + ages; }
  int64_t mixes() const { return std::max<int64_t>(heads, 1); }

  // Sets the parts and returns how many numbers they are together.
  int64_t lay(const T* from) {
    const T* at = from;
    const auto take = [&at](const T*& part, int64_t rows, int64_t columns) {
      part = at;
      at += rows * padded(columns);
    };
    take(cell_ih, d + raw + times, 3 * d), take(cell_hh, d, 3 * d);
    take(bias_ih, 1, 3 * d), take(bias_hh, 1, 3 * d);
    take(time_weight, 1, times), take(time_bias, 1, times);
    take(value_state, d, f), take(value_message, raw, f), take(value_time, 1, f * times);
    take(value_ih, 1, 3 * f * f), take(value_hh, 1, 3 * f * f);
    take(value_bias_ih, 1, 3 * f), take(value_bias_hh, 1, 3 * f);
    take(position, 1, masks * depth), take(query, 1, heads * features()), take(constant, 1, heads);
    take(pool, mixes() * features(), hidden);
    take(source, d, hidden), take(target, d, hidden), take(since, ages, hidden);
    take(hidden_bias, 1, hidden), take(out, 1, hidden), take(out_bias, 1, 1);
    return at - from;
  }
};

// State of NAT as it is stored, but for the values of cells, which have dtypes of their own. What needs no values takes it
// in this form: it is compiled once for all of those.
template <class Key, class Time, class Number>
struct NatHistory {
  using T = Number;
  Dictionaries layout;
  Cells<Key> cells;
  Time* time;
  T* state;
  int64_t* other;
  Time* gap;
  const T* messages;
  const int64_t* known;  // numbers of the messages' events, ascending, or null: those of the rows
  int64_t letters;       // rows of messages that may be read
  bool delta;
  NatWeights<T> w;

  // The row of an event's message; not below 0 or above the last one for a number that is known.
  int64_t letter(int64_t event) const {
    return known == nullptr ? event : std::lower_bound(known, known + letters, event) - known;
  }
};

template <class Key, class Time, class Value>
struct NatState : NatHistory<Key, Time, typename Accumulate<Value>::type> {
  Value* value;
};

// The state, but for the weights that go with it.
struct NatStored {
  Tensor key, eid, time, value, state, other, gap;
  std::optional<Tensor> messages, known;
  std::vector<int64_t> sizes;
  bool reference_hash;
  int64_t seed;
  bool delta;

  // `raw`: width of messages.
  template <class Key, class Time, class Value>
  NatState<Key, Time, Value> checked(const char* op, int64_t raw) const {
    using T = typename Accumulate<Value>::type;
    NatState<Key, Time, Value> s{};
    s.layout = make_dictionaries(op, sizes, reference_hash, seed);
    s.cells = make_cells<Key>(op, key, eid, s.layout.columns());
    const int64_t nodes = s.cells.nodes;
    s.time = of<Time>(op, "time", time, {nodes, s.cells.columns});
    s.value = of<Value>(op, "value", value, {nodes, s.cells.columns, kAny});
    s.state = of<T>(op, "state", state, {nodes, kAny});
    s.other = of<int64_t>(op, "other", other, {nodes});
    s.gap = of<Time>(op, "gap", gap, {nodes});
    s.messages = data<T>(op, "messages", messages, {kAny, raw});
    s.letters = messages.has_value() ? messages->size(0) : 0;
    s.known = data<int64_t>(op, "known", known, {s.letters});
    s.delta = delta;
    s.w.d = state.size(1), s.w.f = value.size(2), s.w.raw = raw, s.w.ages = delta ? 2 : 0;
    s.w.masks = int64_t{1} << (2 * s.layout.kinds());
    return s;
  }

  // Calls f(state) with the types of keys, times and values.
  template <class F>
  auto dispatch(const char* op, int64_t raw, F&& f) const {
    return dispatch_index(op, "key", key, [&](auto key_type) {
      return dispatch_time(op, "time", time, [&](auto time_type) {
        return dispatch_feature(op, "value", value, [&](auto value_type) {
          return f(checked<typename decltype(key_type)::type, typename decltype(time_type)::type,
                           typename decltype(value_type)::type>(op, raw));
        });
      });
    });
  }

 private:
  template <class T>
  static T* of(const char* op, const char* name, const Tensor& t, Shape shape) {
    data<T>(op, name, t, shape);
    return static_cast<T*>(t.mutable_data_ptr());
  }
};

// With weights as one row of numbers.
struct NatArguments {
  NatStored stored;
  Tensor weights;
  std::vector<int64_t> widths;  // of messages, time codes and positions; heads; of the hidden layer

  template <class F>
  auto dispatch(const char* op, F&& f) const {
    expect_number(op, "numbers in widths", static_cast<int64_t>(widths.size()), 5, 5);
    for (const int64_t width : widths) expect_number(op, "widths", width, 0, int64_t{1} << 20);
    return stored.dispatch(op, widths[0], [&]<class Key, class Time, class Value>(NatState<Key, Time, Value> s) {
      using T = typename NatState<Key, Time, Value>::T;
      s.w.times = widths[1], s.w.depth = widths[2], s.w.heads = widths[3], s.w.hidden = widths[4];
      data<T>(op, "weights", weights, {s.w.lay(static_cast<const T*>(weights.const_data_ptr()))});
      return f(s);
    });
  }
};

// What nodes are worth with their last events applied.
template <class T>
struct NatRead {
  Blank<T> state, value;  // [n, d], [n, columns, f]
};

// Rows of nodes whose last event is known: those of others are what is stored.
template <class Key, class Time, class T>
Room<int64_t> met_rows(const NatHistory<Key, Time, T>& s, const int64_t* nodes, int64_t count) {
  Room<int64_t> met;
  for (int64_t i = 0; i < count; ++i) {
    if (s.cells.eid[nodes[i] * s.cells.columns] >= 0 && s.other[nodes[i]] >= 0) met.push_back(i);
  }
  return met;
}

// The time that the last event of a node is read with.
template <class Key, class Time, class T>
double last_step(const NatHistory<Key, Time, T>& s, int64_t node) {
  return static_cast<double>(s.delta ? s.gap[node] : s.time[node * s.cells.columns]);
}

// Where the inputs [met, width] and gates [met, 4 d] of the cell go, if a gradient will read them.
template <class T>
struct CellTrace {
  T *inputs = nullptr, *gates = nullptr;
};

// Returns how many nodes have met another.
template <class Key, class Time, class T>
int64_t read_states(const NatHistory<Key, Time, T>& s, const int64_t* nodes, int64_t count, T* out,
                    const CellTrace<T>& trace = {}) {
  const NatWeights<T>& w = s.w;
  const int64_t d = w.d, wide = 3 * d;
  const CellInputs<T> inputs{s.state, d, w.raw, w.times, w.time_weight, w.time_bias};
  const int64_t width = inputs.width();
  const Room<int64_t> met = met_rows(s, nodes, count);
  for (int64_t i = 0; i < count; ++i) std::copy_n(s.state + nodes[i] * d, d, out + i * d);
  const Room<T> silence(w.raw);
  const auto read = static_cast<int64_t>(met.size());
  parallel_chunks(read, kCellRows, read * width * wide / 32, [&](int64_t first, int64_t last) {
    const int64_t most = std::min(kCellRows, last - first);
    Blank<T> own_x(trace.inputs == nullptr ? most * width : 0), g(most * wide), h(most * wide);
    Blank<T> own_gates(trace.gates == nullptr ? 4 * d : 0);
    for (int64_t begin = first; begin < last; begin += kCellRows) {
      const int64_t rows = std::min(kCellRows, last - begin);
      T* x = trace.inputs == nullptr ? own_x.data() : trace.inputs + begin * width;
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t node = nodes[met[begin + i]], event = s.cells.eid[node * s.cells.columns];
        const T* message = w.raw > 0 ? s.messages + s.letter(event) * w.raw : silence.data();
        inputs.put(node, s.other[node], message, last_step(s, node), x + i * width);
      }
      multiply_panels<T>(x + d, width, 1, padded_panels(w.cell_ih, wide), w.bias_ih, rows, width - d, wide, g.data());
      multiply_panels<T>(x, width, 1, padded_panels(w.cell_hh, wide), w.bias_hh, rows, d, wide, h.data());
      for (int64_t i = 0; i < rows; ++i) {
        T* gates = trace.gates == nullptr ? own_gates.data() : trace.gates + (begin + i) * 4 * d;
        gate(g.data() + i * wide, h.data() + i * wide, x + i * width, d, gates, out + met[begin + i] * d);
      }
    }
  });
  return read;
}

// What the values of nodes are computed from, looked at.
template <class Key, class Time, class Value>
auto values_of(const char* op, const NatState<Key, Time, Value>& s, const int64_t* nodes, int64_t count) {
  using T = typename NatState<Key, Time, Value>::T;
  const NatWeights<T>& w = s.w;
  Refresh<Value, T> r;
  r.gates = {w.f,          w.times,    w.times,    w.time_weight,   w.time_bias,
             w.value_time, w.value_ih, w.value_hh, w.value_bias_ih, w.value_bias_hh};
  const StoredCells<Key, Time, Value> stored{s.cells, s.time, s.value, nodes, count, w.f, s.delta};
  r.collect(stored, w.raw > 0, [&](int64_t, int64_t cell) { return s.letter(s.cells.eid[cell]); });
  int64_t low = 0, high = -1;
  for (const int64_t key : r.keys) low = std::min(low, key), high = std::max(high, key);
  STD_TORCH_CHECK(low >= 0 && high < s.cells.nodes, op, ": expected key with ids in [0, ", s.cells.nodes, ")");
  high = -1;
  for (const int64_t letter : r.letters) high = std::max(high, letter);
  STD_TORCH_CHECK(high < s.letters, op, ": expected messages of all events that cells hold");
  r.state.table = s.state, r.state.depth = w.d;
  r.state.number(r.keys);
  r.state.multiply(padded_panels(w.value_state, w.f), w.f);
  if (w.raw > 0) {
    r.message.table = s.messages, r.message.depth = w.raw, r.message.column = w.d;
    r.message.number(r.letters);
    r.message.multiply(padded_panels(w.value_message, w.f), w.f);
  }
  return r;
}

template <class Key, class Time, class T>
void expect_others(const char* op, const NatHistory<Key, Time, T>& s, const int64_t* nodes, int64_t count) {
  bool inside = true;
  for (int64_t n = 0; n < count; ++n) inside &= s.other[nodes[n]] < s.cells.nodes;
  STD_TORCH_CHECK(inside, op, ": expected other with ids below ", s.cells.nodes);
}

template <class Key, class Time, class Value>
auto read_nodes(const char* op, const NatState<Key, Time, Value>& s, const int64_t* nodes, int64_t count) {
  using T = typename NatState<Key, Time, Value>::T;
  NatRead<T> read{Blank<T>(count * s.w.d), Blank<T>(count * s.cells.columns * s.w.f)};
  expect_others(op, s, nodes, count);
  values_of(op, s, nodes, count).run(read.value.data());  // looks at what is stored before states read it
  read_states(s, nodes, count, read.state.data());
  return read;
}

}  // namespace graphmem
