// Gradients of the layers of NAT, from those of its logits; see cpu/nat_train.cpp.
#pragma once

#include "cpu/cell_gradient.h"
#include "cpu/joint_gradient.h"
#include "cpu/nat_train.h"
#include "cpu/refresh_gradient.h"

namespace graphmem {

template <class Pairs>
class NatGradient {
 public:
  using T = typename Pairs::T;

  NatGradient(const NatLayers<T>& layers, const Pairs& pairs, const NatSaved<T>& saved, std::vector<Tensor>& out)
      : l_(layers), w_(layers.w), pairs_(pairs), saved_(saved) {
    for (size_t n = 0; n < out.size(); ++n) out_[n] = static_cast<T*>(out[n].mutable_data_ptr());
  }

  // Of all but the cell of values. grad [pairs].
  void run(const T* grad, const DropRate& rate, uint64_t seed) {
    const int64_t n = pairs_.pairs;
    dhidden_.resize(n * w_.hidden), dread_.resize(n * l_.read());
    decode(grad, rate, seed);
    pool();
    cells();
    products_.run();
    take_apart();
  }

  // Of the cell of values, from the gradient of what it gives, which `run` has found.
  template <class Value>
  void run_values(Refresh<Value, T> r) {
    const Gates<T>& p = r.gates;
    Room<T> total(p.sums());
    std::fill_n(out_[kLinValue], w_.f * l_.inputs(), T(0));  // before the first event nothing reads messages
    differentiate(r, dnow_.data(), l_.inputs(), out_[kLinValue], total.data());
    const int64_t f = w_.f;
    std::copy_n(total.data() + p.of_ih(), 3 * f * f, out_[kValueIh]);
    std::copy_n(total.data() + p.of_hh(), 3 * f * f, out_[kValueHh]);
    std::copy_n(total.data() + p.of_bias(), 3 * f, out_[kValueBiasIh]);
    std::copy_n(total.data() + p.of_bias(), 2 * f, out_[kValueBiasHh]);
    std::copy_n(total.data() + p.of_bias() + 3 * f, f, out_[kValueBiasHh] + 2 * f);
    axpy(out_[kTimeWeight], T(1), total.data() + p.of_time(), w_.times);
    axpy(out_[kTimeBias], T(1), total.data() + p.of_time() + w_.times, w_.times);
  }

