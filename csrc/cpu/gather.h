// Sums of rows over lists in CSR form, and the transposed operation: what every operator that sums features comes down to.
#pragma once

#include "common/segments.h"

namespace graphmem {

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
// the first `width` features of rows that are `stride` apart in both.
// scatter: sums[idx_k, f] += grad[s, f] for the same entries, list by list.
// `far`: the rows that the entries stand for are larger than the caches and are fetched ahead.
#define GRAPHMEM_DECLARE(Index, X, Acc)                                                                               \
  void gather(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, int64_t width, bool far, int64_t stride,  \
              const X* x, X* out);                                                                                    \
  void scatter(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, int64_t width, bool far, int64_t stride, \
               const X* grad, Acc* sums);
GRAPHMEM_EVERY_GATHER(GRAPHMEM_DECLARE)
#undef GRAPHMEM_DECLARE

// A table of more bytes than this does not stay in a second-level cache.
constexpr int64_t kNear = 1 << 20;

}  // namespace graphmem
