// The arithmetic of one pair: walk two sorted rows and report, in ascending order of the node, what they share.
#pragma once

#include "common/macros.h"

namespace graphmem {

// One graph in CSR form. `keep` (may be null) marks the slots that are present; `weight` (may be null) counts as 1.
template <class Col, class Weight>
struct Csr {
  const int64_t* rowptr;
  const Col* col;
  const bool* keep;
  const Weight* weight;

  GRAPHMEM_HD bool present(int64_t slot) const { return keep == nullptr || keep[slot]; }
  GRAPHMEM_HD Weight weight_of(int64_t slot) const { return weight == nullptr ? Weight(1) : weight[slot]; }
};

// First position in [begin, end) whose column is not below `value`.
template <class Col>
GRAPHMEM_HD int64_t lower_bound(const Col* col, int64_t begin, int64_t end, Col value) {
  while (begin < end) {
    const int64_t middle = begin + (end - begin) / 2;
    if (col[middle] < value) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

// Slot of the edge (i, j), or -1.
template <class Col>
GRAPHMEM_HD int64_t find_slot(const int64_t* rowptr, const Col* col, int64_t i, int64_t j) {
  const int64_t end = rowptr[i + 1];
  const int64_t at = lower_bound(col, rowptr[i], end, static_cast<Col>(j));
  return at < end && col[at] == static_cast<Col>(j) ? at : -1;
}

// Exponential search from `begin`: cost is logarithmic in the distance skipped, not in the row.
template <class Col>
GRAPHMEM_HD int64_t gallop(const Col* col, int64_t begin, int64_t end, Col value) {
  int64_t step = 1;
  int64_t low = begin;
  while (begin < end && col[begin] < value) {
    low = begin + 1;
    begin += step;
    step *= 2;
  }
  return lower_bound(col, low, begin < end ? begin : end, value);
}

// Rows whose lengths differ by this factor or more are intersected by galloping through the longer one.
constexpr int64_t kGallopRatio = 32;

// Calls on_match(n, node, place_a, place_b) for the n-th entry that two ascending rows share; returns their number.
template <class Col, class OnMatch>
GRAPHMEM_HD int64_t visit_matches(const Col* a, int64_t len_a, const Col* b, int64_t len_b, OnMatch&& on_match) {
  int64_t n = 0, p = 0, q = 0;
  if (len_a * kGallopRatio <= len_b) {
    for (; p < len_a && q < len_b; ++p) {
      q = gallop(b, q, len_b, a[p]);
      if (q < len_b && b[q] == a[p]) on_match(n++, a[p], p, q);
    }
  } else if (len_b * kGallopRatio <= len_a) {
    for (; q < len_b && p < len_a; ++q) {
      p = gallop(a, p, len_a, b[q]);
      if (p < len_a && a[p] == b[q]) on_match(n++, b[q], p, q);
    }
  } else {
    while (p < len_a && q < len_b) {
      const Col u = a[p], v = b[q];
      if (u == v) on_match(n++, u, p, q);
      // Both comparisons compile to flag-to-register moves: no branch to mispredict.
      p += (u <= v);
      q += (v <= u);
    }
  }
  return n;
}

}  // namespace graphmem
