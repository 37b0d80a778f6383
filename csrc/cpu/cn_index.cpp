// cn_index: the nodes (and edge slots) of the wanted parts of each pair, at offsets that the caller took from cn_count.
// Layout of `idx` and `slot`: all cn entries, then all left, then all right; `ptr` [P, B+1] holds absolute offsets.
// `slot_b` [num_cn] is the slot in b of each cn entry. Ascending nodes inside a row. Deterministic.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/problem.h"
#include "cpu/fresh.h"
#include "cpu/parallel.h"
#include "cpu/walk.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "cn_index";

std::tuple<Tensor, Tensor, Tensor> cn_index_cpu(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a,
                                                Tensor rowptr_b, Tensor col_b, std::optional<Tensor> keep_b,
                                                Tensor pairs, bool exclude_endpoints, int64_t parts, Tensor ptr,
                                                int64_t total, int64_t num_cn) {
  const PairArguments args{{rowptr_a, col_a, keep_a}, {rowptr_b, col_b, keep_b}, pairs, exclude_endpoints, parts};
  return args.dispatch(kOp, [&]<class Col>(const Problem<Col, float>& p) {
    const auto &a = p.a, &b = p.b;
    const int64_t num_pairs = p.num_pairs, *source = p.source, *target = p.target;
    const int64_t* starts = part_offsets(kOp, ptr, parts, num_pairs, total, num_cn);
    Tensor idx = fresh(col_a, {total}), slot = fresh(pairs, {total}), slot_b = fresh(pairs, {num_cn});
    Col* idx_out = static_cast<Col*>(idx.mutable_data_ptr());
    int64_t* slot_out = static_cast<int64_t*>(slot.mutable_data_ptr());
    int64_t* slot_b_out = static_cast<int64_t*>(slot_b.mutable_data_ptr());
    parallel_chunks(num_pairs, 128, [&](int64_t begin, int64_t end) {
      Walk walk;
      for (int64_t n = begin; n < end; ++n) {
        fetch_rows(a, b, source, target, n, end);
        int64_t row = 0;
        auto start = [&](int64_t part) { return (parts & part) ? starts[(row++) * (num_pairs + 1) + n] : -1; };
        int64_t cn = start(kCn), left = start(kLeft), right = start(kRight);
        auto put = [&](int64_t& at, Col u, int64_t s) {
          idx_out[at] = u;
          slot_out[at++] = s;
        };
        auto put_cn = [&](Col u, int64_t p, int64_t q) {
          slot_b_out[cn] = q;
          put(cn, u, p);
        };
        if (parts == kCn) {
          walk.common(a, b, source[n], target[n], exclude_endpoints, put_cn);
          continue;
        }
        walk.parts(
            a, b, source[n], target[n], exclude_endpoints,
            [&](Col u, int64_t p, int64_t q) {
              if (parts & kCn) put_cn(u, p, q);
            },
            [&](Col u, int64_t p) {
              if (parts & kLeft) put(left, u, p);
            },
            [&](Col u, int64_t q) {
              if (parts & kRight) put(right, u, q);
            });
      }
    });
    return std::tuple(idx, slot, slot_b);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("cn_index", TORCH_BOX(&graphmem::cn_index_cpu)); }
