// Row arithmetic, compiled once per instruction set and chosen at load time: the wheel never needs -march=native.
// All clones run the same sequence of IEEE operations (no contraction), so they give the same bits.
#pragma once

#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(GRAPHMEM_NO_CLONES)
#define GRAPHMEM_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define GRAPHMEM_CLONES
#endif

// Templates that a clone must absorb to be compiled for its instruction set.
#if defined(__GNUC__)
#define GRAPHMEM_INLINE inline __attribute__((always_inline))
#else
#define GRAPHMEM_INLINE inline
#endif

namespace graphmem {

// y += w * x over n elements.
void axpy(float* y, float w, const float* x, int64_t n);
void axpy(double* y, double w, const double* x, int64_t n);

// Their product, in the order of cpu/lanes.h.
float dot(const float* a, const float* b, int64_t n);
double dot(const double* a, const double* b, int64_t n);

// x = max(x, 0).
void rectify(float* x, int64_t n);
void rectify(double* x, int64_t n);

// out = scale * w where x > 0, else 0: the gradient of scale <w, max(x, 0)>.
void rectify_gradient(const float* x, const float* w, float scale, int64_t n, float* out);
void rectify_gradient(const double* x, const double* w, double scale, int64_t n, double* out);

// Rounds a row of sums to the dtype of the output; a no-op where both are the same memory.
template <class Out, class Acc>
inline void store(Out* out, const Acc* acc, int64_t n) {
  for (int64_t f = 0; f < n; ++f) out[f] = static_cast<Out>(acc[f]);
}

}  // namespace graphmem
