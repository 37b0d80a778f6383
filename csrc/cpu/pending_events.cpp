// pending_events: which events of a batch share an end with an earlier one, the distinct ends, and what each has to do
// with that, in one pass: ends are numbered as they appear, so that one was met before if its number is below the count.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "common/dispatch.h"
#include "cpu/distinct.h"
#include "cpu/fresh.h"

namespace graphmem {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> pending_events_cpu(Tensor src, Tensor dst) {
  constexpr const char* kOp = "pending_events";
  const int64_t* first = data<int64_t>(kOp, "src", src, {kAny});
  const int64_t events = src.size(0);
  const int64_t* second = data<int64_t>(kOp, "dst", dst, {events});
  Room<int64_t> ends(2 * events);
  for (int64_t e = 0; e < events; ++e) ends[2 * e] = first[e], ends[2 * e + 1] = second[e];
  STD_TORCH_CHECK(std::none_of(ends.begin(), ends.end(), [](int64_t node) { return node < 0; }), kOp,
                  ": expected src and dst with ids from 0 on");
  const auto make = [&](int64_t size, ScalarType type) { return torch::stable::new_empty(src, {size}, type); };
  Tensor mask = make(events, ScalarType::Bool), affected = make(2 * events, ScalarType::Bool);
  Tensor nodes = make(2 * events, ScalarType::Long), count = make(2 * events, ScalarType::Long);
  Tensor place = make(2 * events, ScalarType::Long), size = make(1, ScalarType::Long);
  int64_t *found = static_cast<int64_t*>(nodes.mutable_data_ptr()),
          *at = static_cast<int64_t*>(place.mutable_data_ptr()), *of = static_cast<int64_t*>(count.mutable_data_ptr());
  bool *pending = static_cast<bool*>(mask.mutable_data_ptr()), *hit = static_cast<bool*>(affected.mutable_data_ptr());
  const int64_t known = number_distinct(ends.data(), 2 * events, found, at);
  std::fill_n(found + known, 2 * events - known, int64_t{-1});
  std::fill_n(of, 2 * events, int64_t{0});
  std::fill_n(hit, 2 * events, false);
  int64_t met = 0;
  for (int64_t e = 0; e < events; ++e) {
    const int64_t a = at[2 * e], b = at[2 * e + 1];
    pending[e] = std::min(a, b) < met;
    met = std::max({met, a + 1, b + 1});
    ++of[a];
    if (a != b) ++of[b];
    hit[a] |= pending[e];
    hit[b] |= pending[e];
  }
  *static_cast<int64_t*>(size.mutable_data_ptr()) = known;
  return {mask, nodes, count, affected, place, size};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("pending_events", TORCH_BOX(&graphmem::pending_events_cpu)); }
