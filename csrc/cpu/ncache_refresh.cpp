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

#include "common/events.h"
#include "common/ncache.h"
#include "cpu/block_sums.h"
#include "cpu/distinct.h"
#include "cpu/fresh.h"
#include "cpu/gemm.h"
#include "cpu/lane_cell.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

// One of the two parts of x that depend on an id alone: rows of a table, each id's once, times columns of the weights.
template <class T>
struct Part {
  const T* table = nullptr;
  int64_t depth = 0, column = 0;      // columns of the table; the first of the weights'
  std::vector<int64_t> found, place;  // distinct ids; each cell's place among them
  int64_t count = 0;
  std::vector<T> rows;  // [count, F]: products, or their gradients

  void number(const std::vector<int64_t>& ids) {
    found.resize(ids.size());
    place.resize(ids.size());
    count = number_distinct(ids.data(), static_cast<int64_t>(ids.size()), found.data(), place.data());
  }

  void multiply(const T* weight, int64_t row, int64_t width) {
    std::vector<T> packed(packed_size<T>(depth, width));
    pack_panels(weight + column, 1, row, depth, width, 0, num_panels<T>(width), packed.data());
    rows.resize(count * width);
    parallel_chunks(count, 256, [&](int64_t begin, int64_t end) {
      std::vector<T> gathered((end - begin) * depth);
      for (int64_t n = begin; n < end; ++n)
        std::copy_n(table + found[n] * depth, depth, gathered.data() + (n - begin) * depth);
      multiply_packed<T>(gathered.data(), depth, 1, packed.data(), nullptr, end - begin, depth, width,
                         rows.data() + begin * width);
    });
  }

  // rows[place] += dx, in the order of the cells; then the gradient of the weights' columns.
  void differentiate(const std::vector<T>& dx, int64_t width, int64_t row, T* dweight) {
    rows.assign(count * width, T(0));
    for (size_t n = 0; n < place.size(); ++n) {
      for (int64_t f = 0; f < width; ++f) rows[place[n] * width + f] += dx[n * width + f];
    }
    constexpr int64_t kIds = 256;
    BlockSums<T> sums((count + kIds - 1) / kIds, width * depth);
    parallel_chunks(sums.blocks(), 1, [&](int64_t first, int64_t last) {
      for (int64_t n = first * kIds; n < std::min(count, last * kIds); ++n) {
        T* sum = sums.of(n / kIds);
        for (int64_t f = 0; f < width; ++f) axpy(sum + f * depth, rows[n * width + f], table + found[n] * depth, depth);
      }
    });
    for (int64_t f = 0; f < width; ++f) sums.total(f * depth, depth, dweight + f * row + column);
  }
};

struct RefreshArguments {
  Tensor key, eid, time, value, nodes, state;
  std::optional<Tensor> messages, row;
  bool delta;
  Tensor time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih, bias_hh;
};

template <class Value, class T>
struct Refresh {
  int64_t rows = 0, columns = 0;
  const int64_t* nodes = nullptr;
  const Value* value = nullptr;
  Gates<T> gates{};
  // Cells with an event: their places in [rows, columns], in the cache, and times.
  std::vector<int64_t> place, cell;
  std::vector<double> dt;
  Part<T> state, message;

  int64_t cells() const { return static_cast<int64_t>(place.size()); }
  int64_t blocks() const { return (cells() + kCells - 1) / kCells; }

  void load(int64_t block, Lanes<T>& a) const {
    const int64_t first = block * kCells, count = std::min(kCells, cells() - first), width = gates.width;
    if (count < kCells) {
      std::fill(a.dt.begin(), a.dt.end(), 0.0);
      std::fill(a.x.begin(), a.x.end(), T(0));
      std::fill(a.z.begin(), a.z.end(), T(0));
    }
    for (int64_t l = 0; l < count; ++l) {
      const int64_t n = first + l;
      a.dt[l] = dt[n];
      const T* of_state = state.rows.data() + state.place[n] * width;
      for (int64_t f = 0; f < width; ++f) {
        a.z[f * kCells + l] = static_cast<T>(value[cell[n] * width + f]);
        a.x[f * kCells + l] = of_state[f];
      }
      if (message.table == nullptr) continue;
      const T* of_message = message.rows.data() + message.place[n] * width;
      for (int64_t f = 0; f < width; ++f) a.x[f * kCells + l] += of_message[f];
    }
  }
};

