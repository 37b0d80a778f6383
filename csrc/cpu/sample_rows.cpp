// sample_rows: at most k entries of each row, weighted so that sums stay unbiased; positions are absolute and ascending.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/dispatch.h"
#include "common/sample.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "sample_rows";

std::tuple<Tensor, Tensor> sample_rows_cpu(Tensor ptr, Tensor out_ptr, int64_t total, int64_t k, int64_t seed,
                                           Tensor row_key, bool replace) {
  expect_number(kOp, "total", total);
  expect_number(kOp, "k", k, 1, INT64_MAX);
  // How many entries the rows have is not known here, and none is read.
  const int64_t* starts = data<int64_t>(kOp, "ptr", ptr, {kAny});
  const int64_t* out_starts = offsets(kOp, "out_ptr", out_ptr, total);
  const int64_t num_rows = out_ptr.size(0) - 1;
  expect_shape(kOp, "ptr", ptr, {num_rows + 1});
  const int64_t* keys = data<int64_t>(kOp, "row_key", row_key, {num_rows});
  Tensor pos = torch::stable::new_empty(ptr, {total});
  Tensor weight = torch::stable::new_empty(ptr, {total}, ScalarType::Float);
  int64_t* positions = static_cast<int64_t*>(pos.mutable_data_ptr());
  float* weights = static_cast<float*>(weight.mutable_data_ptr());
  parallel_chunks(num_rows, 512, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      sample_row(starts[r], starts[r + 1] - starts[r], k, static_cast<uint64_t>(seed), static_cast<uint64_t>(keys[r]),
                 replace, positions + out_starts[r], weights + out_starts[r]);
    }
  });
  return {pos, weight};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("sample_rows", TORCH_BOX(&graphmem::sample_rows_cpu)); }
