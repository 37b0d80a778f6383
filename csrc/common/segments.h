// Lists in CSR form whose entries stand for rows of a matrix, and the operators that sum these rows.
#pragma once

#include "common/dispatch.h"

namespace graphmem {

// List s holds the entries ptr[s]..ptr[s+1]; entry k stands for row idx[k], times weight[q] if keep[q], q = slot[k] or k.
// `slot`, `weight` and `keep` may be null.
template <class Index, class Acc>
struct Entries {
  const int64_t* ptr;
  const Index* idx;
  const int64_t* slot;
  const Acc* weight;
  const bool* keep;
};

// The arguments of segment_gather_sum, some of which segment_gather_dot lacks. The last three are the transposed
// structure, where the caller has it; only the gradient reads them.
struct SegmentArguments {
  Tensor ptr, idx;
  std::optional<Tensor> slot, weight, keep;
  Tensor x;
  std::optional<Tensor> tptr = std::nullopt, trow = std::nullopt, tslot = std::nullopt;

  // Calls f(entries, number of lists, x) with the types of `idx` and `x`.
  template <class F>
  auto dispatch(const char* op, F&& f) const {
    return dispatch_index(op, "idx", idx, [&](auto index) {
      return dispatch_feature(op, "x", x, [&](auto feature) {
        using Index = typename decltype(index)::type;
        using X = typename decltype(feature)::type;
        const X* rows = data<X>(op, "x", x, {kAny, kAny});
        return f(entries<Index, typename Accumulate<X>::type>(op), ptr.size(0) - 1, rows);
      });
    });
  }

 private:
  template <class Index, class Acc>
  Entries<Index, Acc> entries(const char* op) const {
    const Index* columns = data<Index>(op, "idx", idx, {kAny});
    const int64_t count = idx.size(0);
    const int64_t* lists = offsets(op, "ptr", ptr, count);
    expect_rows(op, "x", x, count > 0);
    // Slots name places among weights and masks of any number.
    const int64_t values = slot.has_value() ? kAny : count;
    if (tptr.has_value()) {
      expect_shape(op, "tptr", *tptr, {x.size(0) + 1});
      offsets(op, "tptr", *tptr, count);
    }
    data<Index>(op, "trow", trow, {count});
    data<int64_t>(op, "tslot", tslot, {count});
    const Acc* weights = data<Acc>(op, "weight", weight, {values});
    const bool* kept = data<bool>(op, "keep", keep, {values});
    expect_rows(op, "weight", weight, count > 0);
    expect_rows(op, "keep", keep, count > 0);
    return {lists, columns, data<int64_t>(op, "slot", slot, {count}), weights, kept};
  }
};

}  // namespace graphmem
