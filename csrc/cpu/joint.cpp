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

// score = pre-activations of the keys, then their coefficients.
template <class T>
GRAPHMEM_INLINE void weigh_lanes(int64_t count, T* __restrict__ score) {
  T top = -std::numeric_limits<T>::infinity();
  for (int64_t r = 0; r < count; ++r) {
    score[r] = score[r] < 0 ? score[r] * T(kSlope) : score[r];
    top = score[r] > top ? score[r] : top;
  }
  for (int64_t r = 0; r < count; ++r) score[r] = exp_of(score[r] - top);
  const T sum = lane_sum<T>(count, [&](int64_t r) { return score[r]; });
  for (int64_t r = 0; r < count; ++r) score[r] /= sum;
}

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_JOINT_CLONES(T)                                                                       \
  GRAPHMEM_CLONES void ages_of(const double* dt, int64_t count, T* age) { age_lanes(dt, count, age); } \
  GRAPHMEM_CLONES void weigh(int64_t count, T* score) { weigh_lanes(count, score); }
GRAPHMEM_JOINT_CLONES(float)
GRAPHMEM_JOINT_CLONES(double)
#undef GRAPHMEM_JOINT_CLONES

}  // namespace graphmem
