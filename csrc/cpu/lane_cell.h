// A GRU cell of a few units on many rows, 64 at a time, a row a lane, and its gradient; see cpu/ncache_refresh.cpp.
#pragma once

#include <cstdint>

#include "cpu/room.h"

namespace graphmem {

constexpr int64_t kCells = 64;

// F: width of a value, T: of the time code. Where the parameters of the cell begin in one block of sums.
template <class T>
struct Gates {
  int64_t width, times, row;  // row: columns of `weight`
  const T *time_weight, *time_bias;
  const T* weight;  // of the time code, [F, T] in rows of `row`
  const T *weight_ih, *weight_hh, *bias_ih, *bias_hh;

  int64_t of_ih() const { return width * times; }
  int64_t of_hh() const { return of_ih() + 3 * width * width; }
  int64_t of_bias() const { return of_hh() + 3 * width * width; }  // r, z, n, and the hidden part of n
  int64_t of_time() const { return of_bias() + 4 * width; }
  int64_t sums() const { return of_time() + 2 * times; }
};

// A block of cells: rows of kCells lanes.
template <class T>
struct Lanes {
  Room<double> dt;
  Room<T> code, x, z, g, h, gates, out, slope, dx, dcode;

  Lanes(int64_t width, int64_t times, bool gradient)
      : dt(kCells),
        code(times * kCells),
        x(width * kCells),
        z(width * kCells),
        g(3 * width * kCells),
        h(3 * width * kCells),
        gates(4 * width * kCells),
        out(width * kCells),
        slope(gradient ? 4 * width * kCells : 0),
        dx(gradient ? width * kCells : 0),
        dcode(gradient ? times * kCells : 0) {}
};

// What the rows are worth, to `out`; x has the parts of key and message before, all of it after. Lanes that are no rows
// are computed like others.
void forward_block(const Gates<float>& p, Lanes<float>& a);
void forward_block(const Gates<double>& p, Lanes<double>& a);

// Behind forward_block, with the gradient of what the rows are worth in `out`, zeros for lanes that are no rows: dx, and
// in `sums` the block's part of the gradients of the parameters.
void backward_block(const Gates<float>& p, Lanes<float>& a, float* sums);
void backward_block(const Gates<double>& p, Lanes<double>& a, double* sums);

}  // namespace graphmem
