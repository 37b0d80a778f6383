// distinct: the distinct ids of a list, and each entry's number.
#include "cpu/distinct.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "common/dispatch.h"

namespace graphmem {
namespace {

std::tuple<Tensor, Tensor, Tensor> distinct_cpu(Tensor ids) {
  const int64_t* list = data<int64_t>("distinct", "ids", ids, {kAny});
  const int64_t size = ids.size(0);
  Tensor values = torch::stable::empty_like(ids), place = torch::stable::empty_like(ids);
  Tensor count = torch::stable::new_empty(ids, {1});
  int64_t* found = static_cast<int64_t*>(values.mutable_data_ptr());
  const int64_t known = number_distinct(list, size, found, static_cast<int64_t*>(place.mutable_data_ptr()));
  std::fill_n(found + known, size - known, int64_t{-1});
  *static_cast<int64_t*>(count.mutable_data_ptr()) = known;
  return {values, place, count};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("distinct", TORCH_BOX(&graphmem::distinct_cpu)); }
