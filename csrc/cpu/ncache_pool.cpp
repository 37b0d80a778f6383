// ncache_pool: what the dictionaries of two nodes hold together, each key once, mixed into one row a pair:
//
//   h_a = [sum of what the cells that hold a are worth, position[which dictionaries], ages of a for both nodes]
//   out_h = sum_a alpha_ha h_a, alpha_h = softmax_a LeakyReLU(<query_h, h_a> + constant_h), or 1 without queries
//
// A key has one place in each dictionary, so that a cell asks 2 (H + 1) cells whether they hold its key, and the first of
// these stands for it: nothing is sorted, and no table is built. Keys are then lanes: all that follows runs along them.
// Of positions only sums of coefficients by mask are kept, and the rows of the table are mixed once a mask.
//
// One thread computes a pair. The gradient writes that of each cell into a buffer of the pair; rows then add their pairs'
// in order, and what belongs to all pairs is added over blocks of 16, in order.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/fresh.h"
#include "cpu/joint_gradient.h"

namespace graphmem {
namespace {

Tensor ncache_pool_cpu(Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now, std::vector<int64_t> sizes,
                       bool reference_hash, int64_t seed, Tensor first, Tensor second, std::optional<Tensor> t,
                       Tensor position, std::optional<Tensor> query, std::optional<Tensor> constant) {
  const JointArguments arguments{key,  eid,   time,   nodes, now,      sizes, reference_hash,
                                 seed, first, second, t,     position, query, constant};
  return arguments.dispatch("ncache_pool", [&]<class Key, class Time, class T>(const JointCells<Key, Time, T>& joint) {
    const auto p = make_pool(joint, nodes.size(0));
    Tensor out = fresh(now, {p.mixes(), p.pairs, p.features()});
    T* rows = static_cast<T*>(out.mutable_data_ptr());
    const auto scores = position_scores(p);
    parallel_chunks(p.pairs, kJointPairs, [&](int64_t begin, int64_t end) {
      Pair work(p);
      for (int64_t n = begin; n < end; ++n) {
        work.join(n);
        work.mix(scores.data(), rows + n * p.features(), p.pairs * p.features());
      }
    });
    return out;
  });
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Gradients ncache_pool_backward_cpu(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now,
                                   std::vector<int64_t> sizes, bool reference_hash, int64_t seed, Tensor first,
                                   Tensor second, std::optional<Tensor> t, Tensor position, std::optional<Tensor> query,
                                   std::optional<Tensor> constant) {
  const JointArguments arguments{key,  eid,   time,   nodes, now,      sizes, reference_hash,
                                 seed, first, second, t,     position, query, constant};
  constexpr const char* kOp = "ncache_pool_backward";
  return arguments.dispatch(kOp, [&]<class Key, class Time, class T>(const JointCells<Key, Time, T>& joint) {
    const auto p = make_pool(joint, nodes.size(0));
    const T* slopes = data<T>(kOp, "grad", grad, {p.mixes(), p.pairs, p.features()});
    Tensor dnow = fresh_like(now), dposition = torch::stable::empty_like(position);
    Tensor dquery = torch::stable::new_empty(now, {p.heads, p.features()});
    Tensor dconstant = torch::stable::new_empty(now, {p.heads});
    const auto at = [](const Tensor& t) { return static_cast<T*>(t.mutable_data_ptr()); };
    differentiate(p, slopes, p.features(), p.pairs * p.features(),
                  PoolGradients<T>{at(dnow), at(dposition), at(dquery), at(dconstant)});
    return Gradients(dnow, dposition, dquery, dconstant);
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("ncache_pool", TORCH_BOX(&graphmem::ncache_pool_cpu));
  m.impl("ncache_pool_backward", TORCH_BOX(&graphmem::ncache_pool_backward_cpu));
}
