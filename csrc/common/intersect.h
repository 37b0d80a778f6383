// The arithmetic of one pair: walk two sorted rows and report, in ascending order of the node, what they share and what
// only one of them has.
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

// Calls on_cn(node, slot_a, slot_b) for every node of row i of `a` that is also in row j of `b`, ascending.
template <class Col, class Weight, class OnCn>
GRAPHMEM_HD void visit_common(const Csr<Col, Weight>& a, const Csr<Col, Weight>& b, int64_t i, int64_t j,
                              bool exclude_endpoints, OnCn&& on_cn) {
  int64_t p = a.rowptr[i], q = b.rowptr[j];
  const int64_t p_end = a.rowptr[i + 1], q_end = b.rowptr[j + 1];
  const int64_t len_a = p_end - p, len_b = q_end - q;
  auto report = [&](Col u, int64_t slot_a, int64_t slot_b) {
    if (a.present(slot_a) && b.present(slot_b) && !(exclude_endpoints && (u == i || u == j))) {
      on_cn(u, slot_a, slot_b);
    }
  };
  if (len_a * kGallopRatio <= len_b) {
    for (; p < p_end && q < q_end; ++p) {
      q = gallop(b.col, q, q_end, a.col[p]);
      if (q < q_end && b.col[q] == a.col[p]) report(a.col[p], p, q);
    }
  } else if (len_b * kGallopRatio <= len_a) {
    for (; q < q_end && p < p_end; ++q) {
      p = gallop(a.col, p, p_end, b.col[q]);
      if (p < p_end && a.col[p] == b.col[q]) report(b.col[q], p, q);
    }
  } else {
    while (p < p_end && q < q_end) {
      const Col u = a.col[p], v = b.col[q];
      if (u == v) report(u, p, q);
      // Both comparisons compile to flag-to-register moves: no branch to mispredict.
      p += (u <= v);
      q += (v <= u);
    }
  }
}

// As visit_common, and also on_left(node, slot_a) for nodes only in row i of `a`, on_right(node, slot_b) for nodes only
// in row j of `b`. A slot that is absent counts as not there at all.
template <class Col, class Weight, class OnCn, class OnLeft, class OnRight>
GRAPHMEM_HD void visit_parts(const Csr<Col, Weight>& a, const Csr<Col, Weight>& b, int64_t i, int64_t j,
                             bool exclude_endpoints, OnCn&& on_cn, OnLeft&& on_left, OnRight&& on_right) {
  int64_t p = a.rowptr[i], q = b.rowptr[j];
  const int64_t p_end = a.rowptr[i + 1], q_end = b.rowptr[j + 1];
  while (p < p_end || q < q_end) {
    const bool take_a = q == q_end || (p < p_end && a.col[p] <= b.col[q]);
    const bool take_b = p == p_end || (q < q_end && b.col[q] <= a.col[p]);
    const Col u = take_a ? a.col[p] : b.col[q];
    const bool in_a = take_a && a.present(p), in_b = take_b && b.present(q);
    if (!(exclude_endpoints && (u == i || u == j))) {
      if (in_a && in_b) {
        on_cn(u, p, q);
      } else if (in_a) {
        on_left(u, p);
      } else if (in_b) {
        on_right(u, q);
      }
    }
    p += take_a;
    q += take_b;
  }
}

}  // namespace graphmem
