#include "cpu/vector.h"

namespace graphmem {

GRAPHMEM_CLONES void axpy(float* __restrict__ y, float w, const float* __restrict__ x, int64_t n) {
  for (int64_t f = 0; f < n; ++f) y[f] += w * x[f];
}

GRAPHMEM_CLONES void axpy(double* __restrict__ y, double w, const double* __restrict__ x, int64_t n) {
  for (int64_t f = 0; f < n; ++f) y[f] += w * x[f];
}

}  // namespace graphmem
