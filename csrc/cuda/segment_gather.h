// Sums of feature rows over lists in CSR form; the entries are those of cpu/gather.h.
#pragma once

#include "cuda/rows.h"

namespace graphmem {

template <class Index, class Acc>
struct Segments {
  const int64_t* ptr;
  int64_t count;
  const Index* idx;
  const int64_t* slot;
  const Acc* weight;
  const bool* keep;
};

// out_s (+)= sum over the entries k of segment s, in their order, of keep_q weight_q x[idx_k], q = slot_k or k.
template <class Index, class X, class Out>
void segment_sums(const char* op, const Device& device, const Segments<Index, typename Accumulate<X>::type>& segments,
                  const X* x, int64_t num_features, bool add, Out* out);

}  // namespace graphmem
