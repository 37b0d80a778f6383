// Dropout of a part of a tensor, by the mask that graphmem.ops.dropout has for it.
#pragma once

#include "common/dropout.h"

namespace graphmem {

// y = x where kept, times the scale, else 0: elements [first, first + n) of the tensor. The gradient is the same.
void drop(float* y, const float* x, int64_t first, int64_t n, const DropRate& rate, uint64_t seed);
void drop(double* y, const double* x, int64_t first, int64_t n, const DropRate& rate, uint64_t seed);

}  // namespace graphmem
