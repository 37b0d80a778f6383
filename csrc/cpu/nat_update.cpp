// nat_update: events enter the state of NAT, in one call. What their nodes are worth is computed as by nat_score; states,
// other ends and times between events are written, then the dictionaries as by ncache_commit. Nothing is written before
// all was read and looked at.
#include <torch/csrc/stable/library.h>

#include <numeric>

#include "cpu/commit.h"
#include "cpu/nat.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "nat_update";

template <class Key, class Time, class Value, class T>
void write_nodes(const NatState<Key, Time, Value>& s, const Commit<Key, Time, Value>& c, const NatRead<T>& read) {
  Room<int64_t> last(c.count);  // half event of each node
  for (int64_t half = 0; half < 2 * c.events; ++half) last[c.own(half)] = half;
  for (int64_t n = 0; n < c.count; ++n) {
    const int64_t node = c.nodes[n], own = node * s.cells.columns, e = last[n] / 2;
    s.gap[node] = s.cells.eid[own] >= 0 ? c.t[e] - s.time[own] : Time(0);
    s.other[node] = last[n] % 2 == 0 ? c.dst[e] : c.src[e];
    std::copy_n(read.state.data() + n * s.w.d, s.w.d, s.state + node * s.w.d);
  }
}

void nat_update_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap,
                    std::optional<Tensor> messages, std::optional<Tensor> known, Tensor weights,
                    std::vector<int64_t> widths, std::vector<int64_t> sizes, bool reference_hash, int64_t seed,
                    bool delta, Tensor src, Tensor dst, Tensor t, int64_t first, double replace_prob, bool sequential) {
  const NatArguments arguments{key,   eid,     time,   value, state,          other, gap,  messages,
                               known, weights, widths, sizes, reference_hash, seed,  delta};
  arguments.dispatch(kOp, [&]<class Key, class Time, class Value>(const NatState<Key, Time, Value>& s) {
    const int64_t* sources = nodes_of(kOp, "src", src, {kAny}, s.cells.nodes);
    const int64_t events = src.size(0);
    const int64_t* targets = nodes_of(kOp, "dst", dst, {events}, s.cells.nodes);
    const Time* times = data<Time>(kOp, "t", t, {events});
    expect_probability(kOp, "replace_prob", replace_prob);
    Room<int64_t> ids(sources, sources + events), nodes(2 * events), at(2 * events), number(events);
    ids.insert(ids.end(), targets, targets + events);
    std::iota(number.begin(), number.end(), first);
    const int64_t count = number_distinct(ids.data(), 2 * events, nodes.data(), at.data());
    const auto read = read_nodes(kOp, s, nodes.data(), count);
    const Coin coin = make_coin(seed, replace_prob);
    const Commit<Key, Time, Value> commit{s.layout, coin,          s.cells,      s.time,    s.value, sources, targets,
                                          times,    number.data(), nodes.data(), at.data(), events,  count,   s.w.f};
    write_nodes(s, commit, read);
    enter_events(commit, read.value.data(), sequential);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("nat_update", TORCH_BOX(&graphmem::nat_update_cpu)); }
