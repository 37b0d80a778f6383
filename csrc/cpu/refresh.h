// What every cell of some rows is worth; see cpu/ncache_refresh.cpp.
#pragma once

#include <algorithm>

#include "common/ncache_refresh.h"
#include "cpu/distinct.h"
#include "cpu/gemm.h"
#include "cpu/lane_cell.h"
#include "cpu/parallel.h"
#include "cpu/room.h"

namespace graphmem {

// One of the two parts of x that depend on an id alone: rows of a table, each id's once, times columns of the weights.
template <class T>
struct Part {
  const T* table = nullptr;
  int64_t depth = 0, column = 0;  // columns of the table; the first of the weights'
  Blank<int64_t> found, place;    // distinct ids; each cell's place among them
  int64_t count = 0;
  Blank<T> rows;  // [count, F]: products, or their gradients

  void number(const Blank<int64_t>& ids) {
    found.resize(ids.size());
    place.resize(ids.size());
    count = number_distinct(ids.data(), static_cast<int64_t>(ids.size()), found.data(), place.data());
  }

  // weight: [depth, width].
  void multiply(const Panels<T>& weight, int64_t width) {
    constexpr int64_t kIds = 48;
    rows.resize(count * width);
    parallel_chunks(count, 5 * kIds, count * depth * width / 8, [&](int64_t first, int64_t last) {
      Blank<T> gathered(kIds * depth);
      for (int64_t begin = first; begin < last; begin += kIds) {
        const int64_t size = std::min(kIds, last - begin);
        for (int64_t n = 0; n < size; ++n)
          std::copy_n(table + found[begin + n] * depth, depth, gathered.data() + n * depth);
        multiply_panels<T>(gathered.data(), depth, 1, weight, nullptr, size, depth, width, rows.data() + begin * width);
      }
    });
  }
};

template <class Value, class T>
struct Refresh {
  int64_t rows = 0, columns = 0;
  const int64_t* nodes = nullptr;
  const Value* value = nullptr;
  Gates<T> gates{};
  // Cells with an event: their places in [rows, columns], in the cache, and times.
  Blank<int64_t> place, cell, keys, letters;  // and their keys and rows of messages
  Blank<double> dt;
  Part<T> state, message;

  int64_t cells() const { return static_cast<int64_t>(place.size()); }
  int64_t blocks() const { return (cells() + kCells - 1) / kCells; }

  // `letter(n, cell)`: the row of messages of cell n of the rows, `cell` in the cache.
  template <class Key, class Time, class Letter>
  void collect(const StoredCells<Key, Time, Value>& stored, bool lettered, const Letter& letter) {
    const Cells<Key>& in = stored.cells;
    rows = stored.rows, columns = in.columns, nodes = stored.nodes, value = stored.value;
    const size_t most = static_cast<size_t>(rows * columns);
    place.resize(most), cell.resize(most), keys.resize(most), dt.resize(most), letters.resize(lettered ? most : 0);
    size_t n = 0;
    // Not by StoredCells' functions of one cell: their divisions would take longer than the rest.
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t base = nodes[i] * columns;
      for (int64_t column = 0; column < columns; ++column) {
        const int64_t at = base + column;
        if (in.eid[at] < 0) continue;
        place[n] = i * columns + column;
        cell[n] = at;
        keys[n] = in.key_at(nodes[i], column);
        dt[n] = static_cast<double>(stored.delta ? stored.time[base] - stored.time[at] : stored.time[at]);
        if (lettered) letters[n] = letter(place[n], at);
        ++n;
      }
    }
    place.resize(n), cell.resize(n), keys.resize(n), dt.resize(n), letters.resize(lettered ? n : 0);
  }

  // out [rows, columns, F]; the parts were multiplied before.
  void run(T* out) const {
    const int64_t width = gates.width, row = columns * width;
    parallel_chunks(rows, 64, rows * row / 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Value* stored = value + nodes[i] * row;
        for (int64_t n = 0; n < row; ++n) out[i * row + n] = static_cast<T>(stored[n]);
      }
    });
    parallel_chunks(blocks(), 4, cells() * width * 4, [&](int64_t first, int64_t last) {
      Lanes<T> a(width, gates.times, false);
      for (int64_t block = first; block < last; ++block) {
        load(block, a);
        forward_block(gates, a);
        for (int64_t n = block * kCells; n < std::min(cells(), (block + 1) * kCells); ++n) {
          for (int64_t f = 0; f < width; ++f) out[place[n] * width + f] = a.out[f * kCells + n % kCells];
        }
      }
    });
  }

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

}  // namespace graphmem
