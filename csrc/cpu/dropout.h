// Dropout of a part of a tensor, by the mask that graphmem.ops.dropout has for it.
#pragma once

#include "common/dropout.h"

namespace graphmem {

// Elements [first, first + n) of one block; `first` counts from the start of the block.
template <class T, class Acc>
inline void dropout_rows(T* y, const T* x, int64_t first, int64_t n, uint32_t threshold, Acc scale, BlockKey key,
                         Acc floor) {
  for (int64_t e = 0; e < n; ++e) {
    const Acc value = static_cast<Acc>(x[e]) * scale;
    const bool kept = element_draw(key, static_cast<uint32_t>(first + e)) >= threshold;
    y[e] = static_cast<T>(kept && !(value <= floor) ? value : Acc(0));
  }
}

void dropout_block(float* y, const float* x, int64_t first, int64_t n, uint32_t threshold, float scale, BlockKey key,
                   float floor);
void dropout_block(double* y, const double* x, int64_t first, int64_t n, uint32_t threshold, double scale, BlockKey key,
                   double floor);

// y = x where kept, times the scale, else 0: elements [first, first + n) of the tensor. The gradient is the same.
void drop(float* y, const float* x, int64_t first, int64_t n, const DropRate& rate, uint64_t seed);
void drop(double* y, const double* x, int64_t first, int64_t n, const DropRate& rate, uint64_t seed);

}  // namespace graphmem
