// Rows of a node memory's GRU cell: what goes into it, and what comes out; see cpu/memory_gru.cpp.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/gates.h"
#include "cpu/time_code.h"

namespace graphmem {

constexpr int64_t kCellRows = 48;  // that go from the gather to the gates at once

template <class T>
struct CellInputs {
  const T* states;  // [N, d]
  int64_t d, raw, times;
  const T *time_weight, *time_bias;

  int64_t width() const { return 2 * d + raw + times; }

  // x = [s_node, s_other, message, cos(w dt + b)], zeros for s_other where there is none (-1).
  void put(int64_t node, int64_t other, const T* message, double dt, T* row) const {
    row = std::copy_n(states + node * d, d, row);
    row = other < 0 ? std::fill_n(row, d, T(0)) : std::copy_n(states + other * d, d, row);
    row = std::copy_n(message, raw, row);
    time_code(dt, time_weight, time_bias, times, row);
  }

  // From the products of x: the gates [4 d] and the next state; a node whose other end is none stays as it is.
  void finish(const T* g, const T* h, const T* x, int64_t other, T* gates, T* out) const {
    gate(g, h, x, d, gates, out);
    if (other >= 0) return;
    std::copy_n(x, d, out);
    std::fill_n(gates + d, d, T(1));  // z = 1: no gradient
  }
};

}  // namespace graphmem
