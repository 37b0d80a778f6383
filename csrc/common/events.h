// A batch of events as half events: what its source hears of an event, and what its destination does.
#pragma once

#include <algorithm>

#include "common/dispatch.h"
#include "common/macros.h"

namespace graphmem {

// The other end of an event, its number and its time.
template <class Time>
struct Entry {
  int64_t nbr, eid;
  Time time;
};

// Numbers of events wrap, whatever they are.
GRAPHMEM_HD int64_t behind(int64_t number, int64_t steps) {
  return static_cast<int64_t>(static_cast<uint64_t>(number) + static_cast<uint64_t>(steps));
}

// A batch of events; half event h = 2 e is that of the source of event e, h = 2 e + 1 that of its destination. Without
// numbers they go on from `next_event`, without times an event's time is its number.
template <class Time>
struct Events {
  const int64_t *src, *dst;
  const Time* time;
  const int64_t* event;
  int64_t* next_event;
  int64_t count;

  GRAPHMEM_HD int64_t number(int64_t e) const { return event != nullptr ? event[e] : behind(*next_event, e); }
  GRAPHMEM_HD Time time_of(int64_t e) const { return time != nullptr ? time[e] : static_cast<Time>(number(e)); }
  GRAPHMEM_HD int64_t owner(int64_t half) const { return half % 2 == 0 ? src[half / 2] : dst[half / 2]; }
  GRAPHMEM_HD Entry<Time> entry(int64_t half) const {
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

// Whether all ids lie in [0, nodes). One sign bit over all of them: such a sum needs neither a branch nor a comparison of
// 64-bit numbers, which the smallest instruction set has not for several at a time.
inline bool all_nodes(const int64_t* ids, int64_t count, int64_t nodes) {
  const uint64_t last = static_cast<uint64_t>(nodes) - 1;
  uint64_t sign = 0;
  for (int64_t n = 0; n < count; ++n) sign |= static_cast<uint64_t>(ids[n]) | (last - static_cast<uint64_t>(ids[n]));
  return sign >> 63 == 0;
}

// Nothing is written before all of a batch was looked at: ids, and times that do not go back.
template <class Time>
void check_events(const char* op, const Events<Time>& events, int64_t nodes, Time latest) {
  const bool inside = all_nodes(events.src, events.count, nodes) && all_nodes(events.dst, events.count, nodes);
  bool ascending = events.count == 0 || events.time_of(0) >= latest;
  for (int64_t e = 1; e < events.count; ++e) ascending &= events.time_of(e) >= events.time_of(e - 1);
  STD_TORCH_CHECK(inside, op, ": expected src and dst with ids in [0, ", nodes, ")");
  STD_TORCH_CHECK(ascending, op, ": expected t with ascending times, from latest on");
}

template <class Time>
Events<Time> make_events(const char* op, int64_t nodes, const Tensor& next_event, const Tensor& latest,
                         const Tensor& src, const Tensor& dst, const std::optional<Tensor>& t,
                         const std::optional<Tensor>& event) {
  data<int64_t>(op, "next_event", next_event, {});
  const Time* last = data<Time>(op, "latest", latest, {});
  const int64_t* sources = data<int64_t>(op, "src", src, {kAny});
  const int64_t count = src.size(0);
  const Events<Time> events{sources,
                            data<int64_t>(op, "dst", dst, {count}),
                            data<Time>(op, "t", t, {count}),
                            data<int64_t>(op, "event", event, {count}),
                            static_cast<int64_t*>(next_event.mutable_data_ptr()),
                            count};
  STD_TORCH_CHECK(nodes > 0 || count == 0, op, ": expected rows for the events, got none");
  if constexpr (kOnHost) check_events(op, events, nodes, *last);
  return events;
}

// Behind a batch that was entered on the host.
template <class Time>
void advance(const Events<Time>& events, Tensor& latest) {
  if (events.count == 0) return;
  *static_cast<Time*>(latest.mutable_data_ptr()) = events.time_of(events.count - 1);
  int64_t following = behind(*events.next_event, events.event == nullptr ? events.count : 0);
  for (int64_t e = 0; e < events.count && events.event != nullptr; ++e) {
    following = std::max(following, behind(events.event[e], 1));
  }
  *events.next_event = following;
}

// On the host the nodes that a question names are looked at.
inline const int64_t* make_ids(const char* op, const Tensor& ids, int64_t nodes) {
  const int64_t* list = data<int64_t>(op, "ids", ids, {kAny});
  const int64_t count = ids.size(0);
  STD_TORCH_CHECK(nodes > 0 || count == 0, op, ": expected rows for the ids, got none");
  if constexpr (kOnHost) {
    STD_TORCH_CHECK(all_nodes(list, count, nodes), op, ": expected ids in [0, ", nodes, ")");
  }
  return list;
}

}  // namespace graphmem
