// sample_non_edges: uniform pairs that are not edges, one independent counter-based event each.
#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "common/sample.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "sample_non_edges";

Tensor sample_non_edges_cpu(Tensor rowptr, Tensor col, int64_t num_nodes, int64_t start, int64_t count, int64_t seed) {
  Tensor out = torch::stable::new_empty(rowptr, {2, count});
  int64_t* pairs = static_cast<int64_t*>(out.mutable_data_ptr());
  const int64_t* offsets = data<int64_t>(kOp, "rowptr", rowptr);
  dispatch_index(kOp, col.scalar_type(), [&](auto index) {
    using Col = typename decltype(index)::type;
    const Col* columns = data<Col>(kOp, "col", col);
    parallel_chunks(count, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        sample_non_edge(offsets, columns, static_cast<uint64_t>(num_nodes), static_cast<uint64_t>(seed),
                        static_cast<uint64_t>(start + n), pairs + n, pairs + count + n);
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("sample_non_edges", TORCH_BOX(&graphmem::sample_non_edges_cpu)); }
