// nat_train: logits of candidates from the state and the layers of NAT, in one call, with dropout of what is pooled, and
// what the gradient needs of them. nat_train_backward: the gradients of the layers.
//
// Nodes are read as by nat_score. Layers in front of the dropout and behind it are not multiplied with each other, those
// of the cell of states are, once a call; their gradients are taken apart in the end. Of dropout nothing is kept: its mask
// is a function of the seed. Cells of values are computed anew.
//
// Pairs and rows are summed over blocks of fixed size, in order, or by one thread each: the bits do not depend on the
// number of threads.
#include "cpu/nat_train.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cpu/fresh.h"
#include "cpu/nat_gradient.h"

namespace graphmem {
namespace {

// Pooled neighbourhoods of `size` pairs from their mixes [size, mixes, features], into rows of what the hidden layer reads.
template <class T>
void put_pooled(const NatLayers<T>& layers, const Blank<T>& projection, const T* mixed, int64_t size, T* read,
                T* room) {
  const int64_t features = layers.w.features(), mixes = layers.w.mixes(), width = layers.width;
  for (int64_t h = 0; h < mixes; ++h) {
    const T* panels = projection.data() + h * packed_size<T>(features, width);
    multiply_packed(mixed + h * features, mixes * features, 1, panels, layers.offset.data() + h * width, size, features,
                    width, room);
    for (int64_t n = 0; n < size; ++n) std::copy_n(room + n * width, width, read + n * layers.read() + h * width);
  }
}

template <class Key, class Time, class T>
void score(const NatLayers<T>& layers, const NatPairs<Key, Time, T>& pairs, const DropRate& rate, uint64_t seed,
           const T* own, const NatSaved<T>& saved, T* out) {
  const NatWeights<T>& w = layers.w;
  const auto pool = make_pool(pairs.joint(saved.now), pairs.count);
  const auto scores = position_scores(pool);
  const Room<T> since = pairs.since_last_events();
  const int64_t features = w.features(), row = w.mixes() * features, width = layers.read(), pooled = layers.pooled();
  Blank<T> projection;
  for (int64_t h = 0; h < w.mixes(); ++h) {
    const Blank<T> part =
        packed(rows_of(layers.projection.data() + h * layers.width * features, features).t(), features, layers.width);
    projection.insert(projection.end(), part.begin(), part.end());
  }
  const Blank<T> hidden = packed(rows_of(layers.layer[kHidden], width).t(), width, w.hidden);
  parallel_chunks(pairs.pairs, kNatPairs, [&](int64_t from, int64_t to) {
    Pair work(pool);
    Room<T> room(kNatPairs * layers.width);
    for (int64_t begin = from; begin < to; begin += kNatPairs) {
      const int64_t size = std::min(kNatPairs, to - begin);
      T *mixed = saved.mixed + begin * row, *read = saved.read + begin * width, *h = saved.hidden + begin * w.hidden;
      for (int64_t n = 0; n < size; ++n) {
        work.join(begin + n);
        work.mix(scores.data(), mixed + n * row, features);
      }
      put_pooled<T>(layers, projection, mixed, size, read, room.data());
      for (int64_t n = 0; n < size; ++n) {
        T* x = read + n * width;
        if (rate.threshold > 0) drop(x, x, (begin + n) * pooled, pooled, rate, seed);
        x = std::copy_n(own + pairs.first[begin + n] * w.d, w.d, x + pooled);
        x = std::copy_n(own + pairs.second[begin + n] * w.d, w.d, x);
        std::copy_n(since.data() + w.ages * (begin + n), w.ages, x);
      }
      multiply_packed<T>(read, width, 1, hidden.data(), w.hidden_bias, size, width, w.hidden, h);
      for (int64_t n = 0; n < size; ++n) {
        rectify(h + n * w.hidden, w.hidden);
        out[begin + n] = dot(h + n * w.hidden, w.out, w.hidden) + w.out_bias[0];
      }
    }
  });
}

using Scored = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Scored nat_train_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap,
                     std::optional<Tensor> messages, std::optional<Tensor> known, std::vector<int64_t> sizes,
                     bool reference_hash, int64_t seed, bool delta, Tensor nodes, Tensor place, Tensor t,
                     std::vector<Tensor> layers, int64_t heads, double p, int64_t dropout_seed) {
  constexpr const char* kOp = "nat_train";
  const NatStored stored{key, eid, time, value, state, other, gap, messages, known, sizes, reference_hash, seed, delta};
  const NatQuestion question{stored, nodes, place, t, layers, heads, p, dropout_seed};
  return question.dispatch(kOp, [&](const auto& of_model, const auto& s, const auto& pairs, const DropRate& rate) {
    using T = typename std::decay_t<decltype(s)>::T;
    const NatWeights<T>& w = of_model.w;
    const int64_t count = pairs.count;
    Tensor scores = fresh(state, {pairs.pairs}), own = fresh(state, {count, w.d});
    Tensor now = fresh(state, {count, s.cells.columns, w.f}), inputs = fresh(state, {count, w.d + of_model.inputs()});
    Tensor gates = fresh(state, {count, 4 * w.d}), mixed = fresh(state, {pairs.pairs, w.mixes(), w.features()});
    Tensor read = fresh(state, {pairs.pairs, of_model.read()}), hidden = fresh(state, {pairs.pairs, w.hidden});
    const auto at = [](const Tensor& x) { return static_cast<T*>(x.mutable_data_ptr()); };
    const NatSaved<T> saved{at(now), at(inputs), at(gates), at(mixed), at(read), at(hidden)};
    expect_others(kOp, s, pairs.nodes, count);
    values_of(kOp, s, pairs.nodes, count).run(saved.now);
    const int64_t met = read_states(s, pairs.nodes, count, at(own), {saved.inputs, saved.gates});
    std::fill(saved.inputs + met * inputs.size(1), saved.inputs + inputs.numel(), T(0));
    std::fill(saved.gates + met * gates.size(1), saved.gates + gates.numel(), T(0));
    score(of_model, pairs, rate, static_cast<uint64_t>(dropout_seed), at(own), saved, at(scores));
    return Scored(scores, own, now, inputs, gates, mixed, read, hidden);
  });
}

std::vector<Tensor> nat_train_backward_cpu(Tensor grad, Tensor now, Tensor inputs, Tensor gates, Tensor mixed,
                                           Tensor read, Tensor hidden, Tensor key, Tensor eid, Tensor time,
                                           Tensor value, Tensor state, Tensor other, Tensor gap,
                                           std::optional<Tensor> messages, std::optional<Tensor> known,
                                           std::vector<int64_t> sizes, bool reference_hash, int64_t seed, bool delta,
                                           Tensor nodes, Tensor place, Tensor t, std::vector<Tensor> layers,
                                           int64_t heads, double p, int64_t dropout_seed) {
  constexpr const char* kOp = "nat_train_backward";
  const NatStored stored{key, eid, time, value, state, other, gap, messages, known, sizes, reference_hash, seed, delta};
  const NatQuestion question{stored, nodes, place, t, layers, heads, p, dropout_seed};
  return question.dispatch(kOp, [&](const auto& of_model, const auto& s, const auto& pairs, const DropRate& rate) {
    using T = typename std::decay_t<decltype(s)>::T;
    const NatWeights<T>& w = of_model.w;
    const int64_t count = pairs.count, n = pairs.pairs;
    const auto at = [&](const char* name, const Tensor& x, Shape shape) {
      return const_cast<T*>(data<T>(kOp, name, x, shape));
    };
    const T* slopes = at("grad", grad, {n});
    const NatSaved<T> saved{
        at("now", now, {count, s.cells.columns, w.f}), at("inputs", inputs, {count, w.d + of_model.inputs()}),
        at("gates", gates, {count, 4 * w.d}),          at("mixed", mixed, {n, w.mixes(), w.features()}),
        at("read", read, {n, of_model.read()}),        at("hidden", hidden, {n, w.hidden})};
    expect_others(kOp, s, pairs.nodes, count);
    std::vector<Tensor> out;
    for (const Tensor& layer : layers) out.push_back(fresh_like(layer));
    NatGradient<std::decay_t<decltype(pairs)>> gradient(of_model, pairs, saved, out);
    gradient.run(slopes, rate, static_cast<uint64_t>(dropout_seed));
    gradient.run_values(values_of(kOp, s, pairs.nodes, count));
    return out;
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("nat_train", TORCH_BOX(&graphmem::nat_train_cpu));
  m.impl("nat_train_backward", TORCH_BOX(&graphmem::nat_train_backward_cpu));
}
