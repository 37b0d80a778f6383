// ncache_refresh: cells are read first, whatever their dtypes; all that follows takes a thread for each number of a cell:
// cosines, inputs of the GRU, its units, and in the gradient the slopes of these. Products of states and messages with the
// weights are computed for every cell that holds their key, not once a key as on the CPU: fine for small F, and what to
// do next. Gradients of weights are added over 64 cells, in order, and these parts by RowSums.
// Results agree with the CPU's to rounding.
#include <tuple>

#include "common/ncache_refresh.h"
#include "cuda/row_sums.h"

namespace graphmem {
namespace {

template <class C, class T>
__global__ void read_cells(C cells, int64_t* known, double* step, T* stored) {
  const int64_t n = global_thread();
  if (n >= cells.count()) return;
  known[n] = cells.known(n);
  step[n] = cells.step(n);
  for (int64_t f = 0; f < cells.width; ++f)
    stored[n * cells.width + f] = static_cast<T>(cells.value[cells.cell(n) * cells.width + f]);
}

template <class T>
__global__ void encode_steps(GruCells<T> c, T* code) {
  const int64_t at = global_thread(), n = at / c.times;
  if (n < c.count) code[at] = c.filled(n) ? static_cast<T>(std::cos(c.phase(n, at % c.times))) : T(0);
}

template <class T>
__global__ void put_inputs(GruCells<T> c, const T* code, T* x) {
  const int64_t at = global_thread(), n = at / c.width;
  if (n < c.count) x[at] = c.filled(n) ? c.input(n, at % c.width, code) : T(0);
}

template <class T>
__global__ void put_worths(GruCells<T> c, const T* x, T* now) {
  const int64_t at = global_thread(), n = at / c.width;
  if (n >= c.count) return;
  now[at] = c.filled(n) ? GruUnit<T>(c, n, at % c.width, x + n * c.width).worth() : c.stored[at];
}

// slope [count, 4 F]; cells without an event have none.
template <class T>
__global__ void put_slopes(GruCells<T> c, const T* x, const T* grad, T* slope) {
  const int64_t at = global_thread(), n = at / c.width, f = at % c.width;
  if (n >= c.count || !c.filled(n)) return;
  GruUnit<T>(c, n, f, x + n * c.width).differentiate(grad[at], c.width, slope + n * 4 * c.width + f);
}

template <class T>
__global__ void differentiate_inputs(GruCells<T> c, const T* slope, T* dx) {
  const int64_t at = global_thread(), n = at / c.width, f = at % c.width;
  if (n >= c.count || !c.filled(n)) return;
  T sum = 0;
  for (int64_t j = 0; j < 3 * c.width; ++j) sum += slope[n * 4 * c.width + j] * c.weight_ih[j * c.width + f];
  dx[at] = sum;
}

// Gradients of the phases [count, T].
template <class T>
__global__ void differentiate_phases(GruCells<T> c, const T* dx, T* dphase) {
  const int64_t at = global_thread(), n = at / c.times, k = at % c.times;
  if (n >= c.count || !c.filled(n)) return;
  T sum = 0;
  for (int64_t f = 0; f < c.width; ++f) sum += dx[n * c.width + f] * c.weight[(f + 1) * c.inputs() - c.times + k];
  dphase[at] = -static_cast<T>(std::sin(c.phase(n, k))) * sum;
}

// What a gradient adds of a cell. Columns of sums: those of the parameters in their order, one after the other.
template <class T>
struct RefreshTerms {
  GruCells<T> c;
  const T *code, *x, *slope, *dx, *dphase;

  GRAPHMEM_HD int64_t of_weight() const { return 2 * c.times; }
  GRAPHMEM_HD int64_t of_ih() const { return of_weight() + c.width * c.inputs(); }
  GRAPHMEM_HD int64_t of_hh() const { return of_ih() + 3 * c.width * c.width; }
  GRAPHMEM_HD int64_t of_bias_ih() const { return of_hh() + 3 * c.width * c.width; }
  GRAPHMEM_HD int64_t of_bias_hh() const { return of_bias_ih() + 3 * c.width; }
  GRAPHMEM_HD int64_t columns() const { return of_bias_hh() + 3 * c.width; }

