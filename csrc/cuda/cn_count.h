// Sizes of the parts of each pair, for the operators that need them first.
#pragma once

#include "cuda/pairs.h"

namespace graphmem {

// int64 [3, B]: as the operator cn_count.
template <class Col>
Tensor cn_sizes(const char* op, const Device& device, Problem<Col, float> problem, const Tensor& pairs);

}  // namespace graphmem
