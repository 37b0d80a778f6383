#include "cpu/gates.h"

#include "cpu/elementary.h"

namespace graphmem {
namespace {

template <class T>
GRAPHMEM_INLINE void gate_row(const T* g, const T* h, const T* state, int64_t d, T* __restrict__ gates,
                              T* __restrict__ out) {
  for (int64_t f = 0; f < d; ++f) {
    const T r = sigmoid_of(g[f] + h[f]), z = sigmoid_of(g[d + f] + h[d + f]), hn = h[2 * d + f];
    const T n = tanh_of(g[2 * d + f] + r * hn);
    gates[f] = r;
    gates[d + f] = z;
    gates[2 * d + f] = n;
    gates[3 * d + f] = hn;
    out[f] = n + z * (state[f] - n);
  }
}

template <class T>
GRAPHMEM_INLINE void gate_gradient_row(const T* grad, const T* gates, const T* state, int64_t d, T* __restrict__ out) {
  for (int64_t f = 0; f < d; ++f) {
    const T r = gates[f], z = gates[d + f], n = gates[2 * d + f], hn = gates[3 * d + f];
    const T dn = grad[f] * (1 - z) * (1 - n * n);
    out[f] = dn * hn * (r * (1 - r));
    out[d + f] = grad[f] * (state[f] - n) * (z * (1 - z));
    out[2 * d + f] = dn;
    out[3 * d + f] = dn * r;
  }
}

}  // namespace

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_GATE_CLONES(T)                                                                          \
  GRAPHMEM_CLONES void gate(const T* g, const T* h, const T* state, int64_t d, T* gates, T* out) {       \
    gate_row(g, h, state, d, gates, out);                                                                \
  }                                                                                                      \
  GRAPHMEM_CLONES void gate_gradient(const T* grad, const T* gates, const T* state, int64_t d, T* out) { \
    gate_gradient_row(grad, gates, state, d, out);                                                       \
  }
GRAPHMEM_GATE_CLONES(float)
GRAPHMEM_GATE_CLONES(double)
#undef GRAPHMEM_GATE_CLONES

}  // namespace graphmem
