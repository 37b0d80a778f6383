// Sums of feature rows over lists in CSR form.
#pragma once

#include "common/segments.h"
#include "cuda/rows.h"

namespace graphmem {

// out_s (+)= sum over the entries k of each of `count` lists, in their order, of keep_q weight_q x[idx_k], q = slot_k or k.
template <class Index, class X, class Out>
void segment_sums(const char* op, const Device& device, const Entries<Index, typename Accumulate<X>::type>& lists,
                  int64_t count, const X* x, int64_t num_features, bool add, Out* out);

}  // namespace graphmem
