#include "cpu/joint.h"

#include <limits>

#include "cpu/elementary.h"
#include "cpu/lanes.h"

namespace graphmem {

GRAPHMEM_CLONES void ask_cells(const int64_t* key, const int32_t* column, const int64_t* first, const int64_t* second,
                               int64_t hops, int64_t columns, uint32_t* __restrict__ mask) {
  for (int64_t c = 0; c < columns; ++c) mask[c] = 0;
  for (int64_t side = 0; side < 2; ++side) {
    const int64_t* in = side == 0 ? first : second;
    const int64_t low = side * (hops + 1), own = in[0];
    for (int64_t c = 0; c < columns; ++c) mask[c] |= static_cast<uint32_t>(own == key[c]) << low;
    for (int64_t hop = 1; hop <= hops; ++hop) {
      const int32_t* at = column + (hop - 1) * columns;
      for (int64_t c = 0; c < columns; ++c) mask[c] |= static_cast<uint32_t>(in[at[c]] == key[c]) << (low + hop);
    }
  }
  for (int64_t c = 0; c < columns; ++c) mask[c] = key[c] < 0 ? 0 : mask[c];
}

template <class T>
GRAPHMEM_INLINE void age_lanes(const double* dt, int64_t count, T* __restrict__ age) {
  for (int64_t r = 0; r < count; ++r) age[r] = log1p_of(T(), dt[r]);
}

template <class T>
GRAPHMEM_INLINE void weigh_lanes(const T* raw, const T* counts, int64_t count, T* __restrict__ alpha) {
  constexpr T kNone = -std::numeric_limits<T>::max();
  T top = kNone;
  for (int64_t r = 0; r < count; ++r) {
    const T score = raw[r] < 0 ? raw[r] * T(kLeak) : raw[r];
    alpha[r] = counts[r] > 0 ? score : kNone;
    top = alpha[r] > top ? alpha[r] : top;
  }
  for (int64_t r = 0; r < count; ++r) alpha[r] = counts[r] * exp_of(alpha[r] - top);
  const T sum = lane_sum<T>(count, [&](int64_t r) { return alpha[r]; });
  for (int64_t r = 0; r < count; ++r) alpha[r] /= sum;
}

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_JOINT_CLONES(T)                                                                       \
  GRAPHMEM_CLONES void ages_of(const double* dt, int64_t count, T* age) { age_lanes(dt, count, age); } \
  GRAPHMEM_CLONES void weigh(const T* raw, const T* counts, int64_t count, T* alpha) {                 \
    weigh_lanes(raw, counts, count, alpha);                                                            \
  }
GRAPHMEM_JOINT_CLONES(float)
GRAPHMEM_JOINT_CLONES(double)
#undef GRAPHMEM_JOINT_CLONES

}  // namespace graphmem
