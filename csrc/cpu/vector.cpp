#include "cpu/vector.h"

#include "cpu/lanes.h"

namespace graphmem {

GRAPHMEM_CLONES void axpy(float* __restrict__ y, float w, const float* __restrict__ x, int64_t n) {
  for (int64_t f = 0; f < n; ++f) y[f] += w * x[f];
}

GRAPHMEM_CLONES void axpy(double* __restrict__ y, double w, const double* __restrict__ x, int64_t n) {
  for (int64_t f = 0; f < n; ++f) y[f] += w * x[f];
}

GRAPHMEM_CLONES float dot(const float* a, const float* b, int64_t n) {
  return lane_sum<float>(n, [&](int64_t f) { return a[f] * b[f]; });
}

GRAPHMEM_CLONES double dot(const double* a, const double* b, int64_t n) {
  return lane_sum<double>(n, [&](int64_t f) { return a[f] * b[f]; });
}

GRAPHMEM_CLONES void rectify(float* x, int64_t n) {
  for (int64_t f = 0; f < n; ++f) x[f] = x[f] < 0 ? 0 : x[f];
}

GRAPHMEM_CLONES void rectify(double* x, int64_t n) {
  for (int64_t f = 0; f < n; ++f) x[f] = x[f] < 0 ? 0 : x[f];
}

GRAPHMEM_CLONES void rectify_gradient(const float* x, const float* w, float scale, int64_t n, float* __restrict__ out) {
  for (int64_t f = 0; f < n; ++f) out[f] = x[f] > 0 ? scale * w[f] : 0;
}

GRAPHMEM_CLONES void rectify_gradient(const double* x, const double* w, double scale, int64_t n,
                                      double* __restrict__ out) {
  for (int64_t f = 0; f < n; ++f) out[f] = x[f] > 0 ? scale * w[f] : 0;
}

}  // namespace graphmem
