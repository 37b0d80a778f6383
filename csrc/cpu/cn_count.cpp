// cn_count: sizes of the common, left and right neighbour sets of each pair, int64 [3, B].
// Reads the two rows once; with keep masks every slot of both rows is looked at. Deterministic.
#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "cpu/marks.h"
#include "cpu/parallel.h"
#include "cpu/walk.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "cn_count";

Tensor cn_count_cpu(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a, Tensor rowptr_b, Tensor col_b,
                    std::optional<Tensor> keep_b, Tensor pairs, bool exclude_endpoints) {
  const int64_t num_pairs = pairs.size(1);
  Tensor out = torch::stable::new_empty(pairs, {3, num_pairs});
  int64_t* sizes = static_cast<int64_t*>(out.mutable_data_ptr());
  const int64_t* source = data<int64_t>(kOp, "pairs", pairs);
  const int64_t* target = source + num_pairs;
  dispatch_index(kOp, col_a.scalar_type(), [&](auto index) {
    using Col = typename decltype(index)::type;
    const auto a = make_csr<Col, float>(kOp, rowptr_a, col_a, keep_a);
    const auto b = make_csr<Col, float>(kOp, rowptr_b, col_b, keep_b);
    // Without masks and exclusions the differences follow from the row lengths.
    const bool lengths_suffice = a.keep == nullptr && b.keep == nullptr && !exclude_endpoints;
    const int64_t num_nodes = std::max(rowptr_a.size(0), rowptr_b.size(0)) - 1;
    parallel_chunks(num_pairs, 256, [&](int64_t begin, int64_t end) {
      Walk walk;
      Meeting<Col, float> meeting(a, b, source, target, num_nodes);
      for (int64_t n = begin; n < end; ++n) {
        fetch_rows(a, b, source, target, n, end);
        const int64_t i = source[n], j = target[n];
        int64_t cn = 0, left = 0, right = 0;
        if (lengths_suffice) {
          const int64_t len_a = a.rowptr[i + 1] - a.rowptr[i], len_b = b.rowptr[j + 1] - b.rowptr[j];
          cn = meeting.count(n, end);
          left = len_a - cn;
          right = len_b - cn;
        } else {
          walk.parts(
              a, b, i, j, exclude_endpoints, [&](Col, int64_t, int64_t) { ++cn; }, [&](Col, int64_t) { ++left; },
              [&](Col, int64_t) { ++right; });
        }
        sizes[n] = cn;
        sizes[num_pairs + n] = left;
        sizes[2 * num_pairs + n] = right;
      }
    });
  });
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("cn_count", TORCH_BOX(&graphmem::cn_count_cpu)); }
