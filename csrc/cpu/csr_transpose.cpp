// csr_transpose: rows that hold each column, by a stable counting sort: O(entries + columns), no comparison sort.
// `trow` lists the rows of each column in ascending order, `tslot` the entry each one came from. Deterministic.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/dispatch.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "csr_transpose";

std::tuple<Tensor, Tensor, Tensor> csr_transpose_cpu(Tensor ptr, Tensor idx, int64_t num_cols) {
  expect_number(kOp, "num_cols", num_cols);
  return dispatch_index(kOp, "idx", idx, [&](auto index) {
    using Col = typename decltype(index)::type;
    const Col* columns = data<Col>(kOp, "idx", idx, {kAny});
    const int64_t entries = idx.size(0);
    const int64_t* lists = offsets(kOp, "ptr", ptr, entries);
    const int64_t num_rows = ptr.size(0) - 1;
    Tensor tptr = torch::stable::new_zeros(ptr, {num_cols + 1});
    Tensor trow = torch::stable::new_empty(idx, {entries});
    Tensor tslot = torch::stable::new_empty(ptr, {entries});
    int64_t* starts = static_cast<int64_t*>(tptr.mutable_data_ptr());
    int64_t* slots = static_cast<int64_t*>(tslot.mutable_data_ptr());
    Col* rows = static_cast<Col*>(trow.mutable_data_ptr());
    for (int64_t k = 0; k < entries; ++k) ++starts[columns[k] + 1];
    for (int64_t c = 0; c < num_cols; ++c) starts[c + 1] += starts[c];
    // starts[c] serves as the cursor of column c; afterwards it holds the end, so shift back by one column.
    for (int64_t r = 0; r < num_rows; ++r) {
      // Rows that overlap would be written beyond the end.
      STD_TORCH_CHECK(lists[r] <= lists[r + 1], kOp, ": expected ptr with offsets that never decrease, got ", lists[r],
                      " before ", lists[r + 1]);
      for (int64_t k = lists[r]; k < lists[r + 1]; ++k) {
        const int64_t at = starts[columns[k]]++;
        rows[at] = static_cast<Col>(r);
        slots[at] = k;
      }
    }
    for (int64_t c = num_cols; c > 0; --c) starts[c] = starts[c - 1];
    starts[0] = 0;
    return std::tuple(tptr, trow, tslot);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("csr_transpose", TORCH_BOX(&graphmem::csr_transpose_cpu)); }
