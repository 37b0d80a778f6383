// From torch dtypes to C++ types, and from optional tensors to pointers.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <optional>

#include "common/intersect.h"

namespace graphmem {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Sums of half-precision features run in float32; of float64 in float64.
template <class T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};

template <class T>
struct Type {
  using type = T;
};

template <class F>
void dispatch_index(const char* op, ScalarType dtype, F&& f) {
  if (dtype == ScalarType::Int) return f(Type<int32_t>{});
  if (dtype == ScalarType::Long) return f(Type<int64_t>{});
  STD_TORCH_CHECK(false, op, ": expected int32 or int64 indices, got scalar type ", static_cast<int>(dtype));
}

template <class F>
void dispatch_feature(const char* op, ScalarType dtype, F&& f) {
  if (dtype == ScalarType::Float) return f(Type<float>{});
  if (dtype == ScalarType::Double) return f(Type<double>{});
  if (dtype == ScalarType::BFloat16) return f(Type<torch::headeronly::BFloat16>{});
  if (dtype == ScalarType::Half) return f(Type<torch::headeronly::Half>{});
  STD_TORCH_CHECK(false, op, ": expected floating-point features, got scalar type ", static_cast<int>(dtype));
}

// The Python face hands over contiguous tensors; a direct caller of torch.ops is told so instead of reading garbage.
template <class T>
const T* data(const char* op, const char* name, const Tensor& t) {
  STD_TORCH_CHECK(t.is_contiguous(), op, ": expected ", name, " to be contiguous");
  STD_TORCH_CHECK(t.element_size() == sizeof(T), op, ": ", name, " has an unexpected dtype, scalar type ",
                  static_cast<int>(t.scalar_type()));
  return static_cast<const T*>(t.const_data_ptr());
}

template <class T>
const T* data(const char* op, const char* name, const std::optional<Tensor>& t) {
  return t.has_value() ? data<T>(op, name, *t) : nullptr;
}

inline ScalarType accumulate_dtype(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

template <class Col, class Weight>
Csr<Col, Weight> make_csr(const char* op, const Tensor& rowptr, const Tensor& col, const std::optional<Tensor>& keep,
                          const std::optional<Tensor>& weight = std::nullopt) {
  return {data<int64_t>(op, "rowptr", rowptr), data<Col>(op, "col", col), data<bool>(op, "keep", keep),
          data<Weight>(op, "weight", weight)};
}

}  // namespace graphmem
