// See gemm.h. Compiled with contraction on (csrc/CMakeLists.txt): a product and the sum it is added to are one operation.
#include "cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "cpu/capability.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

// A block of this many k of one panel is 32 KiB at 32 float columns: it stays in a first-level cache while the rows of
// a call pass by.
constexpr int64_t kDepth = 256;

// A tile of kRows x (kVectors x kLanes) sums, all of them in registers; kLanes is what one register holds. Rows of `b`
// lie `stride` apart.
template <class T, int kLanes, int kVectors, int kRows>
struct Tile {
#if defined(__GNUC__)
  typedef T Vector __attribute__((vector_size(kLanes * sizeof(T)), aligned(sizeof(T)), may_alias));
#endif

  // out[r, j] = init[r, j] + sum_p a[r, p] b[p, j]; `init` may be `out`.
  static GRAPHMEM_INLINE void run(const T* a, int64_t row, int64_t col, const T* b, int64_t stride, int64_t depth,
                                  const T* init, int64_t init_row, T* out, int64_t out_row) {
#if defined(__GNUC__)
    Vector sum[kRows][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = *reinterpret_cast<const Vector*>(init + r * init_row + v * kLanes);
    }
    for (int64_t p = 0; p < depth; ++p) {
      Vector right[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) right[v] = *reinterpret_cast<const Vector*>(b + p * stride + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const T left = a[r * row + p * col];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[r][v] += left * right[v];
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Vector*>(out + r * out_row + v * kLanes) = sum[r][v];
    }
#else
    for (int r = 0; r < kRows; ++r) {
      T sum[kLanes * kVectors];
      std::memcpy(sum, init + r * init_row, sizeof(sum));
      for (int64_t p = 0; p < depth; ++p)
        for (int j = 0; j < kLanes * kVectors; ++j) sum[j] += a[r * row + p * col] * b[p * stride + j];
      std::memcpy(out + r * out_row, sum, sizeof(sum));
    }
#endif
  }
};

// All rows of one panel and one block of k, of which the first kVectors registers are wanted. Rows that do not fill a
// tile run in tiles of four, of two and of one.
template <class T, int kLanes, int kVectors, int kRows>
GRAPHMEM_INLINE void panel(const T* a, int64_t row, int64_t col, const T* b, int64_t stride, int64_t depth,
                           const T* init, int64_t init_row, int64_t rows, int64_t columns, T* out, int64_t out_row) {
  constexpr int kColumns = kLanes * kVectors;
  T edge[kRows * kColumns] = {};  // the last panel may be narrower than a tile
  for (int64_t r = 0; r < rows;) {
    const int64_t step = rows - r >= kRows ? kRows : rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
    const T* from = init + r * init_row;
    T* to = out + r * out_row;
    int64_t from_row = init_row, to_row = out_row;
    if (columns < kColumns) {
      for (int64_t i = 0; i < step; ++i) std::copy_n(from + i * init_row, columns, edge + i * kColumns);
      from = to = edge;
      from_row = to_row = kColumns;
    }
    const T* left = a + r * row;
    if (step == kRows) {
      Tile<T, kLanes, kVectors, kRows>::run(left, row, col, b, stride, depth, from, from_row, to, to_row);
    } else if (step == 4) {
      Tile<T, kLanes, kVectors, 4>::run(left, row, col, b, stride, depth, from, from_row, to, to_row);
    } else if (step == 2) {
      Tile<T, kLanes, kVectors, 2>::run(left, row, col, b, stride, depth, from, from_row, to, to_row);
    } else {
      Tile<T, kLanes, kVectors, 1>::run(left, row, col, b, stride, depth, from, from_row, to, to_row);
    }
    if (columns < kColumns) {
      for (int64_t i = 0; i < step; ++i) std::copy_n(edge + i * kColumns, columns, out + (r + i) * out_row);
    }
    r += step;
  }
}

template <class T, int kLanes, int kVectors, int kRows>
GRAPHMEM_INLINE void multiply(const T* a, int64_t row, int64_t col, const Panels<T>& right, const T* bias, int64_t m,
                              int64_t k, int64_t n, T* c, int64_t c_row) {
  constexpr int kColumns = kLanes * kVectors;
  // Rows in groups whose part of `a` stays in a second-level cache while the panels pass by.
  constexpr int64_t kGroup = kRows * 16;
  const T zeros[kColumns] = {};
  for (int64_t i = 0; i < m; i += kGroup) {
    const int64_t rows = std::min(kGroup, m - i);
    for (int64_t p = 0; p == 0 || p < k; p += kDepth) {
      const int64_t depth = std::min(kDepth, k - p);
      for (int64_t j = 0; j < n; j += kColumns) {
        const T* b = right.data + j / kColumns * right.panel + p * right.row;
        T* out = c + i * c_row + j;
        const T* init = p > 0 ? out : bias != nullptr ? bias + j : zeros;
        const T* left = a + i * row + p * col;
        const int64_t columns = std::min<int64_t>(kColumns, n - j), init_row = p > 0 ? c_row : 0;
        if (columns <= kLanes) {
          panel<T, kLanes, 1, kRows>(left, row, col, b, right.row, depth, init, init_row, rows, columns, out, c_row);
        } else {
          panel<T, kLanes, kVectors, kRows>(left, row, col, b, right.row, depth, init, init_row, rows, columns, out,
                                            c_row);
        }
      }
    }
  }
}

template <class T>
struct Kernel {
  int64_t columns;
  void (*multiply)(const T*, int64_t, int64_t, const Panels<T>&, const T*, int64_t, int64_t, int64_t, T*, int64_t);
};

#define GRAPHMEM_GEMM(NAME, TARGET, T, BYTES, VECTORS, ROWS)                                                          \
  TARGET void NAME(const T* a, int64_t row, int64_t col, const Panels<T>& right, const T* bias, int64_t m, int64_t k, \
                   int64_t n, T* c, int64_t c_row) {                                                                  \
    multiply<T, BYTES / sizeof(T), VECTORS, ROWS>(a, row, col, right, bias, m, k, n, c, c_row);                       \
  }

// Rows and vectors fill the registers: 24 of 32 sums of 64 bytes, 12 of 16 sums of 32 bytes.
#ifdef GRAPHMEM_X86
GRAPHMEM_GEMM(gemm_avx512, __attribute__((target("avx512f,fma"))), float, 64, 2, 12)
GRAPHMEM_GEMM(gemm_avx512, __attribute__((target("avx512f,fma"))), double, 64, 2, 12)
GRAPHMEM_GEMM(gemm_avx2, __attribute__((target("avx2,fma"))), float, 32, 2, 6)
GRAPHMEM_GEMM(gemm_avx2, __attribute__((target("avx2,fma"))), double, 32, 2, 6)
#endif
GRAPHMEM_GEMM(gemm_base, , float, 16, 2, 6)
GRAPHMEM_GEMM(gemm_base, , double, 16, 2, 6)
#undef GRAPHMEM_GEMM

template <class T>
Kernel<T> choose() {
#ifdef GRAPHMEM_X86
  if (capability() >= Capability::kAvx512) return {128 / sizeof(T), gemm_avx512};
  if (capability() >= Capability::kAvx2) return {64 / sizeof(T), gemm_avx2};
#endif
  return {32 / sizeof(T), gemm_base};
}

template <class T>
const Kernel<T>& kernel() {
  static const Kernel<T> chosen = choose<T>();
  return chosen;
}

}  // namespace

