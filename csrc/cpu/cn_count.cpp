// cn_count: sizes of the common, left and right neighbour sets of each pair, int64 [3, B].
// An intersection gives the common ones; the others follow from the number of entries of each row. Deterministic.
#include <torch/csrc/stable/library.h>

#include <cstring>

#include "common/problem.h"
#include "cpu/marks.h"
#include "cpu/parallel.h"
#include "cpu/walk.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "cn_count";

// How many of `count` marks are set: eight at a time, added up in the bytes of a word before they could overflow.
int64_t count_marks(const bool* marks, int64_t count) {
  constexpr uint64_t kEven = 0x00FF00FF00FF00FF;
  int64_t total = 0, at = 0;
  while (count - at >= 8) {
    uint64_t sums = 0;
    for (const int64_t stop = std::min(at + 8 * 255, count - 7); at < stop; at += 8) {
      uint64_t word;
      std::memcpy(&word, marks + at, 8);
      sums += word;
    }
    sums = (sums & kEven) + (sums >> 8 & kEven);
    total += static_cast<int64_t>(sums * 0x0001000100010001 >> 48);
  }
  for (; at < count; ++at) total += marks[at];
  return total;
}

// Entries of a row that are present and, with exclude_endpoints, neither i nor j.
template <class Col>
int64_t row_size(const Problem<Col, float>& p, const Csr<Col, float>& g, int64_t row, int64_t i, int64_t j) {
  const int64_t begin = g.rowptr[row], end = g.rowptr[row + 1];
  const int64_t size = g.keep == nullptr ? end - begin : count_marks(g.keep + begin, end - begin);
  if (!p.exclude_endpoints) return size;
  const auto found = [&](int64_t node) {
    const int64_t slot = find_slot(g.rowptr, g.col, row, node);
    return int64_t{slot >= 0 && g.present(slot)};
  };
  return size - found(i) - (i == j ? 0 : found(j));
}

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
        int64_t cn = 0;
        if (p.masked()) {
          walk.common(a, b, i, j, exclude_endpoints, [&](Col, int64_t, int64_t) { ++cn; });
        } else {
          cn = meeting.count(n, end);
        }
        sizes[n] = cn;
        sizes[num_pairs + n] = row_size(p, a, i, i, j) - cn;
        sizes[2 * num_pairs + n] = row_size(p, b, j, i, j) - cn;
      }
    });
    return out;
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("cn_count", TORCH_BOX(&graphmem::cn_count_cpu)); }