  // Of pre-activation j of the input, or of what is stored: its part of n has a slope of its own.
  __device__ T of_input(int64_t n, int64_t j) const { return slope[n * 4 * c.width + j]; }
  __device__ T of_stored(int64_t n, int64_t j) const { return of_input(n, j < 2 * c.width ? j : j + c.width); }

  __device__ T term(int64_t n, int64_t column) const {
    if (column < c.times) return dphase[n * c.times + column] * static_cast<T>(c.step[n]);
    if (column < of_weight()) return dphase[n * c.times + column - c.times];
    if (column < of_ih()) {
      const int64_t at = column - of_weight();
      return dx[n * c.width + at / c.inputs()] * c.part(n, at % c.inputs(), code);
    }
    if (column < of_hh()) {
      const int64_t at = column - of_ih();
      return of_input(n, at / c.width) * x[n * c.width + at % c.width];
    }
    if (column < of_bias_ih()) {
      const int64_t at = column - of_hh();
      return of_stored(n, at / c.width) * c.stored[n * c.width + at % c.width];
    }
    return column < of_bias_hh() ? of_input(n, column - of_bias_ih()) : of_stored(n, column - of_bias_hh());
  }
};

// parts [count / 64, columns]: sums over 64 cells, a thread a column.
template <class T>
__global__ void add_terms(RefreshTerms<T> terms, int64_t parts, T* out) {
  const int64_t at = global_thread(), part = at / terms.columns(), column = at % terms.columns();
  if (part >= parts) return;
  const int64_t first = part * kSumRows, end = first + kSumRows;
  T sum = 0;
  for (int64_t n = first; n < terms.c.count && n < end; ++n) {
    if (terms.c.filled(n)) sum += terms.term(n, column);
  }
  out[at] = sum;
}

// A forward pass up to the inputs of the GRU.
template <class T>
struct Refreshing {
  GruCells<T> c;
  Tensor known, step, stored, codes, inputs;

  template <class C>
  Refreshing(const char* op, const Device& device, const C& cells, const GruCells<T>& gru, const Tensor& like)
      : c(gru),
        known(unset<int64_t>(like, gru.count)),
        step(unset<double>(like, gru.count)),
        stored(unset<T>(like, gru.count, gru.width)),
        codes(unset<T>(like, gru.count, gru.times)),
        inputs(unset<T>(like, gru.count, gru.width)) {
    int64_t* of_known = static_cast<int64_t*>(known.mutable_data_ptr());
    double* of_step = static_cast<double*>(step.mutable_data_ptr());
    T* of_stored = static_cast<T*>(stored.mutable_data_ptr());
    c.known = of_known, c.step = of_step, c.stored = of_stored;
    launch(op, device, read_cells<C, T>, {blocks_for(c.count, kThreads)}, kThreads, 0, cells, of_known, of_step,
           of_stored);
    launch(op, device, encode_steps<T>, {blocks_for(c.count * c.times, kThreads)}, kThreads, 0, c,
           static_cast<T*>(codes.mutable_data_ptr()));
    launch(op, device, put_inputs<T>, {blocks_for(c.count * c.width, kThreads)}, kThreads, 0, c, code(),
           static_cast<T*>(inputs.mutable_data_ptr()));
  }