template <class T>
int64_t panel_width() {
  return kernel<T>().columns;
}

template <class T>
void pack_panels(const T* b, int64_t row, int64_t col, int64_t k, int64_t n, int64_t first, int64_t last, T* packed) {
  const int64_t width = panel_width<T>();
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t columns = std::min(width, n - panel * width);
    const T* from = b + panel * width * col;
    T* to = packed + panel * width * k;
    if (col == 1) {
      for (int64_t p = 0; p < k; ++p) {
        std::copy_n(from + p * row, columns, to + p * width);
        std::fill_n(to + p * width + columns, width - columns, T(0));
      }
      continue;
    }
    // Transposed: blocks of 16 k, so that the lines that are written stay in cache while the columns pass by.
    for (int64_t block = 0; block < k; block += 16) {
      const int64_t end = std::min(k, block + 16);
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t p = block; p < end; ++p) to[p * width + j] = from[p * row + j * col];
      for (int64_t p = block; p < end; ++p) std::fill_n(to + p * width + columns, width - columns, T(0));
    }
  }
}

template <class T>
void multiply_panels(const T* a, int64_t row, int64_t col, const Panels<T>& b, const T* bias, int64_t m, int64_t k,
                     int64_t n, T* c, int64_t c_row) {
  kernel<T>().multiply(a, row, col, b, bias, m, k, n, c, c_row);
}

#define GRAPHMEM_INSTANTIATE(T)                                                                                        \
  template int64_t panel_width<T>();                                                                                   \
  template void pack_panels(const T*, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, T*);                       \
  template void multiply_panels(const T*, int64_t, int64_t, const Panels<T>&, const T*, int64_t, int64_t, int64_t, T*, \
                                int64_t);
GRAPHMEM_INSTANTIATE(float)
GRAPHMEM_INSTANTIATE(double)
#undef GRAPHMEM_INSTANTIATE

}  // namespace graphmem
