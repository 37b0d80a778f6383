// head_matmul: op(a) op(b) of each of some heads, op = transpose where asked, without copies of what lies in strides.
//
// All products stand in one parallel region; an element is one chain of sums (cpu/gemm.h), as of matmul.
#include <torch/csrc/stable/library.h>

#include "common/dispatch.h"
#include "cpu/fresh.h"
#include "cpu/products.h"

namespace graphmem {
namespace {

constexpr const char* kOp = "head_matmul";

// The numbers of a head's matrix, whatever their strides.
template <class T>
Matrix<T> matrix_of(const char* name, const Tensor& t, bool transpose) {
  constexpr ScalarType kDtype = torch::headeronly::CppTypeToScalarType<T>::value;
  STD_TORCH_CHECK(t.scalar_type() == kDtype, kOp, ": expected ", name, " of dtype ", kDtype, ", got ", t.scalar_type());
  const Matrix<T> found{static_cast<const T*>(t.const_data_ptr()), t.stride(1), t.stride(2)};
  return transpose ? found.t() : found;
}

Tensor head_matmul_cpu(Tensor a, Tensor b, bool transpose_a, bool transpose_b, bool rows_first) {
  expect_shape(kOp, "a", a, {kAny, kAny, kAny});
  const int64_t heads = a.size(0), m = a.size(transpose_a ? 2 : 1), k = a.size(transpose_a ? 1 : 2);
  expect_shape(kOp, "b", b, {heads, transpose_b ? kAny : k, transpose_b ? k : kAny});
  const int64_t n = b.size(transpose_b ? 1 : 2);
  Tensor out = rows_first ? fresh(a, {m, heads, n}) : fresh(a, {heads, m, n});
  dispatch_full(kOp, "a", a, [&](auto type) {
    using T = typename decltype(type)::type;
    const Matrix<T> left = matrix_of<T>("a", a, transpose_a), right = matrix_of<T>("b", b, transpose_b);
    T* result = static_cast<T*>(out.mutable_data_ptr());
    Products<T> products;
    for (int64_t h = 0; h < heads; ++h) {
      products.add({left.data + h * a.stride(0), left.row, left.col},
                   {right.data + h * b.stride(0), right.row, right.col}, m, k, n, result + h * (rows_first ? n : m * n),
                   rows_first ? heads * n : n);
    }
    products.run();
  });
  return out;
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("head_matmul", TORCH_BOX(&graphmem::head_matmul_cpu)); }
