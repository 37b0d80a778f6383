// Dropout of floats and doubles; see cpu/dropout.h.
#include <algorithm>
#include <limits>

#include "cpu/dropout.h"
#include "cpu/vector.h"

namespace graphmem {

// Function multiversioning does not reach into templates, so the two hot dtypes get clones of their own.
GRAPHMEM_CLONES void dropout_block(float* y, const float* x, int64_t first, int64_t n, uint32_t threshold, float scale,
                                   BlockKey key, float floor) {
  dropout_rows<float, float>(y, x, first, n, threshold, scale, key, floor);
}
GRAPHMEM_CLONES void dropout_block(double* y, const double* x, int64_t first, int64_t n, uint32_t threshold,
                                   double scale, BlockKey key, double floor) {
  dropout_rows<double, double>(y, x, first, n, threshold, scale, key, floor);
}

namespace {

template <class T>
void drop_part(T* y, const T* x, int64_t first, int64_t n, const DropRate& rate, uint64_t seed) {
  for (int64_t done = 0; done < n;) {
    const int64_t block = (first + done) / kDropoutBlock, from = (first + done) % kDropoutBlock;
    const int64_t count = std::min(kDropoutBlock - from, n - done);
    dropout_block(y + done, x + done, from, count, rate.threshold, static_cast<T>(rate.scale),
                  block_key(seed, static_cast<uint64_t>(block)), std::numeric_limits<T>::quiet_NaN());
    done += count;
  }
}

}  // namespace

void drop(float* y, const float* x, int64_t first, int64_t n, const DropRate& rate, uint64_t seed) {
  drop_part(y, x, first, n, rate, seed);
}
void drop(double* y, const double* x, int64_t first, int64_t n, const DropRate& rate, uint64_t seed) {
  drop_part(y, x, first, n, rate, seed);
}

}  // namespace graphmem
