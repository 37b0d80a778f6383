// cn_count: sizes of the common, left and right neighbour sets of each pair, int64 [3, B].
// Reads the two rows once; with keep masks every slot of both rows is looked at. Deterministic.
#include <torch/csrc/stable/library.h>

#include "common/problem.h"
#include "cpu/marks.h"
#include "cpu/parallel.h"
#include "cpu/walk.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "cn_count";

Tensor cn_count_cpu(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a, Tensor rowptr_b, Tensor col_b,
                    std::optional<Tensor> keep_b, Tensor pairs, bool exclude_endpoints) {
  const PairArguments args{{rowptr_a, col_a, keep_a}, {rowptr_b, col_b, keep_b}, pairs, exclude_endpoints};
  return args.dispatch(kOp, [&]<class Col>(const Problem<Col, float>& p) {
    const auto &a = p.a, &b = p.b;
    const int64_t num_pairs = p.num_pairs;
    Tensor out = torch::stable::new_empty(pairs, {3, num_pairs});
    int64_t* sizes = static_cast<int64_t*>(out.mutable_data_ptr());
    parallel_chunks(num_pairs, 256, [&](int64_t begin, int64_t end) {
      Walk walk;
      Meeting<Col, float> meeting(a, b, p.source, p.target, p.num_nodes);
      for (int64_t n = begin; n < end; ++n) {
        fetch_rows(a, b, p.source, p.target, n, end);
        const int64_t i = p.source[n], j = p.target[n];
        int64_t cn = 0, left = 0, right = 0;
        if (p.masked()) {
          walk.parts(
              a, b, i, j, exclude_endpoints, [&](Col, int64_t, int64_t) { ++cn; }, [&](Col, int64_t) { ++left; },
              [&](Col, int64_t) { ++right; });
        } else {  // the differences follow from the row lengths
          cn = meeting.count(n, end);
          left = a.rowptr[i + 1] - a.rowptr[i] - cn;
          right = b.rowptr[j + 1] - b.rowptr[j] - cn;
        }
        sizes[n] = cn;
        sizes[num_pairs + n] = left;
        sizes[2 * num_pairs + n] = right;
      }
    });
    return out;
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("cn_count", TORCH_BOX(&graphmem::cn_count_cpu)); }