  const T* code() const { return static_cast<const T*>(codes.const_data_ptr()); }
  const T* x() const { return static_cast<const T*>(inputs.const_data_ptr()); }
};

Tensor ncache_refresh_cuda(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes, Tensor state,
                           std::optional<Tensor> messages, std::optional<Tensor> row, bool delta, Tensor time_weight,
                           Tensor time_bias, Tensor weight, Tensor weight_ih, Tensor weight_hh, Tensor bias_ih,
                           Tensor bias_hh) {
  constexpr const char* kOp = "ncache_refresh";
  const Device device(key);
  const RefreshedArguments arguments{key,   eid,         time,      value,  nodes,     state,     messages, row,
                                     delta, time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih,  bias_hh};
  return arguments.dispatch(kOp, [&]<class T>(const auto& cells, const GruCells<T>& gru) {
    Tensor now = unset<T>(state, cells.rows, cells.cells.columns, cells.width);
    const Refreshing<T> r(kOp, device, cells, gru, state);
    launch(kOp, device, put_worths<T>, {blocks_for(gru.count * gru.width, kThreads)}, kThreads, 0, r.c, r.x(),
           static_cast<T*>(now.mutable_data_ptr()));
    return now;
  });
}

using RefreshGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
RefreshGradients differentiate_refresh(const char* op, const Device& device, const Refreshing<T>& r, const T* grad,
                                       const RefreshedArguments& a) {
  const GruCells<T>& c = r.c;
  const auto scratch = [&](int64_t rows, int64_t columns) { return unset<T>(a.state, rows, columns); };
  const auto of = [](Tensor& x) { return static_cast<T*>(x.mutable_data_ptr()); };
  Tensor slope = scratch(c.count, 4 * c.width), dx = scratch(c.count, c.width), dphase = scratch(c.count, c.times);
  const Grid units{blocks_for(c.count * c.width, kThreads)};
  launch(op, device, put_slopes<T>, units, kThreads, 0, c, r.x(), grad, of(slope));
  launch(op, device, differentiate_inputs<T>, units, kThreads, 0, c, of(slope), of(dx));
  launch(op, device, differentiate_phases<T>, {blocks_for(c.count * c.times, kThreads)}, kThreads, 0, c, of(dx),
         of(dphase));
  const RefreshTerms<T> terms{c, r.code(), r.x(), of(slope), of(dx), of(dphase)};
  const int64_t parts = blocks_for(c.count, kSumRows), columns = terms.columns();
  Tensor added = scratch(parts, columns);
  launch(op, device, add_terms<T>, {blocks_for(parts * columns, kThreads)}, kThreads, 0, terms, parts, of(added));
  const RowSums<T> sums(op, device, added, parts, columns);
  const auto total = [&](const Tensor& like, int64_t from) {
    Tensor out = torch::stable::empty_like(like);
    sums.total(from, out.numel(), out);
    return out;
  };
  return {total(a.time_weight, 0),
          total(a.time_bias, c.times),
          total(a.weight, terms.of_weight()),
          total(a.weight_ih, terms.of_ih()),
          total(a.weight_hh, terms.of_hh()),
          total(a.bias_ih, terms.of_bias_ih()),
          total(a.bias_hh, terms.of_bias_hh())};
}

RefreshGradients ncache_refresh_backward_cuda(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor value,
                                              Tensor nodes, Tensor state, std::optional<Tensor> messages,
                                              std::optional<Tensor> row, bool delta, Tensor time_weight,
                                              Tensor time_bias, Tensor weight, Tensor weight_ih, Tensor weight_hh,
                                              Tensor bias_ih, Tensor bias_hh) {
  constexpr const char* kOp = "ncache_refresh_backward";
  const Device device(key);
  const RefreshedArguments arguments{key,   eid,         time,      value,  nodes,     state,     messages, row,
                                     delta, time_weight, time_bias, weight, weight_ih, weight_hh, bias_ih,  bias_hh};
  return arguments.dispatch(kOp, [&]<class T>(const auto& cells, const GruCells<T>& gru) {
    const T* slopes = data<T>(kOp, "grad", grad, {cells.rows, cells.cells.columns, cells.width});
    const Refreshing<T> r(kOp, device, cells, gru, state);
    return differentiate_refresh(kOp, device, r, slopes, arguments);
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("ncache_refresh", TORCH_BOX(&graphmem::ncache_refresh_cuda));
  m.impl("ncache_refresh_backward", TORCH_BOX(&graphmem::ncache_refresh_backward_cuda));
}
