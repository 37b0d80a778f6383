// The gradient of a node memory's GRU cell; see cpu/memory_gru.cpp.
#pragma once

#include "cpu/block_sums.h"
#include "cpu/cell_rows.h"
#include "cpu/gemm.h"
#include "cpu/parallel.h"
#include "cpu/room.h"

namespace graphmem {

// What the cells have computed: inputs [rows, width] and gates [rows, 4 d], and how a row's time code came about.
template <class T>
struct CellRows {
  int64_t rows, d, width, times;
  const T *inputs, *gates;
  const T *time_weight, *time_bias;
  const T* to_code;  // the last columns of W_ih, [3 d, times], packed
};

// grad(i): the gradient [d] of a row's next state; step(i): its time. D = (d g_r, d g_z, d g_n, d h_n) to `out`
// [rows, 4 d], and the gradients of w and b.
template <class T, class Grad, class Step>
void differentiate(const CellRows<T>& c, const Grad& grad, const Step& step, T* out, T* dweight, T* dbias) {
  BlockSums<T> sums((c.rows + kCellRows - 1) / kCellRows, 2 * c.times);
  parallel_chunks(sums.blocks(), 1, c.rows * c.d * (4 + c.times), [&](int64_t first, int64_t last) {
    Room<T> code(kCellRows * c.times);
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = block * kCellRows, end = std::min(c.rows, begin + kCellRows), wide = 4 * c.d;
      for (int64_t i = begin; i < end; ++i)
        gate_gradient(grad(i), c.gates + i * wide, c.inputs + i * c.width, c.d, out + i * wide);
      multiply_packed<T>(out + begin * wide, wide, 1, c.to_code, nullptr, end - begin, 3 * c.d, c.times, code.data());
      T* sum = sums.of(block);
      for (int64_t i = begin; i < end; ++i)
        add_time_slopes(step(i), c.time_weight, c.time_bias, code.data() + (i - begin) * c.times, c.times, sum,
                        sum + c.times);
    }
  });
  sums.total(0, c.times, dweight);
  sums.total(c.times, c.times, dbias);
}

}  // namespace graphmem
