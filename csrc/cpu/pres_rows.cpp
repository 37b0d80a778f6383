#include "cpu/lanes.h"
#include "cpu/pres.h"

namespace graphmem {
namespace {

template <class T>
GRAPHMEM_INLINE void predict_loop(const T* prev, const T* rate, T span, T bound, int64_t d, T* __restrict__ guess) {
  for (int64_t f = 0; f < d; ++f) {
    const T shift = span * rate[f], below = shift > bound ? bound : shift;
    guess[f] = prev[f] + (below < -bound ? -bound : below);
  }
}

template <class T>
GRAPHMEM_INLINE void mix_loop(const T* guess, const T* measured, const T* weight, bool alike, int64_t d,
                              T* __restrict__ out) {
  if (alike) {
    const T w = *weight;
    for (int64_t f = 0; f < d; ++f) out[f] = lerp(guess[f], measured[f], w);
  } else {
    for (int64_t f = 0; f < d; ++f) out[f] = lerp(guess[f], measured[f], weight[f]);
  }
}

// Adds the gradient of the weight to `sum`, of one number where all columns have one weight.
template <class T>
GRAPHMEM_INLINE void unmix_loop(const T* grad, const T* guess, const T* measured, const T* weight, bool alike,
                                int64_t d, T* __restrict__ out, T* __restrict__ sum) {
  if (alike) {
    const T w = *weight;
    for (int64_t f = 0; f < d; ++f) out[f] = grad[f] * w;
    *sum += lane_sum<T>(d, [&](int64_t f) { return grad[f] * (measured[f] - guess[f]); });
  } else {
    for (int64_t f = 0; f < d; ++f) {
      out[f] = grad[f] * weight[f];
      sum[f] += grad[f] * (measured[f] - guess[f]);
    }
  }
}

// One observation, of weight w, as a part `share` of all so far; without m2 no squares are kept.
template <class T>
GRAPHMEM_INLINE void observe_loop(const T* x, int64_t d, T w, T share, T decay, T* __restrict__ mean,
                                  T* __restrict__ m2) {
  if (m2 == nullptr) {
    for (int64_t f = 0; f < d; ++f) mean[f] += share * (x[f] - mean[f]);
    return;
  }
  for (int64_t f = 0; f < d; ++f) {
    const T gap = x[f] - mean[f];
    mean[f] += share * gap;
    m2[f] = decay * m2[f] + w * gap * (x[f] - mean[f]);
  }
}

template <class T>
GRAPHMEM_INLINE void moved_loop(const T* x, const T* prev, T span, int64_t d, T* __restrict__ out) {
  for (int64_t f = 0; f < d; ++f) out[f] = (x[f] - prev[f]) / span;
}

}  // namespace

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_PRES_CLONES(T)                                                                                     \
  GRAPHMEM_CLONES void predict_row(const T* prev, const T* rate, T span, T bound, int64_t d, T* guess) {            \
    predict_loop(prev, rate, span, bound, d, guess);                                                                \
  }                                                                                                                 \
  GRAPHMEM_CLONES void mix_row(const T* guess, const T* measured, const T* weight, bool alike, int64_t d, T* out) { \
    mix_loop(guess, measured, weight, alike, d, out);                                                               \
  }                                                                                                                 \
  GRAPHMEM_CLONES void unmix_row(const T* grad, const T* guess, const T* measured, const T* weight, bool alike,     \
                                 int64_t d, T* out, T* sum) {                                                       \
    unmix_loop(grad, guess, measured, weight, alike, d, out, sum);                                                  \
  }                                                                                                                 \
  GRAPHMEM_CLONES void observe_row(const T* x, int64_t d, T w, T share, T decay, T* mean, T* m2) {                  \
    observe_loop(x, d, w, share, decay, mean, m2);                                                                  \
  }                                                                                                                 \
  GRAPHMEM_CLONES void moved_row(const T* x, const T* prev, T span, int64_t d, T* out) {                            \
    moved_loop(x, prev, span, d, out);                                                                              \
  }
GRAPHMEM_PRES_CLONES(float)
GRAPHMEM_PRES_CLONES(double)
#undef GRAPHMEM_PRES_CLONES

}  // namespace graphmem
