// What two rows of a pair share and what only one of them has, by one intersection (cpu/intersect.h). The calls for one
// part ascend; parts come one after the other.
#pragma once

#include "cpu/buffer.h"
#include "cpu/intersect.h"

namespace graphmem {

// The first lines of a row; what comes after them is fetched by the processor itself, which sees them read in order.
template <class Col, class Weight>
inline void fetch_row(const Csr<Col, Weight>& g, int64_t node) {
  constexpr int64_t kLine = 64 / sizeof(Col), kLines = 4;
  const Col* row = g.col + g.rowptr[node];
  const Col* last = std::min(g.col + g.rowptr[node + 1], row + kLines * kLine);
  for (; row < last; row += kLine) __builtin_prefetch(row);
}

// Pairs come in any order, so that their rows are in memory, not in a cache: called for pair n, asks for the offsets and
// the entries of pairs that come later, before `end`.
template <class Col, class Weight>
inline void fetch_rows(const Csr<Col, Weight>& a, const Csr<Col, Weight>& b, const int64_t* source,
                       const int64_t* target, int64_t n, int64_t end) {
  constexpr int64_t kAhead = 8;
  if (n + 2 * kAhead < end) {
    __builtin_prefetch(a.rowptr + source[n + 2 * kAhead]);
    __builtin_prefetch(b.rowptr + target[n + 2 * kAhead]);
  }
  if (n + kAhead < end) {
    fetch_row(a, source[n + kAhead]);
    fetch_row(b, target[n + kAhead]);
  }
}

// A thread's scratch space for the walks of many pairs.
class Walk {
 public:
  // Calls on_cn(node, slot_a, slot_b) for every node of row i of `a` that is also in row j of `b`.
  template <class Col, class Weight, class OnCn>
  void common(const Csr<Col, Weight>& a, const Csr<Col, Weight>& b, int64_t i, int64_t j, bool exclude_endpoints,
              OnCn&& on_cn) {
    const int64_t first_a = a.rowptr[i], first_b = b.rowptr[j], found = find(a, b, i, j);
    for (int64_t k = 0; k < found; ++k) {
      const int64_t p = first_a + at_a_.data()[k], q = first_b + at_b_.data()[k];
      const Col u = a.col[p];
      if (a.present(p) && b.present(q) && !(exclude_endpoints && (u == i || u == j))) on_cn(u, p, q);
    }
  }

  // Also on_left(node, slot_a) for nodes only in row i of `a`, and on_right(node, slot_b) for nodes only in row j of `b`.
  // A slot that is absent counts as not there at all.
  template <class Col, class Weight, class OnCn, class OnLeft, class OnRight>
  void parts(const Csr<Col, Weight>& a, const Csr<Col, Weight>& b, int64_t i, int64_t j, bool exclude_endpoints,
             OnCn&& on_cn, OnLeft&& on_left, OnRight&& on_right) {
    const int64_t found = find(a, b, i, j);
    const auto wanted = [&](Col u) { return !(exclude_endpoints && (u == i || u == j)); };
    const auto one_side = [&](const Csr<Col, Weight>& g, int64_t first, int64_t last, auto&& on_single) {
      for (int64_t slot = first; slot < last; ++slot) {
        if (g.present(slot) && wanted(g.col[slot])) on_single(g.col[slot], slot);
      }
    };
    const int64_t first_a = a.rowptr[i], first_b = b.rowptr[j];
    int64_t p = first_a;
    for (int64_t k = 0; k < found; ++k) {
      const int64_t at = first_a + at_a_.data()[k], q = first_b + at_b_.data()[k];
      one_side(a, p, at, on_left);
      p = at + 1;
      const Col u = a.col[at];
      if (a.present(at) && wanted(u)) {
        if (b.present(q)) {
          on_cn(u, at, q);
        } else {
          on_left(u, at);
        }
      }
    }
    one_side(a, p, a.rowptr[i + 1], on_left);
    int64_t q = first_b;
    for (int64_t k = 0; k < found; ++k) {
      const int64_t at = first_b + at_b_.data()[k];
      one_side(b, q, at, on_right);
      q = at + 1;
      if (b.present(at) && !a.present(first_a + at_a_.data()[k]) && wanted(b.col[at])) on_right(b.col[at], at);
    }
    one_side(b, q, b.rowptr[j + 1], on_right);
  }

 private:
  template <class Col, class Weight>
  int64_t find(const Csr<Col, Weight>& a, const Csr<Col, Weight>& b, int64_t i, int64_t j) {
    const int64_t len_a = a.rowptr[i + 1] - a.rowptr[i], len_b = b.rowptr[j + 1] - b.rowptr[j];
    const int64_t room = std::min(len_a, len_b) + kSlack;
    return intersect_places(a.col + a.rowptr[i], len_a, b.col + b.rowptr[j], len_b, at_a_.reserve(room),
                            at_b_.reserve(room));
  }

  Buffer<int32_t> at_a_, at_b_;
};

}  // namespace graphmem
