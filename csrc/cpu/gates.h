// The gates of a GRU cell, and their gradient, for rows of d numbers; torch.nn.GRUCell's order r, z, n.
#pragma once

#include <cstdint>

namespace graphmem {

// g, h: pre-activations [3 d] of the input's and the state's part. gates [4 d]: r, z, n, and the state's part of n.
void gate(const float* g, const float* h, const float* state, int64_t d, float* gates, float* out);
void gate(const double* g, const double* h, const double* state, int64_t d, double* gates, double* out);

// out [4 d]: gradients of the pre-activations r, z and n of the input's part, and of the state's part of n.
void gate_gradient(const float* grad, const float* gates, const float* state, int64_t d, float* out);
void gate_gradient(const double* grad, const double* gates, const double* state, int64_t d, double* out);

}  // namespace graphmem
