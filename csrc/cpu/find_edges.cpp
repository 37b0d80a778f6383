// find_edges: slot of each pair's edge in a CSR graph, -1 where there is none. One binary search a pair.
#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "find_edges";

Tensor find_edges_cpu(Tensor rowptr, Tensor col, Tensor pairs) {
  const int64_t* source = data<int64_t>(kOp, "pairs", pairs, {2, kAny});
  const int64_t num_pairs = pairs.size(1);
  Tensor out = torch::stable::new_empty(pairs, {num_pairs});
  int64_t* slots = static_cast<int64_t*>(out.mutable_data_ptr());
  dispatch_index(kOp, "col", col, [&](auto index) {
    const auto graph = make_csr<typename decltype(index)::type, float>(kOp, {}, num_pairs, rowptr, col);
    parallel_chunks(num_pairs, 4096, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        slots[n] = find_slot(graph.rowptr, graph.col, source[n], source[num_pairs + n]);
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("find_edges", TORCH_BOX(&graphmem::find_edges_cpu)); }
