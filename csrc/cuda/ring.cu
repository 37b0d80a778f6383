// ring_insert: half events are sorted by owner, stably; each then knows how many of its owner's come before and after it,
// and those that the row keeps write themselves. Counts are raised by a second kernel, when nobody reads them any more.
// ring_query: a thread an id.
#include <tuple>

#include "common/ring.h"
#include "cuda/halves.h"

namespace graphmem {
namespace {

template <class Time>
__global__ void put_entries(Ring<Time> ring, Events<Time> events, const int64_t* owners, const int64_t* halves) {
  const int64_t total = 2 * events.count, n = global_thread();
  if (n >= total) return;
  raise_next_event(events, n / 2);
  const int64_t owner = owners[n];
  const int64_t first = lower_bound(owners, 0, total, owner), end = lower_bound(owners, n, total, owner + 1);
  if (end - n <= ring.size) ring.put(owner, ring.count[owner] + (n - first), events.entry(halves[n]));
}

// One thread an owner: that of its last half event.
__global__ void raise_counts(const int64_t* owners, int64_t total, uint64_t* count) {
  const int64_t n = global_thread();
  if (n >= total || (n + 1 < total && owners[n + 1] == owners[n])) return;
  count[owners[n]] += n + 1 - lower_bound(owners, 0, total, owners[n]);
}

template <class Time>
__global__ void finish_batch(Events<Time> events, Time* latest) {
  if (global_thread() == 0) move_on(events, latest);
}

void ring_insert_cuda(Tensor nbr, Tensor eid, Tensor time, Tensor count, Tensor next_event, Tensor latest, Tensor src,
                      Tensor dst, std::optional<Tensor> t, std::optional<Tensor> event) {
  constexpr const char* kOp = "ring_insert";
  const Device device(nbr);
  dispatch_time(kOp, "time", time, [&](auto type) {
    using Time = typename decltype(type)::type;
    const auto ring = make_ring<Time>(kOp, nbr, eid, time, count);
    const auto events = make_events<Time>(kOp, count.size(0), next_event, latest, src, dst, t, event);
    const int64_t total = 2 * events.count;
    if (total == 0) return;
    const Halves halves(kOp, device, nbr, events, count.size(0));
    const Grid grid{blocks_for(total, kThreads)};
    launch(kOp, device, put_entries<Time>, grid, kThreads, 0, ring, events, halves.owners, halves.order);
    launch(kOp, device, raise_counts, grid, kThreads, 0, halves.owners, total, ring.count);
    launch(kOp, device, finish_batch<Time>, {1}, kThreads, 0, events, static_cast<Time*>(latest.mutable_data_ptr()));
  });
}

template <class Time>
__global__ void latest_entries(Ring<Time> ring, const int64_t* ids, int64_t rows, const Time* before, int64_t k,
                               int64_t* nbr, int64_t* eid, Time* time) {
  const int64_t n = global_thread();
  if (n >= rows) return;
  ring.latest(ids[n], before == nullptr ? nullptr : before + n, k, nbr + n * k, eid + n * k, time + n * k);
}

std::tuple<Tensor, Tensor, Tensor> ring_query_cuda(Tensor nbr, Tensor eid, Tensor time, Tensor count, Tensor ids,
                                                   std::optional<Tensor> before, int64_t k) {
  constexpr const char* kOp = "ring_query";
  const Device device(nbr);
  return dispatch_time(kOp, "time", time, [&](auto type) {
    using Time = typename decltype(type)::type;
    const auto ring = make_ring<Time>(kOp, nbr, eid, time, count);
    const int64_t* nodes = make_ids(kOp, ids, count.size(0));
    const int64_t rows = ids.size(0);
    const Time* limits = data<Time>(kOp, "before", before, {rows});
    expect_number(kOp, "k", k, 1, ring.size);
    Tensor found_nbr = torch::stable::new_empty(nbr, {rows, k}), found_eid = torch::stable::new_empty(eid, {rows, k});
    Tensor found_time = torch::stable::new_empty(time, {rows, k});
    launch(kOp, device, latest_entries<Time>, {blocks_for(rows, kThreads)}, kThreads, 0, ring, nodes, rows, limits, k,
           static_cast<int64_t*>(found_nbr.mutable_data_ptr()), static_cast<int64_t*>(found_eid.mutable_data_ptr()),
           static_cast<Time*>(found_time.mutable_data_ptr()));
    return std::tuple(found_nbr, found_eid, found_time);
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("ring_insert", TORCH_BOX(&graphmem::ring_insert_cuda));
  m.impl("ring_query", TORCH_BOX(&graphmem::ring_query_cuda));
}
