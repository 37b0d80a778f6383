// sample_non_edges: uniform pairs that are not edges, one independent counter-based event each.
#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "common/sample.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "sample_non_edges";

Tensor sample_non_edges_cpu(Tensor rowptr, Tensor col, int64_t num_nodes, int64_t start, int64_t count, int64_t seed) {
  expect_number(kOp, "count", count);
  return dispatch_index(kOp, "col", col, [&](auto index) {
    const auto graph = make_csr<typename decltype(index)::type, float>(kOp, {}, count, rowptr, col);
    expect_number(kOp, "num_nodes", num_nodes, rowptr.size(0) - 1, rowptr.size(0) - 1);
    Tensor out = torch::stable::new_empty(rowptr, {2, count});
    int64_t* pairs = static_cast<int64_t*>(out.mutable_data_ptr());
    parallel_chunks(count, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        sample_non_edge(graph.rowptr, graph.col, static_cast<uint64_t>(num_nodes), static_cast<uint64_t>(seed),
                        static_cast<uint64_t>(start + n), pairs + n, pairs + count + n);
      }
    });
    return out;
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("sample_non_edges", TORCH_BOX(&graphmem::sample_non_edges_cpu)); }
