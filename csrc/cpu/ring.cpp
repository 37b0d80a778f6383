// ring_insert: the entries of a batch of events, written one after the other. The work of an event is a few stores, less
// than telling threads apart by their rows would take. ring_query: the latest entries of each id; a row belongs to a thread.
#include "common/ring.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "common/dispatch.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

constexpr int64_t kAhead = 12;  // events, or rows, from the fetch of a row to its use

// The place where a node's next entry goes, unless nearer events take it.
template <class Time>
void fetch_free(const Ring<Time>& ring, int64_t node) {
  const int64_t at = ring.place(node, ring.count[node]);
  __builtin_prefetch(ring.nbr + at, 1);
  __builtin_prefetch(ring.eid + at, 1);
  __builtin_prefetch(ring.time + at, 1);
}

// Calls before(e), then enters event e, for those in [begin, end).
template <class Time, class F>
void put_events(const Ring<Time>& ring, const Events<Time>& events, int64_t begin, int64_t end, const F& before) {
  for (int64_t e = begin; e < end; ++e) {
    before(e);
    const int64_t src = events.src[e], dst = events.dst[e], number = events.number(e);
    const Time t = events.time_of(e);
    ring.put(src, ring.count[src]++, {dst, number, t});
    ring.put(dst, ring.count[dst]++, {src, number, t});
  }
}

void ring_insert_cpu(Tensor nbr, Tensor eid, Tensor time, Tensor count, Tensor next_event, Tensor latest, Tensor src,
                     Tensor dst, std::optional<Tensor> t, std::optional<Tensor> event) {
  constexpr const char* kOp = "ring_insert";
  dispatch_time(kOp, "time", time, [&](auto type) {
    using Time = typename decltype(type)::type;
    const auto ring = make_ring<Time>(kOp, nbr, eid, time, count);
    const auto events = make_events<Time>(kOp, count.size(0), next_event, latest, src, dst, t, event);
    const int64_t ahead = std::max<int64_t>(events.count - kAhead, 0);
    put_events(ring, events, 0, ahead, [&](int64_t e) {
      fetch_free(ring, events.src[e + kAhead]);
      fetch_free(ring, events.dst[e + kAhead]);
    });
    put_events(ring, events, ahead, events.count, [](int64_t) {});
    advance(events, latest);
  });
}

std::tuple<Tensor, Tensor, Tensor> ring_query_cpu(Tensor nbr, Tensor eid, Tensor time, Tensor count, Tensor ids,
                                                  std::optional<Tensor> before, int64_t k) {
  constexpr const char* kOp = "ring_query";
  return dispatch_time(kOp, "time", time, [&](auto type) {
    using Time = typename decltype(type)::type;
    const auto ring = make_ring<Time>(kOp, nbr, eid, time, count);
    const int64_t* nodes = make_ids(kOp, ids, count.size(0));
    const int64_t rows = ids.size(0);
    const Time* limits = data<Time>(kOp, "before", before, {rows});
    expect_number(kOp, "k", k, 1, ring.size);
    Tensor found_nbr = torch::stable::new_empty(nbr, {rows, k}), found_eid = torch::stable::new_empty(eid, {rows, k});
    Tensor found_time = torch::stable::new_empty(time, {rows, k});
    int64_t *nbr_out = static_cast<int64_t*>(found_nbr.mutable_data_ptr()),
            *eid_out = static_cast<int64_t*>(found_eid.mutable_data_ptr());
    Time* time_out = static_cast<Time*>(found_time.mutable_data_ptr());
    parallel_chunks(rows, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        ring.latest(nodes[n], limits == nullptr ? nullptr : limits + n, k, nbr_out + n * k, eid_out + n * k,
                    time_out + n * k);
      }
    });
    return std::tuple(found_nbr, found_eid, found_time);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("ring_insert", TORCH_BOX(&graphmem::ring_insert_cpu));
  m.impl("ring_query", TORCH_BOX(&graphmem::ring_query_cpu));
}
