// ncache_refresh: what every cell of some rows is worth, once the event that filled it has passed a small GRU cell:
//
//   x = W [s_key, message, cos(w dt + b)], z' = GRU(x, z) where a cell has an event, else z
//
// The parts of x that depend on the key and on the message alone are computed once for each, however many cells hold it:
// products of cpu/gemm.h. The rest takes 64 cells at a time, a cell a lane, whatever the width is: all loops are over
// lanes. Nothing is kept for the gradient, which computes the cell anew; sums over cells go over blocks of 64, in order,
// so that the bits do not depend on the number of threads.
#include "common/ncache_refresh.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

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
Refresh<Value, T> prepare(const StoredCells<Key, Time, Value>& stored, const GruCells<T>& c) {
  Refresh<Value, T> r;
  const Cells<Key>& cells = stored.cells;
  r.rows = stored.rows, r.columns = cells.columns, r.nodes = stored.nodes, r.value = stored.value;
  r.gates = {c.width,     c.times,     c.inputs(), c.time_weight, c.time_bias, c.weight + c.of_state + c.of_message,
             c.weight_ih, c.weight_hh, c.bias_ih,  c.bias_hh};
  r.state.table = c.state, r.state.depth = c.of_state;
  r.message.table = c.messages, r.message.depth = c.of_message, r.message.column = c.of_state;
  std::vector<int64_t> keys, letters;
  // Not by StoredCells' functions of one cell: their divisions would take longer than the rest.
  for (int64_t i = 0; i < r.rows; ++i) {
    const int64_t base = r.nodes[i] * r.columns;
    for (int64_t column = 0; column < r.columns; ++column) {
      const int64_t cell = base + column, n = i * r.columns + column;
      if (cells.eid[cell] < 0) continue;
      r.place.push_back(n);
      r.cell.push_back(cell);
      keys.push_back(cells.key_at(r.nodes[i], column));
      r.dt.push_back(static_cast<double>(stored.delta ? stored.time[base] - stored.time[cell] : stored.time[cell]));
      if (c.messages != nullptr) letters.push_back(c.row[n]);
    }
  }
  r.state.number(keys);
  r.state.multiply(c.weight, c.inputs(), c.width);
  if (c.messages != nullptr) {
    r.message.number(letters);
    r.message.multiply(c.weight, c.inputs(), c.width);
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
  const RefreshedArguments arguments{key,   eid,         time,      value,  nodes,     state,     messages, row,
                                     delta, time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih,  bias_hh};
  constexpr const char* kOp = "ncache_refresh_backward";
  return arguments.dispatch(kOp, [&]<class T>(const auto& cells, const GruCells<T>& gru) {
    auto r = prepare(cells, gru);
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
