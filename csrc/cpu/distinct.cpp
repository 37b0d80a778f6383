// distinct: the distinct ids of a list, numbered in the order in which they first appear, and each entry's number.
// One pass over an open-addressing table of at most half load; negative ids are nobody and stay -1.
#include <torch/csrc/stable/library.h>

#include <bit>
#include <tuple>
#include <vector>

#include "common/dispatch.h"
#include "common/random.h"

namespace graphmem {
namespace {

std::tuple<Tensor, Tensor, Tensor> distinct_cpu(Tensor ids) {
  const int64_t* list = data<int64_t>("distinct", "ids", ids, {kAny});
  const int64_t size = ids.size(0);
  Tensor values = torch::stable::empty_like(ids), place = torch::stable::empty_like(ids);
  Tensor count = torch::stable::new_empty(ids, {1});
  int64_t *found = static_cast<int64_t*>(values.mutable_data_ptr()),
          *number = static_cast<int64_t*>(place.mutable_data_ptr()), known = 0;
  const uint64_t last = std::bit_ceil(2 * static_cast<uint64_t>(size) + 1) - 1;
  std::vector<int64_t> table(last + 1, -1);  // numbers of the ids
  for (int64_t n = 0; n < size; ++n) {
    number[n] = -1;
    if (list[n] < 0) continue;
    uint64_t at = mix(static_cast<uint64_t>(list[n])) & last;
    while (table[at] >= 0 && found[table[at]] != list[n]) at = (at + 1) & last;
    if (table[at] < 0) {
      found[known] = list[n];
      table[at] = known++;
    }
    number[n] = table[at];
  }
  std::fill_n(found + known, size - known, int64_t{-1});
  *static_cast<int64_t*>(count.mutable_data_ptr()) = known;
  return {values, place, count};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("distinct", TORCH_BOX(&graphmem::distinct_cpu)); }
