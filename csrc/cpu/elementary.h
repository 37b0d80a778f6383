// Cosine, sine and the functions of gates, written so that a loop over them is compiled to vector instructions and gives
// the same bits on every instruction set: fixed polynomials, no calls, no tables. float64 takes the library's functions.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cpu/vector.h"

namespace graphmem {

// phase = (whole number) pi + rest, |rest| <= pi / 2; `flip` is the sign bit of the factor (-1)^(whole number).
struct HalfTurns {
  float rest;
  uint32_t flip;
};

// The phase is float64, so that w dt + b keeps its digits for times of millions of seconds. Behind 2^51 half turns none
// are left, and the clamp keeps what remains inside the polynomials' range.
GRAPHMEM_INLINE HalfTurns half_turns(double phase) {
  constexpr double kPi = 3.141592653589793, kShift = 6755399441055744.0;  // adding 1.5 * 2^52 rounds to a whole number
  const double shifted = phase * (1 / kPi) + kShift;
  double rest = phase - (shifted - kShift) * kPi;
  rest = rest < -1.6 ? -1.6 : rest;
  rest = rest > 1.6 ? 1.6 : rest;
  return {static_cast<float>(rest), static_cast<uint32_t>(std::bit_cast<uint64_t>(shifted)) << 31};
}

GRAPHMEM_INLINE float flipped(float value, uint32_t flip) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) ^ flip);
}

// Taylor's polynomials: the first term left out is below 7e-9 at pi / 2.
GRAPHMEM_INLINE float cosine(HalfTurns x) {
  const float s = x.rest * x.rest;
  float p = 1.f / 479001600;
  p = p * s + -1.f / 3628800;
  p = p * s + 1.f / 40320;
  p = p * s + -1.f / 720;
  p = p * s + 1.f / 24;
  p = p * s + -1.f / 2;
  return flipped(p * s + 1.f, x.flip);
}

GRAPHMEM_INLINE float sine(HalfTurns x) {
  const float s = x.rest * x.rest;
  float p = 1.f / 6227020800;
  p = p * s + -1.f / 39916800;
  p = p * s + 1.f / 362880;
  p = p * s + -1.f / 5040;
  p = p * s + 1.f / 120;
  p = p * s + -1.f / 6;
  return flipped(x.rest + x.rest * (p * s), x.flip);
}

// cos(phase) and sin(phase) by the type of the result.
template <class T>
struct Circle;
template <>
struct Circle<float> {
  HalfTurns x;
  GRAPHMEM_INLINE explicit Circle(double phase) : x(half_turns(phase)) {}
  GRAPHMEM_INLINE float cos() const { return cosine(x); }
  GRAPHMEM_INLINE float sin() const { return sine(x); }
};
template <>
struct Circle<double> {
  double x;
  GRAPHMEM_INLINE explicit Circle(double phase) : x(phase) {}
  GRAPHMEM_INLINE double cos() const { return std::cos(x); }
  GRAPHMEM_INLINE double sin() const { return std::sin(x); }
};

// e^x = power + power * rest, power a power of two, rest = e^r - 1 for |r| <= log(2) / 2.
struct Exponential {
  float power, rest;
};

GRAPHMEM_INLINE Exponential exponential(float x) {
  constexpr float kShift = 12582912.f;  // 1.5 * 2^23
  x = x < -87.f ? -87.f : x;
  x = x > 87.f ? 87.f : x;
  const float shifted = x * 1.44269504f + kShift;
  const float n = shifted - kShift;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.f / 5040;
  p = p * r + 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 1.f / 2;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) + 127;  // the low bits of `shifted` are those of n
  return {std::bit_cast<float>(exponent << 23), r + r * (p * r)};
}

GRAPHMEM_INLINE float exp_of(float x) {
  const Exponential e = exponential(x);
  return e.power + e.power * e.rest;
}
GRAPHMEM_INLINE double exp_of(double x) { return std::exp(x); }

GRAPHMEM_INLINE float tanh_of(float x) {
  const Exponential e = exponential(2 * x);
  const float less_one = e.power * e.rest + (e.power - 1);
  return less_one / (less_one + 2);
}
GRAPHMEM_INLINE double tanh_of(double x) { return std::tanh(x); }

template <class T>
GRAPHMEM_INLINE T sigmoid_of(T x) {
  return T(1) / (T(1) + exp_of(-x));
}

}  // namespace graphmem
