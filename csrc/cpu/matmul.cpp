// matmul: op(a) op(b) + bias, op = transpose where asked; a perceptron's layer and both of its gradients.
//
// One thread computes whole rows of the output, so every element is one chain of sums (cpu/gemm.h) and the bits do not
// depend on the number of threads.
#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "cpu/fresh.h"
#include "cpu/gemm.h"
#include "cpu/parallel.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "matmul";
// Rows of a task: a multiple of every tile's height, small enough that two threads end together on a thousand rows.
constexpr int64_t kRows = 48;
// Panels that one task packs. Waking a thread takes longer than packing a small matrix, or than a small product.
constexpr int64_t kPanels = 4, kSmall = 1 << 17, kSmallProduct = 1 << 22;

template <class T>
void run(const Tensor& a, const Tensor& b, const std::optional<Tensor>& bias, bool transpose_a, bool transpose_b,
         int64_t m, int64_t k, int64_t n, Tensor& out) {
  const T *left = data<T>(kOp, "a", a, a.sizes()), *right = data<T>(kOp, "b", b, b.sizes());
  const T* offset = data<T>(kOp, "bias", bias, {n});
  T* result = static_cast<T*>(out.mutable_data_ptr());
  Tensor buffer = torch::stable::new_empty(b, {packed_size<T>(k, n)});
  T* packed = static_cast<T*>(buffer.mutable_data_ptr());
  const int64_t panels = num_panels<T>(n);
  parallel_chunks(panels, k * n > kSmall ? kPanels : std::max<int64_t>(panels, 1), [&](int64_t first, int64_t last) {
    pack_panels(right, transpose_b ? 1 : n, transpose_b ? k : 1, k, n, first, last, packed);
  });
  const int64_t row = transpose_a ? 1 : k, col = transpose_a ? m : 1;
  parallel_chunks(m, m * k * n > kSmallProduct ? kRows : std::max<int64_t>(m, 1), [&](int64_t first, int64_t last) {
    multiply_packed(left + first * row, row, col, packed, offset, last - first, k, n, result + first * n);
  });
}

Tensor matmul_cpu(Tensor a, Tensor b, std::optional<Tensor> bias, bool transpose_a, bool transpose_b) {
  expect_shape(kOp, "a", a, {kAny, kAny});
  const int64_t m = a.size(transpose_a ? 1 : 0), k = a.size(transpose_a ? 0 : 1);
  expect_shape(kOp, "b", b, {transpose_b ? kAny : k, transpose_b ? k : kAny});
  const int64_t n = b.size(transpose_b ? 0 : 1);
  Tensor out = fresh(a, {m, n});
  if (a.scalar_type() == ScalarType::Float) {
    run<float>(a, b, bias, transpose_a, transpose_b, m, k, n, out);
  } else {
    STD_TORCH_CHECK(a.scalar_type() == ScalarType::Double, kOp, ": expected a of dtype Float or Double, got ",
                    a.scalar_type());
    run<double>(a, b, bias, transpose_a, transpose_b, m, k, n, out);
  }
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("matmul", TORCH_BOX(&graphmem::matmul_cpu)); }
