// One row as a bit a node, for a row that meets many others: a source and its candidates. The other row is then looked
// at alone, however long the marked one is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/intersect.h"

namespace graphmem {

template <class Col>
class Marks {
 public:
  // `num_nodes`: above every entry of every row. Memory: a bit a node and thread, kept by the thread for the next call.
  explicit Marks(int64_t num_nodes) : words_(static_cast<std::size_t>(num_nodes / 32 + 1)) {}
  ~Marks() { clear(); }
  Marks(const Marks&) = delete;

  // Marks the row; it must not change before the next call of `set` or the end.
  void set(const Col* row, int64_t len);
  // An empty row begins where the next one does.
  bool holds(const Col* row, int64_t len) const { return row_ == row && len_ == len; }

  // The entries of `other` that are marked, in their order; returns how many. Room for len + kSlack results.
  int64_t nodes(const Col* other, int64_t len, Col* node) const;
  int64_t count(const Col* other, int64_t len) const;

 private:
  void clear();

  static thread_local std::vector<uint32_t> bits_;  // all 0 but for the row that is set
  const std::size_t words_;
  const Col* row_ = nullptr;
  int64_t len_ = 0;
};

// Pairs of one source in a row from which on its row is marked.
constexpr int64_t kMarkPairs = 4;

// Intersections of row i of `a` with row j of `b` for pair after pair (i, j), by marks where one source has many pairs.
template <class Col, class Weight>
class Meeting {
 public:
  Meeting(const Csr<Col, Weight>& a, const Csr<Col, Weight>& b, const int64_t* source, const int64_t* target,
          int64_t num_nodes)
      : a_(a), b_(b), source_(source), target_(target), marks_(num_nodes) {}

  // Common entries of pair n, of which the caller has listed those before `end` in advance.
  int64_t nodes(int64_t n, int64_t end, Col* to) {
    const Rows rows = rows_of(n);
    return use_marks(rows, n, end) ? marks_.nodes(rows.b, rows.len_b, to)
                                   : intersect_nodes(rows.a, rows.len_a, rows.b, rows.len_b, to);
  }
  int64_t count(int64_t n, int64_t end) {
    const Rows rows = rows_of(n);
    return use_marks(rows, n, end) ? marks_.count(rows.b, rows.len_b)
                                   : intersect_count(rows.a, rows.len_a, rows.b, rows.len_b);
  }

 private:
  struct Rows {
    const Col *a, *b;
    int64_t len_a, len_b;
  };

  Rows rows_of(int64_t n) const {
    const int64_t i = source_[n], j = target_[n];
    return {a_.col + a_.rowptr[i], b_.col + b_.rowptr[j], a_.rowptr[i + 1] - a_.rowptr[i],
            b_.rowptr[j + 1] - b_.rowptr[j]};
  }

  bool use_marks(const Rows& rows, int64_t n, int64_t end) {
    // Through a much longer row the marked one gallops.
    if (rows.len_a * kGallopRatio <= rows.len_b) return false;
    if (marks_.holds(rows.a, rows.len_a)) return true;
    if (n + kMarkPairs > end || source_[n + kMarkPairs - 1] != source_[n]) return false;
    marks_.set(rows.a, rows.len_a);
    return true;
  }

  const Csr<Col, Weight>&a_, &b_;
  const int64_t *source_, *target_;
  Marks<Col> marks_;
};

}  // namespace graphmem