template <class Key, class Time, class Value, class T>
Refresh<Value, T> prepare(const char* op, const RefreshArguments& a) {
  Refresh<Value, T> r;
  const Cells<Key> cells = make_cells<Key>(op, a.key, a.eid);
  const Time* times = data<Time>(op, "time", a.time, {cells.nodes, cells.columns});
  r.value = data<Value>(op, "value", a.value, {cells.nodes, cells.columns, kAny});
  r.nodes = data<int64_t>(op, "nodes", a.nodes, {kAny});
  r.rows = a.nodes.size(0), r.columns = cells.columns;
  Gates<T>& g = r.gates;
  g.width = a.value.size(2);
  expect_shape(op, "time_weight", a.time_weight, {kAny});
  g.times = a.time_weight.size(0);
  expect_shape(op, "state", a.state, {kAny, kAny});
  r.state.table = data<T>(op, "state", a.state, {cells.nodes, kAny});
  r.state.depth = a.state.size(1);
  const int64_t* message_row = data<int64_t>(op, "row", a.row, {r.rows, r.columns});
  STD_TORCH_CHECK(a.messages.has_value() == a.row.has_value(), op, ": expected both or neither of messages and row");
  if (a.messages.has_value()) {
    r.message.table = data<T>(op, "messages", *a.messages, {kAny, kAny});
    r.message.depth = a.messages->size(1);
    r.message.column = r.state.depth;
  }
  g.row = r.state.depth + g.times + r.message.depth;
  g.time_weight = data<T>(op, "time_weight", a.time_weight, {g.times});
  g.time_bias = data<T>(op, "time_bias", a.time_bias, {g.times});
  g.weight = data<T>(op, "weight", a.weight, {g.width, g.row}) + r.state.depth + r.message.depth;
  g.weight_ih = data<T>(op, "weight_ih", a.weight_ih, {3 * g.width, g.width});
  g.weight_hh = data<T>(op, "weight_hh", a.weight_hh, {3 * g.width, g.width});
  g.bias_ih = data<T>(op, "bias_ih", a.bias_ih, {3 * g.width});
  g.bias_hh = data<T>(op, "bias_hh", a.bias_hh, {3 * g.width});
  std::vector<int64_t> keys, letters;
  for (int64_t i = 0; i < r.rows; ++i) {
    const int64_t base = r.nodes[i] * r.columns;
    for (int64_t c = 0; c < r.columns; ++c) {
      if (cells.eid[base + c] < 0) continue;
      r.place.push_back(i * r.columns + c);
      r.cell.push_back(base + c);
      keys.push_back(cells.key_at(r.nodes[i], c));
      r.dt.push_back(a.delta ? static_cast<double>(times[base] - times[base + c])
                             : static_cast<double>(times[base + c]));
      if (message_row != nullptr) letters.push_back(message_row[i * r.columns + c]);
    }
  }
  const T* weight = g.weight - r.state.depth - r.message.depth;
  r.state.number(keys);
  r.state.multiply(weight, g.row, g.width);
  if (r.message.table != nullptr) {
    r.message.number(letters);
    r.message.multiply(weight, g.row, g.width);
  }
  return r;
}

// Calls f(refresh) with the types of the cells; `op` names the call.
template <class F>
auto dispatch_refresh(const char* op, const RefreshArguments& a, F&& f) {
  return dispatch_index(op, "key", a.key, [&](auto key) {
    return dispatch_time(op, "time", a.time, [&](auto time) {
      return dispatch_feature(op, "value", a.value, [&](auto value) {
        using Value = typename decltype(value)::type;
        using T = typename Accumulate<Value>::type;
        return f(prepare<typename decltype(key)::type, typename decltype(time)::type, Value, T>(op, a), T());
      });
    });
  });
}

