// ncache_commit: events enter the dictionaries of their ends, in place; see cpu/commit.h.
#include <torch/csrc/stable/library.h>

#include "cpu/commit.h"

namespace graphmem {
namespace {

void ncache_commit_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor src, Tensor dst, Tensor t,
                       Tensor event, Tensor nodes, Tensor at, Tensor now, std::vector<int64_t> sizes,
                       bool reference_hash, int64_t seed, double replace_prob, bool sequential) {
  const CommitArguments arguments{key, eid, time,  value,          src,  dst,         t, event, nodes,
                                  at,  now, sizes, reference_hash, seed, replace_prob};
  arguments.dispatch("ncache_commit",
                     [&](const auto& commit, const auto* worth) { enter_events(commit, worth, sequential); });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("ncache_commit", TORCH_BOX(&graphmem::ncache_commit_cpu)); }
