// The latest events of every node, for host and device. Node v owns row v of `nbr`, `eid` and `time`; the entry of its c-th
// event, counted from 0, lies in column c mod size. Counts are unsigned, so that whatever they are a column is inside a row.
#pragma once

#include "common/dispatch.h"
#include "common/macros.h"

namespace graphmem {

// The other end of an event, its number and its time.
template <class Time>
struct RingEntry {
  int64_t nbr, eid;
  Time time;
};

template <class Time>
struct Ring {
  int64_t *nbr, *eid;
  Time* time;
  uint64_t* count;
  int64_t size;

  GRAPHMEM_HD int64_t place(int64_t node, uint64_t event) const {
    return node * size + static_cast<int64_t>(event % static_cast<uint64_t>(size));
  }

  GRAPHMEM_HD void put(int64_t node, uint64_t event, const RingEntry<Time>& entry) const {
    const int64_t at = place(node, event);
    nbr[at] = entry.nbr;
    eid[at] = entry.eid;
    time[at] = entry.time;
  }

  // The k latest events of a node, newest first, of those before a time where one is given; -1, -1, 0 behind them.
  GRAPHMEM_HD void latest(int64_t node, const Time* before, int64_t k, int64_t* nbr_out, int64_t* eid_out,
                          Time* time_out) const {
    const uint64_t end = count[node];
    int64_t held = end < static_cast<uint64_t>(size) ? static_cast<int64_t>(end) : size;
    int64_t column = held > 0 ? place(0, end - 1) : 0, n = 0;
    for (; held > 0 && n < k; --held) {
      const int64_t at = node * size + column;
      column = column > 0 ? column - 1 : size - 1;
      if (before != nullptr && !(time[at] < *before)) continue;
      nbr_out[n] = nbr[at];
      eid_out[n] = eid[at];
      time_out[n++] = time[at];
    }
    for (; n < k; ++n) {
      nbr_out[n] = eid_out[n] = -1;
      time_out[n] = 0;
    }
  }
};

// A batch of events; half event h = 2 e is that of the source of event e, h = 2 e + 1 that of its destination.
template <class Time>
struct RingEvents {
  const int64_t *src, *dst;
  const Time* time;
  const int64_t* event;
  int64_t count;

  GRAPHMEM_HD int64_t owner(int64_t half) const { return half % 2 == 0 ? src[half / 2] : dst[half / 2]; }
  GRAPHMEM_HD RingEntry<Time> entry(int64_t half) const {
    const int64_t e = half / 2;
    return {half % 2 == 0 ? dst[e] : src[e], event[e], time[e]};
  }
};

template <class F>
auto dispatch_time(const char* op, const char* name, const Tensor& t, F&& f) {
  if (t.scalar_type() == ScalarType::Long) return f(Type<int64_t>{});
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Double, op, ": expected ", name, " of dtype Long or Double, got ",
                  t.scalar_type());
  return f(Type<double>{});
}

// `ids`: how many rows the call asks for.
template <class Time>
Ring<Time> make_ring(const char* op, int64_t ids, const Tensor& nbr, const Tensor& eid, const Tensor& time,
                     const Tensor& count) {
  data<int64_t>(op, "count", count, {kAny});
  const int64_t nodes = count.size(0);
  data<int64_t>(op, "nbr", nbr, {nodes, kAny});
  const int64_t size = nbr.size(1);
  data<int64_t>(op, "eid", eid, {nodes, size});
  data<Time>(op, "time", time, {nodes, size});
  STD_TORCH_CHECK(size > 0, op, ": expected nbr with at least one column, got ", shape_text(nbr.sizes()));
  if (ids > 0) expect_rows(op, "count", count, 1);
  return {static_cast<int64_t*>(nbr.mutable_data_ptr()), static_cast<int64_t*>(eid.mutable_data_ptr()),
          static_cast<Time*>(time.mutable_data_ptr()), static_cast<uint64_t*>(count.mutable_data_ptr()), size};
}

template <class Time>
RingEvents<Time> make_ring_events(const char* op, const Tensor& src, const Tensor& dst, const Tensor& t,
                                  const Tensor& event) {
  const int64_t* sources = data<int64_t>(op, "src", src, {kAny});
  const int64_t count = src.size(0);
  return {sources, data<int64_t>(op, "dst", dst, {count}), data<Time>(op, "t", t, {count}),
          data<int64_t>(op, "event", event, {count}), count};
}

}  // namespace graphmem
