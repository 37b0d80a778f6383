// Every loop is over lanes, so that narrow cells fill vector registers; the sums over them are those of cpu/lanes.h.
#include "cpu/lane_cell.h"

#include <algorithm>

#include "cpu/elementary.h"
#include "cpu/gates.h"
#include "cpu/lanes.h"

namespace graphmem {
namespace {

// y[j] (+)= sum_f w[j * row + f] a[f] over lanes.
template <class T>
GRAPHMEM_INLINE void mix_lanes(const T* w, int64_t row, int64_t col, int64_t rows, int64_t terms, const T* a,
                               T* __restrict__ y) {
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t f = 0; f < terms; ++f) {
      const T weight = w[j * row + f * col];
      for (int64_t l = 0; l < kCells; ++l) y[j * kCells + l] += weight * a[f * kCells + l];
    }
  }
}

template <class T>
GRAPHMEM_INLINE void fill_lanes(T* __restrict__ y, const T* bias, int64_t rows) {
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t l = 0; l < kCells; ++l) y[j * kCells + l] = bias[j];
  }
}

// x has the parts of key and message; afterwards all of it.
template <class T>
GRAPHMEM_INLINE void forward_lanes(const Gates<T>& p, const double* dt, T* __restrict__ code, T* __restrict__ x,
                                   const T* z, T* __restrict__ g, T* __restrict__ h, T* gates, T* out) {
  const int64_t width = p.width;
  for (int64_t k = 0; k < p.times; ++k) {
    const double w = static_cast<double>(p.time_weight[k]), b = static_cast<double>(p.time_bias[k]);
    harmonics<false>(
        T(), kCells, [&](int64_t l) { return dt[l] * w + b; },
        [&](int64_t l, T value) { code[k * kCells + l] = value; });
  }
  mix_lanes(p.weight, p.row, 1, width, p.times, code, x);
  fill_lanes(g, p.bias_ih, 3 * width);
  fill_lanes(h, p.bias_hh, 3 * width);
  mix_lanes(p.weight_ih, width, 1, 3 * width, width, x, g);
  mix_lanes(p.weight_hh, width, 1, 3 * width, width, z, h);
  gate(g, h, z, width * kCells, gates, out);
}

template <class T>
GRAPHMEM_INLINE T dot_lanes(const T* a, const T* b) {
  return lane_sum<T>(kCells, [&](int64_t l) { return a[l] * b[l]; });
}

template <class T>
GRAPHMEM_INLINE T sum_lanes(const T* a) {
  return lane_sum<T>(kCells, [&](int64_t l) { return a[l]; });
}

// `out` holds the gradient of what the cells are worth, zeros for lanes without a cell; `sums` gets the block's part of
// those of the parameters.
template <class T>
GRAPHMEM_INLINE void backward_lanes(const Gates<T>& p, const double* dt, const T* code, const T* x, const T* z,
                                    const T* gates, const T* grad, T* slope, T* __restrict__ dx, T* __restrict__ dcode,
                                    T* sums) {
  const int64_t width = p.width, wide = width * kCells;
  gate_gradient(grad, gates, z, wide, slope);
  std::fill_n(dx, wide, T(0));
  std::fill_n(dcode, p.times * kCells, T(0));
  mix_lanes(p.weight_ih, 1, width, width, 3 * width, slope, dx);
  mix_lanes(p.weight, 1, p.row, p.times, width, dx, dcode);
  for (int64_t j = 0; j < 3 * width; ++j) {
    const T *of_input = slope + j * kCells, *of_hidden = slope + (j < 2 * width ? j : j + width) * kCells;
    for (int64_t f = 0; f < width; ++f) {
      sums[p.of_ih() + j * width + f] = dot_lanes(of_input, x + f * kCells);
      sums[p.of_hh() + j * width + f] = dot_lanes(of_hidden, z + f * kCells);
    }
  }
  for (int64_t j = 0; j < 4 * width; ++j) sums[p.of_bias() + j] = sum_lanes(slope + j * kCells);
  for (int64_t f = 0; f < width; ++f) {
    for (int64_t k = 0; k < p.times; ++k) sums[f * p.times + k] = dot_lanes(dx + f * kCells, code + k * kCells);
  }
  for (int64_t k = 0; k < p.times; ++k) {
    const double w = static_cast<double>(p.time_weight[k]), b = static_cast<double>(p.time_bias[k]);
    T by_weight[kCells], by_bias[kCells];
    harmonics<true>(
        T(), kCells, [&](int64_t l) { return dt[l] * w + b; },
        [&](int64_t l, T value) {
          by_bias[l] = -value * dcode[k * kCells + l];
          by_weight[l] = by_bias[l] * static_cast<T>(dt[l]);
        });
    sums[p.of_time() + k] = sum_lanes(by_weight);
    sums[p.of_time() + p.times + k] = sum_lanes(by_bias);
  }
}

}  // namespace

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_REFRESH_CLONES(T)                                                                               \
  GRAPHMEM_CLONES void forward_block(const Gates<T>& p, Lanes<T>& a) {                                           \
    forward_lanes(p, a.dt.data(), a.code.data(), a.x.data(), a.z.data(), a.g.data(), a.h.data(), a.gates.data(), \
                  a.out.data());                                                                                 \
  }                                                                                                              \
  GRAPHMEM_CLONES void backward_block(const Gates<T>& p, Lanes<T>& a, T* sums) {                                 \
    backward_lanes(p, a.dt.data(), a.code.data(), a.x.data(), a.z.data(), a.gates.data(), a.out.data(),          \
                   a.slope.data(), a.dx.data(), a.dcode.data(), sums);                                           \
  }
GRAPHMEM_REFRESH_CLONES(float)
GRAPHMEM_REFRESH_CLONES(double)
#undef GRAPHMEM_REFRESH_CLONES

}  // namespace graphmem