Tensor ncache_refresh_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes, Tensor state,
                          std::optional<Tensor> messages, std::optional<Tensor> row, bool delta, Tensor time_weight,
                          Tensor time_bias, Tensor weight, Tensor weight_ih, Tensor weight_hh, Tensor bias_ih,
                          Tensor bias_hh) {
  const RefreshArguments arguments{key,   eid,         time,      value,  nodes,     state,     messages, row,
                                   delta, time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih,  bias_hh};
  return dispatch_refresh("ncache_refresh", arguments, [&](const auto& r, auto zero) {
    using T = decltype(zero);
    const int64_t width = r.gates.width;
    Tensor now = fresh(state, {r.rows, r.columns, width});
    T* out = static_cast<T*>(now.mutable_data_ptr());
    parallel_chunks(r.rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto* stored = r.value + r.nodes[i] * r.columns * width;
        for (int64_t n = 0; n < r.columns * width; ++n) out[i * r.columns * width + n] = static_cast<T>(stored[n]);
      }
    });
    parallel_chunks(r.blocks(), 4, [&](int64_t first, int64_t last) {
      Lanes<T> a(width, r.gates.times, false);
      for (int64_t block = first; block < last; ++block) {
        r.load(block, a);
        forward_block(r.gates, a);
        for (int64_t n = block * kCells; n < std::min(r.cells(), (block + 1) * kCells); ++n) {
          for (int64_t f = 0; f < width; ++f) out[r.place[n] * width + f] = a.out[f * kCells + n % kCells];
        }
      }
    });
    return now;
  });
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Gradients ncache_refresh_backward_cpu(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes,
                                      Tensor state, std::optional<Tensor> messages, std::optional<Tensor> row,
                                      bool delta, Tensor time_weight, Tensor time_bias, Tensor weight, Tensor weight_ih,
                                      Tensor weight_hh, Tensor bias_ih, Tensor bias_hh) {
  const RefreshArguments arguments{key,   eid,         time,      value,  nodes,     state,     messages, row,
                                   delta, time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih,  bias_hh};
  constexpr const char* kOp = "ncache_refresh_backward";
  return dispatch_refresh(kOp, arguments, [&](auto r, auto zero) {
    using T = decltype(zero);
    const Gates<T>& p = r.gates;
    const int64_t width = p.width;
    const T* slopes = data<T>(kOp, "grad", grad, {r.rows, r.columns, width});
    BlockSums<T> sums(r.blocks(), p.sums());
    std::vector<T> dx(r.cells() * width);
    parallel_chunks(r.blocks(), 4, [&](int64_t first, int64_t last) {
      Lanes<T> a(width, p.times, true);
      for (int64_t block = first; block < last; ++block) {
        r.load(block, a);
        forward_block(p, a);
        const int64_t begin = block * kCells, end = std::min(r.cells(), begin + kCells);
        if (end - begin < kCells) std::fill(a.out.begin(), a.out.end(), T(0));
        for (int64_t n = begin; n < end; ++n) {
          for (int64_t f = 0; f < width; ++f) a.out[f * kCells + n - begin] = slopes[r.place[n] * width + f];
        }
        backward_block(p, a, sums.of(block));
        for (int64_t n = begin; n < end; ++n) {
          for (int64_t f = 0; f < width; ++f) dx[n * width + f] = a.dx[f * kCells + n - begin];
        }
      }
    });
    std::vector<T> total(p.sums());
    sums.total(0, p.sums(), total.data());
    Tensor dweight = torch::stable::new_empty(weight, {width, p.row});
    T* of_weight = static_cast<T*>(dweight.mutable_data_ptr());
    r.state.differentiate(dx, width, p.row, of_weight);
    if (r.message.table != nullptr) r.message.differentiate(dx, width, p.row, of_weight);
    for (int64_t f = 0; f < width; ++f)
      std::copy_n(total.data() + f * p.times, p.times, of_weight + (f + 1) * p.row - p.times);
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
