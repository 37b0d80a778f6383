// time_code: cos(w dt + b) of every time difference and harmonic, and the gradients of w and b, added over blocks of 64
// differences, in order. Why not the framework's: in float32 the phase of a difference of 10^7 seconds has lost its first
// digit, and its cosine of such a phase takes several times as long.
#include "cpu/time_code.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/dispatch.h"
#include "cpu/block_sums.h"
#include "cpu/elementary.h"
#include "cpu/fresh.h"
#include "cpu/parallel.h"

namespace graphmem {

template <class T>
GRAPHMEM_INLINE void code_row(double dt, const T* w, const T* b, int64_t width, T* __restrict__ code) {
  harmonics<false>(
      T(), width, [&](int64_t f) { return dt * static_cast<double>(w[f]) + static_cast<double>(b[f]); },
      [&](int64_t f, T value) { code[f] = value; });
}

template <class T>
GRAPHMEM_INLINE void slope_row(double dt, const T* w, const T* b, const T* grad, int64_t width, T* __restrict__ dw,
                               T* __restrict__ db) {
  const T step = static_cast<T>(dt);
  harmonics<true>(
      T(), width, [&](int64_t f) { return dt * static_cast<double>(w[f]) + static_cast<double>(b[f]); },
      [&](int64_t f, T value) {
        const T slope = -value * grad[f];
        dw[f] += slope * step;
        db[f] += slope;
      });
}

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_TIME_CLONES(T)                                                                                \
  GRAPHMEM_CLONES void time_code(double dt, const T* w, const T* b, int64_t width, T* code) {                  \
    code_row(dt, w, b, width, code);                                                                           \
  }                                                                                                            \
  GRAPHMEM_CLONES void add_time_slopes(double dt, const T* w, const T* b, const T* grad, int64_t width, T* dw, \
                                       T* db) {                                                                \
    slope_row(dt, w, b, grad, width, dw, db);                                                                  \
  }
GRAPHMEM_TIME_CLONES(float)
GRAPHMEM_TIME_CLONES(double)
#undef GRAPHMEM_TIME_CLONES

namespace {

Tensor time_code_cpu(Tensor dt, Tensor weight, Tensor bias) {
  constexpr const char* kOp = "time_code";
  const double* steps = data<double>(kOp, "dt", dt, {kAny});
  expect_shape(kOp, "weight", weight, {kAny});
  const int64_t rows = dt.size(0), width = weight.size(0);
  Tensor out = fresh(weight, {rows, width});
  dispatch_full(kOp, "weight", weight, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *w = data<T>(kOp, "weight", weight, {width}), *b = data<T>(kOp, "bias", bias, {width});
    T* codes = static_cast<T*>(out.mutable_data_ptr());
    parallel_chunks(rows, kTimeRows, 2 * rows * width, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) time_code(steps[r], w, b, width, codes + r * width);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> time_code_backward_cpu(Tensor grad, Tensor dt, Tensor weight, Tensor bias) {
  constexpr const char* kOp = "time_code_backward";
  const double* steps = data<double>(kOp, "dt", dt, {kAny});
  expect_shape(kOp, "weight", weight, {kAny});
  const int64_t rows = dt.size(0), width = weight.size(0);
  Tensor dweight = torch::stable::new_empty(weight, {width}), dbias = torch::stable::new_empty(weight, {width});
  dispatch_full(kOp, "weight", weight, [&](auto type) {
    using T = typename decltype(type)::type;
    const T *w = data<T>(kOp, "weight", weight, {width}), *b = data<T>(kOp, "bias", bias, {width});
    const T* slopes = data<T>(kOp, "grad", grad, {rows, width});
    BlockSums<T> sums((rows + kTimeRows - 1) / kTimeRows, 2 * width);
    parallel_chunks(sums.blocks(), 1, 3 * rows * width, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        T* dw = sums.of(block);
        for (int64_t r = block * kTimeRows; r < std::min(rows, (block + 1) * kTimeRows); ++r)
          add_time_slopes(steps[r], w, b, slopes + r * width, width, dw, dw + width);
      }
    });
    sums.total(0, width, static_cast<T*>(dweight.mutable_data_ptr()));
    sums.total(width, width, static_cast<T*>(dbias.mutable_data_ptr()));
  });
  return {dweight, dbias};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("time_code", TORCH_BOX(&graphmem::time_code_cpu));
  m.impl("time_code_backward", TORCH_BOX(&graphmem::time_code_backward_cpu));
}
