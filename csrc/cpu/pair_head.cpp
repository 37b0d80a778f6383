// pair_head: the dense head of a pair decoder for evaluation, in blocks that stay in a core's cache.
//
//   v = h_i * h_j; for each of the first `num_pair_layers` layers: v = act(norm(v W^T + b));
//   v += branch[place]; the remaining layers; logit = <v, out_weight> + out_bias
//
// One task runs all layers of a block of pairs on one thread. Layer by layer on all threads, the same work waits for
// every thread at every layer and streams each activation through memory. The products are those of cpu/gemm.h, so the
// result depends neither on the blocks nor on the threads.
#include <torch/csrc/stable/library.h>

#include <cmath>

#include "common/dispatch.h"
#include "cpu/gemm.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "pair_head";
// 240 rows of 256 float32 are 240 KiB: the block's two buffers and the weights of a layer fit a second-level cache of
// 1 MiB. A multiple of every tile's height.
constexpr int64_t kBlock = 240;

template <class X>
struct Layer {
  const X* norm_weight;  // null: no normalisation
  const X* norm_bias;
  X eps;
  bool relu;
};

template <class X>
GRAPHMEM_INLINE void finish_row(X* v, const Layer<X>& layer, int64_t width) {
  if (layer.norm_weight != nullptr) {
    constexpr int64_t kLanes = 16;
    X sum[kLanes] = {}, square[kLanes] = {};
    for (int64_t f = 0; f < width; ++f) sum[f % kLanes] += v[f];
    X mean = 0, variance = 0;
    for (X lane : sum) mean += lane;
    mean /= static_cast<X>(width);
    for (int64_t f = 0; f < width; ++f) square[f % kLanes] += (v[f] - mean) * (v[f] - mean);
    for (X lane : square) variance += lane;
    const X rstd = X(1) / std::sqrt(variance / static_cast<X>(width) + layer.eps);
    for (int64_t f = 0; f < width; ++f) v[f] = (v[f] - mean) * rstd * layer.norm_weight[f] + layer.norm_bias[f];
  }
  if (layer.relu) {
    for (int64_t f = 0; f < width; ++f) v[f] = v[f] <= X(0) ? X(0) : v[f];
  }
}

template <class X>
GRAPHMEM_INLINE void multiply_row(X* v, const X* a, const X* b, int64_t width) {
  for (int64_t f = 0; f < width; ++f) v[f] = a[f] * b[f];
}

template <class X>
GRAPHMEM_INLINE X dot_row(const X* v, const X* w, int64_t width) {
  constexpr int64_t kLanes = 16;
  X sum[kLanes] = {};
  for (int64_t f = 0; f < width; ++f) sum[f % kLanes] += v[f] * w[f];
  X total = 0;
  for (X lane : sum) total += lane;
  return total;
}

// Function multiversioning does not reach into templates, so each dtype has clones of its own.
#define GRAPHMEM_HEAD_CLONES(X)                                                                               \
  GRAPHMEM_CLONES void finish(X* v, const Layer<X>& layer, int64_t rows, int64_t width) {                     \
    for (int64_t r = 0; r < rows; ++r) finish_row(v + r * width, layer, width);                               \
  }                                                                                                           \
  GRAPHMEM_CLONES void multiply(X* v, const X* h, const int64_t* source, const int64_t* target, int64_t rows, \
                                int64_t width) {                                                              \
    for (int64_t r = 0; r < rows; ++r)                                                                        \
      multiply_row(v + r * width, h + source[r] * width, h + target[r] * width, width);                       \
  }                                                                                                           \
  GRAPHMEM_CLONES void dots(X* out, const X* v, const X* w, X bias, int64_t rows, int64_t width) {            \
    for (int64_t r = 0; r < rows; ++r) out[r] = dot_row(v + r * width, w, width) + bias;                      \
  }
GRAPHMEM_HEAD_CLONES(float)
GRAPHMEM_HEAD_CLONES(double)
#undef GRAPHMEM_HEAD_CLONES

struct Arguments {
  Tensor h, pairs;
  std::optional<Tensor> branch, place;
  Tensor weights_t, biases, norm_weights, norm_biases, out_weight, out_bias;
  double eps;
  int64_t num_pair_layers, norm_mask, relu_mask;
};

