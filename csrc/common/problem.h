// What the operators on node pairs are given, for host and device.
#pragma once

#include "common/dispatch.h"
#include "common/parts.h"

namespace graphmem {

// Pair n intersects row source[n] of `a` with row target[n] of `b`.
template <class Col, class Weight>
struct Problem {
  Csr<Col, Weight> a, b;
  const int64_t *source, *target;
  int64_t num_pairs;
  int64_t num_nodes;  // of the larger graph
  bool exclude_endpoints;
  int64_t parts;

  bool weighted() const { return a.weight != nullptr || b.weight != nullptr; }
  bool masked() const { return a.keep != nullptr || b.keep != nullptr || exclude_endpoints; }
};

// The arguments that they have in common.
struct PairArguments {
  struct Graph {
    Tensor rowptr, col;
    std::optional<Tensor> keep, weight = std::nullopt;
  } a, b;
  Tensor pairs;
  bool exclude_endpoints;
  int64_t parts = kCn | kLeft | kRight;

  template <class Col, class Weight>
  Problem<Col, Weight> problem(const char* op) const {
    constexpr CsrNames kA{"rowptr_a", "col_a", "keep_a", "weight_a"}, kB{"rowptr_b", "col_b", "keep_b", "weight_b"};
    expect_number(op, "parts", parts, 1, kCn | kLeft | kRight);
    const int64_t* ends = data<int64_t>(op, "pairs", pairs, {2, kAny});
    const int64_t num_pairs = pairs.size(1);
    return {make_csr<Col, Weight>(op, kA, num_pairs, a.rowptr, a.col, a.keep, a.weight),
            make_csr<Col, Weight>(op, kB, num_pairs, b.rowptr, b.col, b.keep, b.weight),
            ends,
            ends + num_pairs,
            num_pairs,
            std::max(a.rowptr.size(0), b.rowptr.size(0)) - 1,
            exclude_endpoints,
            parts};
  }

  // Calls f(problem) with the type of the columns.
  template <class F>
  auto dispatch(const char* op, F&& f) const {
    return dispatch_index(op, "col_a", a.col,
                          [&](auto index) { return f(problem<typename decltype(index)::type, float>(op)); });
  }

  // Calls f(problem, feature type) with the types of the columns and of `features`.
  template <class F>
  auto dispatch(const char* op, const char* name, const Tensor& features, F&& f) const {
    return dispatch_index(op, "col_a", a.col, [&](auto index) {
      return dispatch_feature(op, name, features, [&](auto feature) {
        using Acc = typename Accumulate<typename decltype(feature)::type>::type;
        return f(problem<typename decltype(index)::type, Acc>(op), feature);
      });
    });
  }
};

// Features of every node of both graphs; there may be more rows.
template <class X>
const X* node_features(const char* op, const Tensor& x, int64_t num_nodes) {
  const X* rows = data<X>(op, "x", x, {kAny, kAny});
  expect_rows(op, "x", x, num_nodes);
  return rows;
}

// The offsets [parts, pairs + 1] of cn_index: parts come one after the other and have `total` entries, the common
// neighbours `num_cn` of them.
inline const int64_t* part_offsets(const char* op, const Tensor& ptr, int64_t parts, int64_t num_pairs, int64_t total,
                                   int64_t num_cn) {
  expect_number(op, "total", total);
  expect_number(op, "num_cn", num_cn, 0, total);
  const int64_t num_parts = count_parts(parts), last = num_pairs;
  const int64_t* rows = data<int64_t>(op, "ptr", ptr, {num_parts, num_pairs + 1});
  if constexpr (kOnHost) {
    int64_t end = 0;
    for (int64_t p = 0; p < num_parts; ++p) {
      const int64_t* row = rows + p * (num_pairs + 1);
      STD_TORCH_CHECK(row[0] == end, op, ": expected ptr[", p, "] from ", end, " on, got ", row[0]);
      end = row[last];
    }
    STD_TORCH_CHECK(end == total, op, ": expected ptr with offsets up to total = ", total, ", got ", end);
    const int64_t found = (parts & kCn) ? rows[last] : 0;
    STD_TORCH_CHECK(found == num_cn, op, ": expected num_cn of ", found, " as in ptr, got ", num_cn);
  }
  return rows;
}

}  // namespace graphmem
