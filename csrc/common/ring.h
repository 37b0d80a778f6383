// The latest events of every node, for host and device. Node v owns row v of `nbr`, `eid` and `time`; the entry of its c-th
// event, counted from 0, lies in column c mod size. Counts are unsigned, so that whatever they are a column is inside a row.
#pragma once

#include "common/dispatch.h"
#include "common/macros.h"
#include "common/random.h"

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
  uint64_t inverse;  // ceil(2^64 / size)

  // The remainder of 32-bit numbers by two products (Lemire, Kaser, Kurz 2019): a division takes longer than the rest.
  GRAPHMEM_HD int64_t place(int64_t node, uint64_t event) const {
    const uint64_t columns = static_cast<uint64_t>(size);
    const uint64_t column = (event | columns) >> 32 == 0 ? below(inverse * event, columns) : event % columns;
    return node * size + static_cast<int64_t>(column);
  }

  GRAPHMEM_HD void put(int64_t node, uint64_t event, const RingEntry<Time>& entry) const {
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

// Numbers of events wrap, whatever they are.
GRAPHMEM_HD int64_t behind(int64_t number, int64_t steps) {
  return static_cast<int64_t>(static_cast<uint64_t>(number) + static_cast<uint64_t>(steps));
}

// A batch of events; half event h = 2 e is that of the source of event e, h = 2 e + 1 that of its destination. Without
// numbers they go on from `next_event`, without times an event's time is its number.
template <class Time>
struct RingEvents {
  const int64_t *src, *dst;
  const Time* time;
  const int64_t* event;
  int64_t* next_event;
  int64_t count;

  GRAPHMEM_HD int64_t number(int64_t e) const { return event != nullptr ? event[e] : behind(*next_event, e); }
  GRAPHMEM_HD Time time_of(int64_t e) const { return time != nullptr ? time[e] : static_cast<Time>(number(e)); }
  GRAPHMEM_HD int64_t owner(int64_t half) const { return half % 2 == 0 ? src[half / 2] : dst[half / 2]; }
  GRAPHMEM_HD RingEntry<Time> entry(int64_t half) const {
    const int64_t e = half / 2;
    return {half % 2 == 0 ? dst[e] : src[e], number(e), time_of(e)};
  }
};

template <class F>
auto dispatch_time(const char* op, const char* name, const Tensor& t, F&& f) {
  if (t.scalar_type() == ScalarType::Long) return f(Type<int64_t>{});
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Double, op, ": expected ", name, " of dtype Long or Double, got ",
                  t.scalar_type());
  return f(Type<double>{});
}

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

// Nothing is written before all of a batch was looked at: ids, and times that do not go back.
template <class Time>
void check_events(const char* op, const RingEvents<Time>& events, int64_t nodes, Time latest) {
  bool inside = true, ascending = true;
  const auto is_node = [nodes](int64_t id) { return static_cast<uint64_t>(id) < static_cast<uint64_t>(nodes); };
  for (int64_t e = 0; e < events.count; ++e) {
    inside &= is_node(events.src[e]) && is_node(events.dst[e]);
    ascending &= events.time_of(e) >= latest;
    latest = events.time_of(e);
  }
  STD_TORCH_CHECK(inside, op, ": expected src and dst with ids in [0, ", nodes, ")");
  STD_TORCH_CHECK(ascending, op, ": expected t with ascending times, from latest on");
}

template <class Time>
RingEvents<Time> make_ring_events(const char* op, int64_t nodes, const Tensor& next_event, const Tensor& latest,
                                  const Tensor& src, const Tensor& dst, const std::optional<Tensor>& t,
                                  const std::optional<Tensor>& event) {
  data<int64_t>(op, "next_event", next_event, {});
  const Time* last = data<Time>(op, "latest", latest, {});
  const int64_t* sources = data<int64_t>(op, "src", src, {kAny});
  const int64_t count = src.size(0);
  const RingEvents<Time> events{sources,
                                data<int64_t>(op, "dst", dst, {count}),
                                data<Time>(op, "t", t, {count}),
                                data<int64_t>(op, "event", event, {count}),
                                static_cast<int64_t*>(next_event.mutable_data_ptr()),
                                count};
  STD_TORCH_CHECK(nodes > 0 || count == 0, op, ": expected rows for the events, got none");
  if constexpr (kOnHost) check_events(op, events, nodes, *last);
  return events;
}

// On the host the nodes that a question names are looked at.
inline const int64_t* make_ids(const char* op, const Tensor& ids, int64_t nodes) {
  const int64_t* list = data<int64_t>(op, "ids", ids, {kAny});
  const int64_t count = ids.size(0);
  STD_TORCH_CHECK(nodes > 0 || count == 0, op, ": expected rows for the ids, got none");
  if constexpr (kOnHost) {
    bool inside = true;
    for (int64_t n = 0; n < count; ++n) inside &= static_cast<uint64_t>(list[n]) < static_cast<uint64_t>(nodes);
    STD_TORCH_CHECK(inside, op, ": expected ids in [0, ", nodes, ")");
  }
  return list;
}

}  // namespace graphmem