template <class X>
void run(const Arguments& a, X* out) {
  const X* h = data<X>(kOp, "h", a.h, {kAny, kAny});
  const int64_t num_pairs = a.pairs.size(1), width = a.h.size(1);
  expect_rows(kOp, "h", a.h, num_pairs > 0);
  const X* weights = data<X>(kOp, "weights_t", a.weights_t, {kAny, width, width});
  const int64_t layers = a.weights_t.size(0);
  expect_number(kOp, "num_pair_layers", a.num_pair_layers, 0, layers);
  STD_TORCH_CHECK(a.branch.has_value() == a.place.has_value(), kOp, ": expected both or neither of branch and place");
  const int64_t* ends = data<int64_t>(kOp, "pairs", a.pairs, {2, num_pairs});
  const X* branch = data<X>(kOp, "branch", a.branch, {kAny, width});
  expect_rows(kOp, "branch", a.branch, num_pairs > 0);
  const int64_t* place = data<int64_t>(kOp, "place", a.place, {num_pairs});
  const X* biases = data<X>(kOp, "biases", a.biases, {layers, width});
  const X* norm_weights = data<X>(kOp, "norm_weights", a.norm_weights, {layers, width});
  const X* norm_biases = data<X>(kOp, "norm_biases", a.norm_biases, {layers, width});
  const X* w = data<X>(kOp, "out_weight", a.out_weight, {width});
  const X bias = *data<X>(kOp, "out_bias", a.out_bias, {1});
  const int64_t size = packed_size<X>(width, width);
  Tensor buffer = torch::stable::new_empty(a.h, {layers * size});
  X* packed = static_cast<X*>(buffer.mutable_data_ptr());
  for (int64_t l = 0; l < layers; ++l)
    pack_panels(weights + l * width * width, width, 1, width, width, 0, num_panels<X>(width), packed + l * size);
  parallel_chunks(num_pairs, kBlock, [&](int64_t first, int64_t last) {
    Tensor buffers = torch::stable::new_empty(a.h, {2 * std::min(kBlock, last - first) * width});
    X* now = static_cast<X*>(buffers.mutable_data_ptr());
    X* next = now + std::min(kBlock, last - first) * width;
    for (int64_t begin = first; begin < last; begin += kBlock) {
      const int64_t rows = std::min(kBlock, last - begin);
      multiply(now, h, ends + begin, ends + num_pairs + begin, rows, width);
      for (int64_t l = 0; l <= layers; ++l) {
        if (l == a.num_pair_layers && branch != nullptr) {
          for (int64_t r = 0; r < rows; ++r) axpy(now + r * width, X(1), branch + place[begin + r] * width, width);
        }
        if (l == layers) break;
        multiply_packed(now, width, 1, packed + l * size, biases + l * width, rows, width, width, next);
        std::swap(now, next);
        const bool norm = (a.norm_mask >> l) & 1;
        const Layer<X> layer{norm ? norm_weights + l * width : nullptr, norm_biases + l * width, static_cast<X>(a.eps),
                             static_cast<bool>((a.relu_mask >> l) & 1)};
        finish(now, layer, rows, width);
      }
      dots(out + begin, now, w, bias, rows, width);
    }
  });
}

Tensor pair_head_cpu(Tensor h, Tensor pairs, std::optional<Tensor> branch, std::optional<Tensor> place,
                     Tensor weights_t, Tensor biases, Tensor norm_weights, Tensor norm_biases, Tensor out_weight,
                     Tensor out_bias, double eps, int64_t num_pair_layers, int64_t norm_mask, int64_t relu_mask) {
  expect_shape(kOp, "pairs", pairs, {2, kAny});
  Tensor out = torch::stable::new_empty(h, {pairs.size(1)});
  const Arguments a{h,           pairs,      branch,   place, weights_t,       biases,    norm_weights,
                    norm_biases, out_weight, out_bias, eps,   num_pair_layers, norm_mask, relu_mask};
  if (h.scalar_type() == ScalarType::Float) {
    run<float>(a, static_cast<float*>(out.mutable_data_ptr()));
  } else {
    STD_TORCH_CHECK(h.scalar_type() == ScalarType::Double, kOp, ": expected h of dtype Float or Double, got ",
                    h.scalar_type());
    run<double>(a, static_cast<double*>(out.mutable_data_ptr()));
  }
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("pair_head", TORCH_BOX(&graphmem::pair_head_cpu)); }
