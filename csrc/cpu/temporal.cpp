// temporal_append: events behind the rows of both ends. Nothing is written before it is known that the pool has room; rows
// that are full move to its end. A few loads and stores a half event, on one thread. temporal_sample: a row belongs to a
// thread.
#include "common/temporal.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "cpu/parallel.h"

namespace graphmem {
namespace {

// For each half event its place in the row of its owner, and whether it is the owner's last one.
struct Place {
  int64_t at;
  bool last;
};

template <class Time>
std::vector<Place> places(const Pool<Time>& pool, const Events<Time>& events) {
  const int64_t halves = 2 * events.count;
  std::vector<Place> place(static_cast<std::size_t>(halves));
  for (int64_t h = 0; h < halves; ++h) place[h].at = pool.length[events.owner(h)]++;
  for (int64_t h = 0; h < halves; ++h) place[h].last = place[h].at + 1 == pool.length[events.owner(h)];
  for (int64_t h = 0; h < halves; ++h) --pool.length[events.owner(h)];
  return place;
}

// Calls f(node, entries) for the rows that have to move, in the order of their last half events.
template <class Time, class F>
void each_move(const Pool<Time>& pool, const Events<Time>& events, const std::vector<Place>& place, const F& f) {
  for (int64_t h = 0; h < 2 * events.count; ++h) {
    if (!place[h].last) continue;
    const int64_t node = events.owner(h), entries = place[h].at + 1;
    if (room(pool.length[node]) < entries) f(node, room(entries));
  }
}

template <class T>
void move_row(T* pool, int64_t from, int64_t to, int64_t length) {
  std::memmove(pool + to, pool + from, static_cast<std::size_t>(length) * sizeof(T));
}

constexpr int64_t kTogether = 16;

// What `Sampler::find` finds, for some questions in step: what one waits for from memory the others wait for meanwhile.
// The newest events that may be taken are asked for as soon as it is known which they are.
template <class Time>
void find_together(const Sampler<Time>& sampler, const Questions<Time>& questions, int64_t first, int64_t count,
                   typename Sampler<Time>::Span* span) {
  const Pool<Time>& pool = sampler.pool;
  const auto early = [&](int64_t at, Time t) -> int64_t {
    return sampler.inclusive ? pool.time[at] <= t : pool.time[at] < t;
  };
  for (int64_t n = 0; n < count; ++n) {
    const int64_t node = questions.ids[first + n], begin = pool.start[node], end = begin + pool.length[node];
    span[n] = {begin, begin, end};
    if (begin < end) __builtin_prefetch(pool.time + end - 1);
  }
  // The answer lies in [low, low + left]; most questions are about the present and need no search.
  int64_t low[kTogether], left[kTogether], most = 0;
  for (int64_t n = 0; n < count; ++n) {
    const int64_t entries = span[n].end - span[n].begin;
    const bool whole = entries == 0 || early(span[n].end - 1, questions.t[first + n]);
    low[n] = whole ? span[n].end : span[n].begin;
    left[n] = whole ? 0 : entries;
    most = std::max(most, left[n]);
  }
  for (; most > 1; most -= most / 2) {
    for (int64_t n = 0; n < count; ++n) {
      if (left[n] <= 1) continue;
      const int64_t half = left[n] / 2;
      low[n] += half & -early(low[n] + half - 1, questions.t[first + n]);
      left[n] -= half;
    }
  }
  for (int64_t n = 0; n < count; ++n) {
    const int64_t end = left[n] == 0 ? low[n] : low[n] + early(low[n], questions.t[first + n]);
    if (questions.since != nullptr) {
      span[n] = sampler.find(questions, first + n);
    } else {
      span[n].end = end;
      const int64_t oldest = std::max(end - sampler.k, span[n].first);
      for (const int64_t at : {oldest, std::max(end - 1, oldest)}) {
        __builtin_prefetch(pool.nbr + at);
        __builtin_prefetch(pool.eid + at);
        __builtin_prefetch(pool.time + at);
      }
    }
  }
}

Tensor temporal_append_cpu(Tensor start, Tensor length, Tensor nbr, Tensor eid, Tensor time, Tensor used,
                           Tensor next_event, Tensor latest, Tensor src, Tensor dst, std::optional<Tensor> t,
                           std::optional<Tensor> event) {
  constexpr const char* kOp = "temporal_append";
  return dispatch_time(kOp, "time", time, [&](auto type) {
    using Time = typename decltype(type)::type;
    const auto pool = make_pool<Time>(kOp, start, length, nbr, eid, time);
    const auto events = make_events<Time>(kOp, pool.nodes, next_event, latest, src, dst, t, event);
    int64_t& end = *make_used(kOp, pool, used);
    check_rows(kOp, pool, 2 * events.count, [&](int64_t h) { return events.owner(h); });
    const std::vector<Place> place = places(pool, events);
    Tensor result = torch::stable::new_empty(nbr, {1});
    int64_t& needed = *static_cast<int64_t*>(result.mutable_data_ptr());
    needed = end;
    each_move(pool, events, place, [&](int64_t, int64_t entries) { needed += entries; });
    if (needed > pool.size) return result;
    each_move(pool, events, place, [&](int64_t node, int64_t entries) {
      const int64_t from = pool.start[node], held = pool.length[node];
      move_row(pool.nbr, from, end, held);
      move_row(pool.eid, from, end, held);
      move_row(pool.time, from, end, held);
      pool.start[node] = end;
      end += entries;
    });
    for (int64_t h = 0; h < 2 * events.count; ++h) {
      const int64_t node = events.owner(h);
      pool.put(pool.start[node] + place[h].at, events.entry(h));
      pool.length[node] = place[h].at + 1;
    }
    advance(events, latest);
    return result;
  });
}

std::tuple<Tensor, Tensor, Tensor> temporal_sample_cpu(Tensor start, Tensor length, Tensor nbr, Tensor eid, Tensor time,
                                                       Tensor ids, Tensor t, std::optional<Tensor> since, int64_t k,
                                                       int64_t strategy, bool inclusive, double decay, int64_t seed,
                                                       std::optional<Tensor> key) {
  constexpr const char* kOp = "temporal_sample";
  return dispatch_time(kOp, "time", time, [&](auto type) {
    using Time = typename decltype(type)::type;
    const auto pool = make_pool<Time>(kOp, start, length, nbr, eid, time);
    const auto sampler = make_sampler(kOp, pool, k, strategy, inclusive, decay, seed);
    const auto questions = make_questions(kOp, pool, ids, t, since, key);
    const int64_t rows = ids.size(0);
    Tensor found_nbr = torch::stable::new_empty(nbr, {rows, k});
    Tensor found_eid = torch::stable::new_empty(nbr, {rows, k});
    Tensor found_time = torch::stable::new_empty(time, {rows, k});
    int64_t *nbr_out = static_cast<int64_t*>(found_nbr.mutable_data_ptr()),
            *eid_out = static_cast<int64_t*>(found_eid.mutable_data_ptr());
    Time* time_out = static_cast<Time*>(found_time.mutable_data_ptr());
    parallel_chunks(rows, sampler.strategy == kRecent ? 512 : 64, [&](int64_t begin, int64_t rows_end) {
      typename Sampler<Time>::Span span[kTogether];
      for (int64_t first = begin; first < rows_end; first += kTogether) {
        const int64_t count = std::min(kTogether, rows_end - first);
        find_together(sampler, questions, first, count, span);
        for (int64_t n = first; n < first + count; ++n) {
          sampler.sample(questions, n, span[n - first], nbr_out + n * k, eid_out + n * k, time_out + n * k);
        }
      }
    });
    return std::tuple(found_nbr, found_eid, found_time);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("temporal_append", TORCH_BOX(&graphmem::temporal_append_cpu));
  m.impl("temporal_sample", TORCH_BOX(&graphmem::temporal_sample_cpu));
}
