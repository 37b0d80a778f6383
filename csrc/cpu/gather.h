// Sums of rows over lists in CSR form, and the transposed operation: what every operator that sums features comes down to.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>

namespace graphmem {

// List s holds the entries ptr[s]..ptr[s+1]; entry k stands for row idx[k], times weight[q] if keep[q], q = slot[k] or k.
// `slot`, `weight` and `keep` may be null.
template <class Index, class Acc>
struct Entries {
  const int64_t* ptr;
  const Index* idx;
  const int64_t* slot;
  const Acc* weight;
  const bool* keep;
};

#define GRAPHMEM_EVERY_GATHER(F)                 \
  F(int32_t, float, float)                       \
  F(int64_t, float, float)                       \
  F(int32_t, double, double)                     \
  F(int64_t, double, double)                     \
  F(int32_t, torch::headeronly::BFloat16, float) \
  F(int64_t, torch::headeronly::BFloat16, float) \
  F(int32_t, torch::headeronly::Half, float)     \
  F(int64_t, torch::headeronly::Half, float)

// gather: out[s, f] = sum over the entries k of list s, in their order, of x[idx_k, f]; for the lists [begin, end) and
// the features [first, last) of rows `stride` long. `far`: x is larger than the caches, so rows are fetched ahead.
// scatter: sums[idx_k, f] += grad[s, f] for the same entries, list by list.
#define GRAPHMEM_DECLARE(Index, X, Acc)                                                                                \
  void gather(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, const X* x, int64_t stride, int64_t first, \
              int64_t last, bool far, X* out);                                                                         \
  void scatter(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, const X* grad, int64_t stride,            \
               int64_t first, int64_t last, bool far, Acc* sums);
GRAPHMEM_EVERY_GATHER(GRAPHMEM_DECLARE)
#undef GRAPHMEM_DECLARE

// A table of more bytes than this does not stay in a second-level cache.
constexpr int64_t kNear = 1 << 20;

}  // namespace graphmem
