// Codes cos(w dt + b) of time differences, and the gradients of w and b.
#pragma once

#include <cstdint>

namespace graphmem {

// code[f] = cos(w[f] dt + b[f]). The phase is computed in float64.
void time_code(double dt, const float* w, const float* b, int64_t width, float* code);
void time_code(double dt, const double* w, const double* b, int64_t width, double* code);

// dw and db += the gradients of one code, of which `grad` is given.
void add_time_slopes(double dt, const float* w, const float* b, const float* grad, int64_t width, float* dw, float* db);
void add_time_slopes(double dt, const double* w, const double* b, const double* grad, int64_t width, double* dw,
                     double* db);

// Rows whose gradients are added before those of other rows.
constexpr int64_t kTimeRows = 64;

}  // namespace graphmem
