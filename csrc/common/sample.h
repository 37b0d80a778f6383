// The arithmetic of one random event; contract in docs/architecture.md.
#pragma once

#include "common/intersect.h"
#include "common/random.h"

namespace graphmem {

constexpr uint64_t kMaxAttempts = 1024;

// Event `e`: a uniform pair u != v that is an edge in neither direction; false after kMaxAttempts rejections.
template <class Col>
GRAPHMEM_HD bool sample_non_edge(const int64_t* rowptr, const Col* col, uint64_t num_nodes, uint64_t seed,
                                 uint64_t event, int64_t* u_out, int64_t* v_out) {
  const uint64_t state = stream(seed, event);
  for (uint64_t attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const int64_t u = static_cast<int64_t>(below(draw(state, 2 * attempt), num_nodes));
    const int64_t v = static_cast<int64_t>(below(draw(state, 2 * attempt + 1), num_nodes));
    if (u != v && find_slot(rowptr, col, u, v) < 0 && find_slot(rowptr, col, v, u) < 0) {
      *u_out = u;
      *v_out = v;
      return true;
    }
  }
  *u_out = *v_out = -1;
  return false;
}

// `k` of `length` positions, written ascending to `out`. Insertion into a sorted list: k is a sampling degree, small.
GRAPHMEM_HD void sample_positions(uint64_t state, int64_t length, int64_t k, bool replace, int64_t* out) {
  for (int64_t n = 0; n < k; ++n) {
    int64_t value;
    if (replace) {
      value = static_cast<int64_t>(below(draw(state, n), length));
    } else {  // Floyd: the n-th step draws from one more position than the step before
      const int64_t top = length - k + n;
      value = static_cast<int64_t>(below(draw(state, n), top + 1));
      const int64_t at = lower_bound(out, 0, n, value);
      if (at < n && out[at] == value) value = top;
    }
    int64_t at = n;
    for (; at > 0 && out[at - 1] > value; --at) out[at] = out[at - 1];
    out[at] = value;
  }
}

// One row of sample_rows: at most `k` of its entries, absolute and ascending; each weighs length / k where some are left.
GRAPHMEM_HD void sample_row(int64_t first, int64_t length, int64_t k, uint64_t seed, uint64_t key, bool replace,
                            int64_t* positions, float* weights) {
  const int64_t taken = length < k ? length : k;
  if (length <= k) {
    for (int64_t n = 0; n < taken; ++n) positions[n] = n;
  } else {
    sample_positions(stream(seed, key), length, k, replace, positions);
  }
  const float scale = length <= k ? 1.0f : static_cast<float>(length) / static_cast<float>(k);
  for (int64_t n = 0; n < taken; ++n) {
    positions[n] += first;
    weights[n] = scale;
  }
}

}  // namespace graphmem
