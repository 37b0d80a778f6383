// temporal_append: half events are sorted by owner, stably; an owner's last one knows whether the row has to move and what
// it needs, a running sum gives every row that moves its place. Every kernel that writes first looks whether the pool has
// room for all of them. temporal_sample: a thread a question.
#include <tuple>

#include "common/temporal.h"
#include "cuda/halves.h"

namespace graphmem {
namespace {

// A batch on its way into the pool; `taken` is, up to each half event, what rows that move need.
template <class Time>
struct Append {
  Pool<Time> pool;
  Events<Time> events;
  const int64_t *owners, *order;
  int64_t *need, *taken, *used;

  __device__ int64_t total() const { return 2 * events.count; }
  __device__ bool fits() const { return *used + taken[total() - 1] <= pool.size; }
  __device__ bool is_last(int64_t n) const { return n + 1 == total() || owners[n + 1] != owners[n]; }
  // Half events of its owner up to the n-th.
  __device__ int64_t rank(int64_t n) const { return n - lower_bound(owners, 0, n, owners[n]); }
};

template <class Time>
__global__ void list_needs(Append<Time> append) {
  const int64_t n = global_thread();
  if (n >= append.total()) return;
  int64_t need = 0;
  if (append.is_last(n)) {
    const int64_t held = append.pool.length[append.owners[n]], entries = held + append.rank(n) + 1;
    need = room(held) < entries ? room(entries) : 0;
  }
  append.need[append.order[n]] = need;
}

// A block a row.
template <class Time>
__global__ void move_rows(Append<Time> append) {
  const int64_t n = blockIdx.x, half = append.order[n], need = append.need[half];
  if (need == 0 || !append.fits()) return;
  const Pool<Time>& pool = append.pool;
  const int64_t node = append.owners[n], from = pool.start[node], to = *append.used + append.taken[half] - need;
  for (int64_t k = threadIdx.x; k < pool.length[node]; k += blockDim.x) {
    pool.put(to + k, {pool.nbr[from + k], pool.eid[from + k], pool.time[from + k]});
  }
  __syncthreads();  // everyone has read where the row began
  if (threadIdx.x == 0) pool.start[node] = to;
}

template <class Time>
__global__ void append_entries(Append<Time> append) {
  const int64_t n = global_thread();
  if (n >= append.total() || !append.fits()) return;
  const int64_t node = append.owners[n];
  raise_next_event(append.events, n / 2);
  append.pool.put(append.pool.start[node] + append.pool.length[node] + append.rank(n),
                  append.events.entry(append.order[n]));
}

template <class Time>
__global__ void raise_lengths(Append<Time> append) {
  const int64_t n = global_thread();
  if (n >= append.total() || !append.fits() || !append.is_last(n)) return;
  append.pool.length[append.owners[n]] += append.rank(n) + 1;
}

template <class Time>
__global__ void finish_append(Append<Time> append, Time* latest, int64_t* needed) {
  if (global_thread() > 0) return;
  *needed = *append.used + (append.total() > 0 ? append.taken[append.total() - 1] : 0);
  if (*needed > append.pool.size) return;
  *append.used = *needed;
  move_on(append.events, latest);
}

Tensor temporal_append_cuda(Tensor start, Tensor length, Tensor nbr, Tensor eid, Tensor time, Tensor used,
                            Tensor next_event, Tensor latest, Tensor src, Tensor dst, std::optional<Tensor> t,
                            std::optional<Tensor> event) {
  constexpr const char* kOp = "temporal_append";
  const Device device(nbr);
  return dispatch_time(kOp, "time", time, [&](auto type) {
    using Time = typename decltype(type)::type;
    const auto pool = make_pool<Time>(kOp, start, length, nbr, eid, time);
    const auto events = make_events<Time>(kOp, pool.nodes, next_event, latest, src, dst, t, event);
    const int64_t total = 2 * events.count;
    check_rows(kOp, pool, total, [&](int64_t half) { return events.owner(half); });
    Tensor needed = torch::stable::new_empty(nbr, {1});
    Tensor sums = torch::stable::new_empty(nbr, {2, total});
    int64_t* need = static_cast<int64_t*>(sums.mutable_data_ptr());
    Append<Time> append{pool, events, nullptr, nullptr, need, need + total, make_used(kOp, pool, used)};
    if (total > 0) {
      const Halves halves(kOp, device, nbr, events, pool.nodes);
      append.owners = halves.owners;
      append.order = halves.order;
      const Grid grid{blocks_for(total, kThreads)};
      launch(kOp, device, list_needs<Time>, grid, kThreads, 0, append);
      running_sum(kOp, device, nbr, need, append.taken, total);
      launch(kOp, device, move_rows<Time>, {total}, 128, 0, append);
      launch(kOp, device, append_entries<Time>, grid, kThreads, 0, append);
      launch(kOp, device, raise_lengths<Time>, grid, kThreads, 0, append);
    }
    launch(kOp, device, finish_append<Time>, {1}, kThreads, 0, append, static_cast<Time*>(latest.mutable_data_ptr()),
           static_cast<int64_t*>(needed.mutable_data_ptr()));
    return needed;
  });
}

template <class Time>
__global__ void answer(Sampler<Time> sampler, Questions<Time> questions, int64_t* nbr, int64_t* eid, Time* time) {
  const int64_t n = global_thread(), k = sampler.k;
  if (n >= questions.count) return;
  sampler.sample(questions, n, sampler.find(questions, n), nbr + n * k, eid + n * k, time + n * k);
}

std::tuple<Tensor, Tensor, Tensor> temporal_sample_cuda(Tensor start, Tensor length, Tensor nbr, Tensor eid,
                                                        Tensor time, Tensor ids, Tensor t, std::optional<Tensor> since,
                                                        int64_t k, int64_t strategy, bool inclusive, double decay,
                                                        int64_t seed, std::optional<Tensor> key) {
  constexpr const char* kOp = "temporal_sample";
  const Device device(nbr);
  return dispatch_time(kOp, "time", time, [&](auto type) {
    using Time = typename decltype(type)::type;
    const auto pool = make_pool<Time>(kOp, start, length, nbr, eid, time);
    const auto sampler = make_sampler(kOp, pool, k, strategy, inclusive, decay, seed);
    const auto questions = make_questions(kOp, pool, ids, t, since, key);
    const int64_t rows = ids.size(0);
    Tensor found_nbr = torch::stable::new_empty(nbr, {rows, k});
    Tensor found_eid = torch::stable::new_empty(nbr, {rows, k});
    Tensor found_time = torch::stable::new_empty(time, {rows, k});
    launch(kOp, device, answer<Time>, {blocks_for(rows, kThreads)}, kThreads, 0, sampler, questions,
           static_cast<int64_t*>(found_nbr.mutable_data_ptr()), static_cast<int64_t*>(found_eid.mutable_data_ptr()),
           static_cast<Time*>(found_time.mutable_data_ptr()));
    return std::tuple(found_nbr, found_eid, found_time);
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) {
  m.impl("temporal_append", TORCH_BOX(&graphmem::temporal_append_cuda));
  m.impl("temporal_sample", TORCH_BOX(&graphmem::temporal_sample_cuda));
}