 private:
  // Backward through the decoder and the projection of what is pooled, 48 pairs at a time.
  void decode(const T* grad, const DropRate& rate, uint64_t seed) {
    const int64_t n = pairs_.pairs, hidden = w_.hidden, width = l_.read(), pooled = l_.pooled();
    const Blank<T> back = packed(rows_of(l_.layer[kHidden], width), hidden, width);
    const int64_t of_bias = hidden, of_offset = 2 * hidden, of_out_bias = of_offset + pooled;
    BlockSums<T> sums((n + kNatPairs - 1) / kNatPairs, of_out_bias + 1);
    parallel_chunks(sums.blocks(), 1, n * width * hidden / 32, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t begin = block * kNatPairs, end = std::min(n, begin + kNatPairs);
        T* sum = sums.of(block);
        for (int64_t i = begin; i < end; ++i) {
          const T* h = saved_.hidden + i * hidden;
          T* dh = dhidden_.data() + i * hidden;
          rectify_gradient(h, w_.out, grad[i], hidden, dh);
          axpy(sum, grad[i], h, hidden);
          axpy(sum + of_bias, T(1), dh, hidden);
          sum[of_out_bias] += grad[i];
        }
        T* dread = dread_.data() + begin * width;
        multiply_packed<T>(dhidden_.data() + begin * hidden, hidden, 1, back.data(), nullptr, end - begin, hidden,
                           width, dread);
        for (int64_t i = begin; i < end; ++i, dread += width) {
          if (rate.threshold > 0) drop(dread, dread, i * pooled, pooled, rate, seed);
          axpy(sum + of_offset, T(1), dread, pooled);
        }
      }
    });
    sums.total(0, hidden, out_[kOut]);
    sums.total(of_bias, hidden, out_[kHiddenBias]);
    sums.total(of_out_bias, 1, out_[kOutBias]);
    doffset_.resize(pooled);
    sums.total(of_offset, pooled, doffset_.data());
    products_.add(rows_of<T>(dhidden_.data(), hidden).t(), rows_of<T>(saved_.read, width), hidden, n, width,
                  out_[kHidden]);
  }

  // Of the projection, of what is mixed, and of what the cells are worth.
  void pool() {
    const int64_t n = pairs_.pairs, features = w_.features(), mixes = w_.mixes(), width = l_.width;
    dprojection_.resize(mixes * width * features);
    Blank<T> dmix(mixes * n * features);  // by mix
    Products<T> back;
    for (int64_t h = 0; h < mixes; ++h) {
      const Matrix<T> dpooled = rows_of<T>(dread_.data(), l_.read()).from(0, h * width);
      back.add(dpooled, rows_of<T>(l_.projection.data() + h * width * features, features), n, width, features,
               dmix.data() + h * n * features);
      products_.add(dpooled.t(), rows_of<T>(saved_.mixed, mixes * features).from(0, h * features), width, n, features,
                    dprojection_.data() + h * width * features);
    }
    back.run();
    dnow_.resize(pairs_.count * pairs_.state.cells.columns * w_.f);
    dquery_.resize(w_.heads * features), dconstant_.resize(w_.heads);
    const auto joint = make_pool(pairs_.joint(saved_.now), pairs_.count);
    differentiate(joint, dmix.data(), features, n * features,
                  PoolGradients<T>{dnow_.data(), out_[kPosition], dquery_.data(), dconstant_.data()});
  }

  // Of the cell of states, whose input layer is multiplied with the layer before it.
  void cells() {
    const auto& s = pairs_.state;
    const int64_t d = w_.d, inputs = l_.inputs(), width = d + inputs;
    const Room<int64_t> met = met_rows(s, pairs_.nodes, pairs_.count);
    const int64_t rows = static_cast<int64_t>(met.size());
    Room<T> dstate(pairs_.count * d);
    for (int64_t i = 0; i < pairs_.pairs; ++i) {
      const T* from = dread_.data() + i * l_.read() + l_.pooled();
      axpy(dstate.data() + pairs_.first[i] * d, T(1), from, d);
      axpy(dstate.data() + pairs_.second[i] * d, T(1), from + d, d);
    }
    const Matrix<T> to_code = rows_of<T>(w_.cell_ih, padded(3 * d)).from(d + w_.raw, 0).t();
    const Blank<T> code = packed(to_code, 3 * d, w_.times);
    slopes_.resize(rows * 4 * d);
    const CellRows<T> of_cells{rows,         d,          width, w_.times, saved_.inputs, saved_.gates, w_.time_weight,
                               w_.time_bias, code.data()};
    differentiate(
        of_cells, [&](int64_t i) { return dstate.data() + met[i] * d; },
        [&](int64_t i) { return last_step(s, pairs_.nodes[met[i]]); }, slopes_.data(), out_[kTimeWeight],
        out_[kTimeBias]);
    dfolded_.resize(3 * d * inputs);
    const Matrix<T> slopes = rows_of<T>(slopes_.data(), 4 * d), read = rows_of<T>(saved_.inputs, width);
    products_.add(slopes.t(), read.from(0, d), 3 * d, rows, inputs, dfolded_.data());
    products_.add(slopes.t(), read, 2 * d, rows, d, out_[kStateHh]);
    products_.add(slopes.from(0, 3 * d).t(), read, d, rows, d, out_[kStateHh] + 2 * d * d);
    Room<T> bias(4 * d);
    for (int64_t i = 0; i < rows; ++i) axpy(bias.data(), T(1), slopes_.data() + i * 4 * d, 4 * d);
    std::copy_n(bias.data(), 3 * d, out_[kStateBiasIh]);
    std::copy_n(bias.data(), 2 * d, out_[kStateBiasHh]);
    std::copy_n(bias.data() + 3 * d, d, out_[kStateBiasHh] + 2 * d);
  }

  // Gradients of layers from those of their products with each other, or of their means.
  void take_apart() {
    const int64_t d = w_.d, inputs = l_.inputs(), features = w_.features(), width = l_.width;
    const Matrix<T> folded = rows_of<T>(dfolded_.data(), inputs);
    Products<T> last;
    last.add(rows_of(l_.layer[kStateIh], d).t(), folded, d, 3 * d, inputs, out_[kLinState]);
    last.add(folded, rows_of(l_.layer[kLinState], inputs).t(), 3 * d, inputs, d, out_[kStateIh]);
    last.run();
    for (int64_t h = 0; h < l_.heads; ++h) {
      const int64_t from = w_.heads > 0 ? h : 0;
      const T scale = w_.heads > 0 ? T(1) : T(1) / static_cast<T>(l_.heads);
      T *weight = out_[kPool] + h * width * features, *bias = out_[kPoolBias] + h * width;
      for (int64_t k = 0; k < width * features; ++k) weight[k] = scale * dprojection_[from * width * features + k];
      for (int64_t k = 0; k < width; ++k) bias[k] = scale * doffset_[from * width + k];
      if (w_.heads == 0) continue;
      const T *attn = l_.layer[kAttn] + h * width, *dquery = dquery_.data() + h * features;
      const T *projection = l_.projection.data() + h * width * features, *offset = l_.offset.data() + h * width;
      for (int64_t k = 0; k < width; ++k) {
        axpy(weight + k * features, attn[k], dquery, features);
        bias[k] += attn[k] * dconstant_[h];
        out_[kAttn][h * width + k] = dot(projection + k * features, dquery, features) + offset[k] * dconstant_[h];
      }
    }
  }

  const NatLayers<T>& l_;
  const NatWeights<T>& w_;
  const Pairs& pairs_;
  const NatSaved<T>& saved_;
  T* out_[kAttn + 1] = {};
  Blank<T> dhidden_, dread_, doffset_, dprojection_, dnow_, dquery_, dconstant_, slopes_, dfolded_;
  Products<T> products_;  // of the layers, once all that they read is there
};

}  // namespace graphmem
