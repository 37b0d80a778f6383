// Cosine, sine and the functions of gates, written so that a loop over them is compiled to vector instructions and gives
// the same bits on every instruction set: fixed polynomials, no calls, no tables. float64 takes the library's functions.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "cpu/vector.h"

namespace graphmem {

// phase = turns pi + rest, |rest| <= pi / 2, turns a whole number; `flip` is the sign bit of (-1)^turns. The phase is
// float64, so that w dt + b keeps its digits for times of millions of seconds.
GRAPHMEM_INLINE void half_turns(double phase, float& rest, float& turns, uint32_t& flip) {
  constexpr double kShift = 6755399441055744.0;  // adding 1.5 * 2^52 rounds to a whole number
  // pi in two parts: the product with the first, of 21 bits, is exact for turns below 2^32.
  constexpr double kHigh = 1647099.0 / 524288, kLow = 6.278329573009626e-07;
  const double shifted = phase * (1 / 3.141592653589793) + kShift, whole = shifted - kShift;
  rest = static_cast<float>((phase - whole * kHigh) - whole * kLow);
  turns = static_cast<float>(whole);
  flip = static_cast<uint32_t>(std::bit_cast<uint64_t>(shifted)) << 31;
}

GRAPHMEM_INLINE float flipped(float value, uint32_t flip) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) ^ flip);
}

// Taylor's polynomials: the first term left out is below 7e-9 at pi / 2.
GRAPHMEM_INLINE float cosine(float rest, uint32_t flip) {
  const float s = rest * rest;
  float p = 1.f / 479001600;
  p = p * s + -1.f / 3628800;
  p = p * s + 1.f / 40320;
  p = p * s + -1.f / 720;
  p = p * s + 1.f / 24;
  p = p * s + -1.f / 2;
  return flipped(p * s + 1.f, flip);
}

GRAPHMEM_INLINE float sine(float rest, uint32_t flip) {
  const float s = rest * rest;
  float p = 1.f / 6227020800;
  p = p * s + -1.f / 39916800;
  p = p * s + 1.f / 362880;
  p = p * s + -1.f / 5040;
  p = p * s + 1.f / 120;
  p = p * s + -1.f / 6;
  return flipped(rest + rest * (p * s), flip);
}

// Calls use(f, cos(phase(f))), or with the sine, for f in [0, n). In loops over a short buffer, none of which has a
// branch inside, so that all become vector instructions; a block with a phase of 2^32 half turns or more is left to the
// library.
template <bool kSine, class Phase, class Use>
GRAPHMEM_INLINE void harmonics(float, int64_t n, Phase&& phase, Use&& use) {
  constexpr int64_t kBlock = 64;
  constexpr uint32_t kFar = 0x4F800000;  // the bits of 2^32 as a float
  float rest[kBlock], turns[kBlock];
  uint32_t flip[kBlock];
  for (int64_t from = 0; from < n; from += kBlock) {
    const int64_t count = n - from < kBlock ? n - from : kBlock;
    for (int64_t f = 0; f < count; ++f) half_turns(phase(from + f), rest[f], turns[f], flip[f]);
    uint32_t far = 0;
    for (int64_t f = 0; f < count; ++f) far |= (std::bit_cast<uint32_t>(turns[f]) & 0x7FFFFFFF) >= kFar ? 1 : 0;
    if (far != 0) {
      for (int64_t f = from; f < from + count; ++f)
        use(f, static_cast<float>(kSine ? std::sin(phase(f)) : std::cos(phase(f))));
      continue;
    }
    for (int64_t f = 0; f < count; ++f) use(from + f, kSine ? sine(rest[f], flip[f]) : cosine(rest[f], flip[f]));
  }
}

template <bool kSine, class Phase, class Use>
GRAPHMEM_INLINE void harmonics(double, int64_t n, Phase&& phase, Use&& use) {
  for (int64_t f = 0; f < n; ++f) use(f, kSine ? std::sin(phase(f)) : std::cos(phase(f)));
}

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

// log(1 + x) for x >= 0, to 1e-7 of the larger of it and 1: 1 + x = m 2^e with m in [sqrt(1/2), sqrt(2)), and the
// logarithm of m by the polynomial of Cephes (Moshier, logf).
GRAPHMEM_INLINE float log1p_of(float, double x) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(1 + x)) - 0x3F3504F3;  // from sqrt(1/2) on
  const float e = static_cast<float>(static_cast<int32_t>(bits) >> 23);
  const float f = std::bit_cast<float>((bits & 0x007FFFFF) + 0x3F3504F3) - 1;
  float p = 7.0376836292e-2f;
  p = p * f + -1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f + -1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f + -1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f + -2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const float s = f * f;
  return e * 0.693359375f + (f + (s * (f * p) - 0.5f * s + e * -2.12194440e-4f));
}
GRAPHMEM_INLINE double log1p_of(double, double x) { return std::log1p(x); }

template <class T>
GRAPHMEM_INLINE T sigmoid_of(T x) {
  return T(1) / (T(1) + exp_of(-x));
}

}  // namespace graphmem
