// find_edges: slot of each pair's edge in a CSR graph, -1 where there is none. One thread and one binary search a pair.
#include "common/dispatch.h"
#include "cuda/runtime.h"

namespace graphmem {
namespace {

template <class Col>
__global__ void find_edges_kernel(const int64_t* rowptr, const Col* col, const int64_t* pairs, int64_t num_pairs,
                                  int64_t* slots) {
  const int64_t n = global_thread();
  if (n < num_pairs) slots[n] = find_slot(rowptr, col, pairs[n], pairs[num_pairs + n]);
}

Tensor find_edges_cuda(Tensor rowptr, Tensor col, Tensor pairs) {
  constexpr const char* kOp = "find_edges";
  const Device device(pairs);
  const int64_t* ends = data<int64_t>(kOp, "pairs", pairs, {2, kAny});
  const int64_t num_pairs = pairs.size(1);
  Tensor out = torch::stable::new_empty(pairs, {num_pairs});
  dispatch_index(kOp, "col", col, [&](auto index) {
    using Col = typename decltype(index)::type;
    const auto graph = make_csr<Col, float>(kOp, {}, num_pairs, rowptr, col);
    launch(kOp, device, find_edges_kernel<Col>, {blocks_for(num_pairs, kThreads)}, kThreads, 0, graph.rowptr, graph.col,
           ends, num_pairs, static_cast<int64_t*>(out.mutable_data_ptr()));
  });
  return out;
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) { m.impl("find_edges", TORCH_BOX(&graphmem::find_edges_cuda)); }
