// Ids that operators index with, looked at.
#pragma once

#include "common/dispatch.h"

namespace graphmem {

// A list of ids in [0, nodes).
inline const int64_t* nodes_of(const char* op, const char* name, const Tensor& ids, Shape shape, int64_t nodes) {
  const int64_t* list = data<int64_t>(op, name, ids, shape);
  bool inside = true;
  for (int64_t n = 0; n < ids.numel(); ++n) inside &= static_cast<uint64_t>(list[n]) < static_cast<uint64_t>(nodes);
  STD_TORCH_CHECK(inside, op, ": expected ", name, " with ids in [0, ", nodes, ")");
  return list;
}

}  // namespace graphmem
