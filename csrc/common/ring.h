// The latest events of every node, for host and device. Node v owns row v of `nbr`, `eid` and `time`; the entry of its c-th
// event, counted from 0, lies in column c mod size. Counts are unsigned, so that whatever they are a column is inside a row.
#pragma once

#include "common/events.h"
#include "common/random.h"

namespace graphmem {

template <class Time>
struct Ring {
  int64_t *nbr, *eid;
  Time* time;
  uint64_t* count;
  int64_t size;
  uint64_t inverse;  // ceil(2^64 / size)

  // The remainder of 32-bit numbers by two products (Lemire, Kaser, Kurz 2019): a division takes longer than the rest.
  GRAPHMEM_HD int64_t place(int64_t node, uint64_t event) const {
    const uint64_t columns = static_cast<uint64_t>(size);
    const uint64_t column = (event | columns) >> 32 == 0 ? below(inverse * event, columns) : event % columns;
    return node * size + static_cast<int64_t>(column);
  }

  GRAPHMEM_HD void put(int64_t node, uint64_t event, const Entry<Time>& entry) const {
    const int64_t at = place(node, event);
    nbr[at] = entry.nbr;
    eid[at] = entry.eid;
    time[at] = entry.time;
  }

  // Events of a node that are in its row.
  GRAPHMEM_HD int64_t held(int64_t node) const {
    return count[node] < static_cast<uint64_t>(size) ? static_cast<int64_t>(count[node]) : size;
  }

  // Calls f(place) for the entries of a row, newest first, until it returns false.
  template <class F>
  GRAPHMEM_HD void visit(int64_t node, const F& f) const {
    const int64_t first = node * size;
    int64_t left = held(node), at = left > 0 ? place(node, count[node] - 1) : 0;
    for (; left > 0 && f(at); --left) at = at > first ? at - 1 : first + size - 1;
  }

  // The k latest events of a node, newest first, of those before a time where one is given; -1, -1, 0 behind them.
  GRAPHMEM_HD void latest(int64_t node, const Time* before, int64_t k, int64_t* nbr_out, int64_t* eid_out,
                          Time* time_out) const {
    int64_t n = 0;
    visit(node, [&](int64_t at) {
      if (before != nullptr && !(time[at] < *before)) return true;
      nbr_out[n] = nbr[at];
      eid_out[n] = eid[at];
      time_out[n++] = time[at];
      return n < k;
    });
    for (; n < k; ++n) {
      nbr_out[n] = eid_out[n] = -1;
      time_out[n] = 0;
    }
  }
};

template <class Time>
Ring<Time> make_ring(const char* op, const Tensor& nbr, const Tensor& eid, const Tensor& time, const Tensor& count) {
  data<int64_t>(op, "count", count, {kAny});
  const int64_t nodes = count.size(0);
  data<int64_t>(op, "nbr", nbr, {nodes, kAny});
  const int64_t size = nbr.size(1);
  data<int64_t>(op, "eid", eid, {nodes, size});
  data<Time>(op, "time", time, {nodes, size});
  STD_TORCH_CHECK(size > 0, op, ": expected nbr with at least one column, got ", shape_text(nbr.sizes()));
  return {static_cast<int64_t*>(nbr.mutable_data_ptr()),
          static_cast<int64_t*>(eid.mutable_data_ptr()),
          static_cast<Time*>(time.mutable_data_ptr()),
          static_cast<uint64_t*>(count.mutable_data_ptr()),
          size,
          UINT64_MAX / static_cast<uint64_t>(size) + 1};
}

}  // namespace graphmem
