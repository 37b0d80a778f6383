// Products of row-major matrices in tiles that stay in registers.
//
// Every output element is one chain of fused multiply-adds over k in ascending order, starting from the bias (or 0). Tile
// shape, instruction set and number of threads decide which elements are computed together, never the order inside an
// element, so the bits are the same for all of them (on processors without fused multiply-add: of one order, two
// roundings). torch's BLAS gives no such promise: it splits long sums by the number of threads.
#pragma once

#include <cstdint>

namespace graphmem {

// The right-hand matrix [k, n], element (p, j) at b[p * row + j * col], stored as the tiles read it: panels of
// `panel_width` columns, each [k, panel_width], the last one padded with zeros.
template <class T>
int64_t panel_width();

template <class T>
inline int64_t num_panels(int64_t n) {
  return (n + panel_width<T>() - 1) / panel_width<T>();
}

template <class T>
inline int64_t packed_size(int64_t k, int64_t n) {
  return num_panels<T>(n) * panel_width<T>() * k;
}

// Packs the panels [first, last).
template <class T>
void pack_panels(const T* b, int64_t row, int64_t col, int64_t k, int64_t n, int64_t first, int64_t last, T* packed);

// A right-hand matrix [k, n] as the tiles read it: element (p, j) of a panel at p * row + j, panels `panel` apart.
template <class T>
struct Panels {
  const T* data;
  int64_t row, panel;
};

template <class T>
inline Panels<T> packed_panels(const T* packed, int64_t k) {
  return {packed, panel_width<T>(), panel_width<T>() * k};
}

// Columns of a matrix whose rows are padded to a multiple of this are panels as they lie, for every width of panels.
constexpr int64_t kPadded = 32;

inline int64_t padded(int64_t n) { return (n + kPadded - 1) / kPadded * kPadded; }

// Of a matrix [k, padded(n)], zeros behind its n columns.
template <class T>
inline Panels<T> padded_panels(const T* b, int64_t n) {
  return {b, padded(n), panel_width<T>()};
}

// c[m, n] = a b + bias, element (i, p) of a at a[i * row + p * col], rows of c `c_row` apart; bias [n] or null.
template <class T>
void multiply_panels(const T* a, int64_t row, int64_t col, const Panels<T>& b, const T* bias, int64_t m, int64_t k,
                     int64_t n, T* c, int64_t c_row);

// With the rows of c one behind the other.
template <class T>
inline void multiply_panels(const T* a, int64_t row, int64_t col, const Panels<T>& b, const T* bias, int64_t m,
                            int64_t k, int64_t n, T* c) {
  multiply_panels(a, row, col, b, bias, m, k, n, c, n);
}

template <class T>
inline void multiply_packed(const T* a, int64_t row, int64_t col, const T* packed, const T* bias, int64_t m, int64_t k,
                            int64_t n, T* c) {
  multiply_panels(a, row, col, packed_panels(packed, k), bias, m, k, n, c);
}

}  // namespace graphmem
