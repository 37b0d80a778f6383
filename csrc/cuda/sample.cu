// sample_rows and sample_non_edges: counter-based draws, the functions of common/sample.h, one thread a row or an event.
#include <tuple>

#include "common/dispatch.h"
#include "common/sample.h"
#include "cuda/runtime.h"

namespace graphmem {
namespace {

__global__ void sample_rows_kernel(const int64_t* ptr, const int64_t* out_ptr, int64_t num_rows, int64_t k,
                                   uint64_t seed, const int64_t* keys, bool replace, int64_t* positions,
                                   float* weights) {
  const int64_t r = global_thread();
  if (r < num_rows) {
    sample_row(ptr[r], ptr[r + 1] - ptr[r], k, seed, static_cast<uint64_t>(keys[r]), replace, positions + out_ptr[r],
               weights + out_ptr[r]);
  }
}

std::tuple<Tensor, Tensor> sample_rows_cuda(Tensor ptr, Tensor out_ptr, int64_t total, int64_t k, int64_t seed,
                                            Tensor row_key, bool replace) {
  constexpr const char* kOp = "sample_rows";
  const Device device(ptr);
  expect_number(kOp, "total", total);
  expect_number(kOp, "k", k, 1, INT64_MAX);
  const int64_t* starts = data<int64_t>(kOp, "ptr", ptr, {kAny});
  const int64_t* out_starts = offsets(kOp, "out_ptr", out_ptr, total);
  const int64_t num_rows = out_ptr.size(0) - 1;
  expect_shape(kOp, "ptr", ptr, {num_rows + 1});
  const int64_t* keys = data<int64_t>(kOp, "row_key", row_key, {num_rows});
  Tensor pos = torch::stable::new_empty(ptr, {total});
  Tensor weight = torch::stable::new_empty(ptr, {total}, ScalarType::Float);
  launch(kOp, device, sample_rows_kernel, {blocks_for(num_rows, kThreads)}, kThreads, 0, starts, out_starts, num_rows,
         k, static_cast<uint64_t>(seed), keys, replace, static_cast<int64_t*>(pos.mutable_data_ptr()),
         static_cast<float*>(weight.mutable_data_ptr()));
  return {pos, weight};
}

template <class Col>
__global__ void sample_non_edges_kernel(const int64_t* rowptr, const Col* col, uint64_t num_nodes, uint64_t seed,
                                        int64_t start, int64_t count, int64_t* pairs) {
  const int64_t n = global_thread();
  if (n < count) {
    sample_non_edge(rowptr, col, num_nodes, seed, static_cast<uint64_t>(start + n), pairs + n, pairs + count + n);
  }
}

Tensor sample_non_edges_cuda(Tensor rowptr, Tensor col, int64_t num_nodes, int64_t start, int64_t count, int64_t seed) {
  constexpr const char* kOp = "sample_non_edges";
  const Device device(rowptr);
  expect_number(kOp, "count", count);
  return dispatch_index(kOp, "col", col, [&](auto index) {
    using Col = typename decltype(index)::type;
    const auto graph = make_csr<Col, float>(kOp, {}, count, rowptr, col);
    expect_number(kOp, "num_nodes", num_nodes, rowptr.size(0) - 1, rowptr.size(0) - 1);
    Tensor out = torch::stable::new_empty(rowptr, {2, count});
    launch(kOp, device, sample_non_edges_kernel<Col>, {blocks_for(count, kThreads)}, kThreads, 0, graph.rowptr,
           graph.col, static_cast<uint64_t>(num_nodes), static_cast<uint64_t>(seed), start, count,
           static_cast<int64_t*>(out.mutable_data_ptr()));
    return out;
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("sample_rows", TORCH_BOX(&graphmem::sample_rows_cuda));
  m.impl("sample_non_edges", TORCH_BOX(&graphmem::sample_non_edges_cuda));
}
