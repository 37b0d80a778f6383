// ring_graph: the latest entries as a graph. One pass over the entries, one over the nodes met, one to number both ends.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "common/dispatch.h"
#include "common/ring.h"
#include "cpu/node_set.h"

namespace graphmem {
namespace {

// The first `count` numbers are known, the others are nobody.
void pad(Tensor& t, int64_t count) {
  std::fill(static_cast<int64_t*>(t.mutable_data_ptr()) + count,
            static_cast<int64_t*>(t.mutable_data_ptr()) + t.numel(), int64_t{-1});
}

constexpr const char* kOp = "ring_graph";

std::tuple<Tensor, Tensor, Tensor, Tensor> ring_graph_cpu(Tensor nbr, Tensor eid, Tensor count, Tensor ids) {
  const auto ring = make_ring<int64_t>(kOp, nbr, eid, eid, count);
  const int64_t num_nodes = count.size(0), rows = ids.size(0), room = rows * ring.size;
  const int64_t* asked = make_ids(kOp, ids, num_nodes);
  Tensor nodes = torch::stable::new_empty(nbr, {std::min(rows + room, num_nodes)});
  Tensor edges = torch::stable::new_empty(nbr, {2 * room});
  Tensor events = torch::stable::new_empty(nbr, {room}), sizes = torch::stable::new_empty(nbr, {2});
  int64_t* event = static_cast<int64_t*>(events.mutable_data_ptr());
  int64_t *edge = static_cast<int64_t*>(edges.mutable_data_ptr()), total = 0;
  for (int64_t n = 0; n < rows; ++n) total += ring.held(asked[n]);
  NodeSet met(num_nodes);
  int64_t k = 0;
  bool inside = true;
  for (int64_t n = 0; n < rows; ++n) {
    met.add(asked[n]);
    ring.visit(asked[n], [&](int64_t at) {
      const int64_t other = ring.nbr[at];
      if (static_cast<uint64_t>(other) >= static_cast<uint64_t>(num_nodes)) return inside = false;
      met.add(other);
      edge[k] = other;
      event[k++] = ring.eid[at];
      return true;
    });
  }
  STD_TORCH_CHECK(inside, kOp, ": expected nbr with nodes in [0, ", num_nodes, ")");
  const int64_t known = met.list(static_cast<int64_t*>(nodes.mutable_data_ptr()));
  for (int64_t e = 0; e < total; ++e) edge[e] = met.place(edge[e]);
  int64_t* end = edge + total;
  for (int64_t n = 0; n < rows; ++n) end = std::fill_n(end, ring.held(asked[n]), met.place(asked[n]));
  pad(nodes, known);
  pad(edges, 2 * total);
  pad(events, total);
  static_cast<int64_t*>(sizes.mutable_data_ptr())[0] = known;
  static_cast<int64_t*>(sizes.mutable_data_ptr())[1] = total;
  return {nodes, edges, events, sizes};
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("ring_graph", TORCH_BOX(&graphmem::ring_graph_cpu)); }
