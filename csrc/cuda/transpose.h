// Entries in the order of their columns, for the operators that sum over a transposed structure.
#pragma once

#include "common/dispatch.h"
#include "cuda/runtime.h"

namespace graphmem {

struct ByColumn {
  Tensor ptr;   // int64 [num_cols + 1]
  Tensor slot;  // int64 [entries]: entries of each column, ascending
};

// `columns` holds `entries` ids in [0, num_cols), `like` is any tensor of the device.
template <class Col>
ByColumn by_column(const char* op, const Device& device, const Tensor& like, const Col* columns, int64_t entries,
                   int64_t num_cols);

}  // namespace graphmem
