// From torch dtypes to C++ types, and from tensors to pointers. The Python faces hand over what fits; a direct caller of
// torch.ops is told what does not, instead of reading or writing outside of a tensor.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <optional>
#include <string>

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

// Both pass on what f returns.
template <class F>
auto dispatch_index(const char* op, const char* name, const Tensor& t, F&& f) {
  const ScalarType dtype = t.scalar_type();
  if (dtype == ScalarType::Int) return f(Type<int32_t>{});
  STD_TORCH_CHECK(dtype == ScalarType::Long, op, ": expected ", name, " of dtype Int or Long, got ", dtype);
  return f(Type<int64_t>{});
}

template <class F>
auto dispatch_feature(const char* op, const char* name, const Tensor& t, F&& f) {
  const ScalarType dtype = t.scalar_type();
  if (dtype == ScalarType::Float) return f(Type<float>{});
  if (dtype == ScalarType::Double) return f(Type<double>{});
  if (dtype == ScalarType::BFloat16) return f(Type<torch::headeronly::BFloat16>{});
  STD_TORCH_CHECK(dtype == ScalarType::Half, op, ": expected ", name, " of a floating-point dtype, got ", dtype);
  return f(Type<torch::headeronly::Half>{});
}

// Only the dtypes that sums run in.
template <class F>
auto dispatch_full(const char* op, const char* name, const Tensor& t, F&& f) {
  if (t.scalar_type() == ScalarType::Float) return f(Type<float>{});
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Double, op, ": expected ", name, " of dtype Float or Double, got ",
                  t.scalar_type());
  return f(Type<double>{});
}

inline ScalarType accumulate_dtype(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

#ifdef USE_CUDA
constexpr bool kOnHost = false;
#else
constexpr bool kOnHost = true;
#endif

// Stands for a size that may be any.
constexpr int64_t kAny = -1;

using Shape = torch::headeronly::IntHeaderOnlyArrayRef;

inline std::string shape_text(Shape sizes) {
  std::string text;
  for (const int64_t size : sizes) text += (text.empty() ? "" : ", ") + (size == kAny ? "*" : std::to_string(size));
  return "[" + text + "]";
}

inline void expect_shape(const char* op, const char* name, const Tensor& t, Shape shape) {
  const Shape found = t.sizes();
  const bool fits = std::equal(shape.begin(), shape.end(), found.begin(), found.end(),
                               [](int64_t want, int64_t size) { return want == kAny || want == size; });
  STD_TORCH_CHECK(fits, op, ": expected ", name, " of shape ", shape_text(shape), ", got ", shape_text(found));
}

// At least `low` rows. Ids are the caller's promise, but where there are some, a table without rows is a mistake.
inline void expect_rows(const char* op, const char* name, const Tensor& t, int64_t low) {
  STD_TORCH_CHECK(t.size(0) >= low, op, ": expected ", name, " with at least ", low, " in the first size, got ",
                  shape_text(t.sizes()));
}

inline void expect_rows(const char* op, const char* name, const std::optional<Tensor>& t, int64_t low) {
  if (t.has_value()) expect_rows(op, name, *t, low);
}

// The numbers of a tensor of this shape.
template <class T>
const T* data(const char* op, const char* name, const Tensor& t, Shape shape) {
  constexpr ScalarType kDtype = torch::headeronly::CppTypeToScalarType<T>::value;
  expect_shape(op, name, t, shape);
  STD_TORCH_CHECK(t.scalar_type() == kDtype, op, ": expected ", name, " of dtype ", kDtype, ", got ", t.scalar_type());
  STD_TORCH_CHECK(t.is_contiguous(), op, ": expected ", name, " to be contiguous");
  // A call comes here as soon as one of its tensors is on the device.
  if constexpr (!kOnHost) STD_TORCH_CHECK(t.is_cuda(), op, ": expected ", name, " on a CUDA device");
  return static_cast<const T*>(t.const_data_ptr());
}

template <class T>
const T* data(const char* op, const char* name, const std::optional<Tensor>& t, Shape shape) {
  return t.has_value() ? data<T>(op, name, *t, shape) : nullptr;
}

// Offsets of lists that together have `entries` entries. That they ascend is the caller's promise; their ends are looked
// at where that is two reads, so that offsets of another structure are seen.
inline const int64_t* offsets(const char* op, const char* name, const Tensor& t, int64_t entries) {
  const int64_t* ptr = data<int64_t>(op, name, t, {kAny});
  const int64_t count = t.size(0);
  expect_rows(op, name, t, 1);
  if constexpr (kOnHost) {
    STD_TORCH_CHECK(ptr[0] == 0 && ptr[count - 1] == entries, op, ": expected ", name, " of shape ",
                    shape_text(t.sizes()), " with offsets from 0 to ", entries, ", got ", ptr[0], " to ",
                    ptr[count - 1]);
  }
  return ptr;
}

// Sizes from here on are mistakes, as in the Python faces (MAX_SIZE in graphmem/ops/_check.py).
constexpr int64_t kMaxSize = int64_t{1} << 47;

inline void expect_number(const char* op, const char* name, int64_t value, int64_t low = 0, int64_t high = kMaxSize) {
  STD_TORCH_CHECK(low <= value && value <= high, op, ": expected ", name, " from ", low, " to ", high, ", got ", value);
}

// What the schema of an operator calls the arrays of a graph.
struct CsrNames {
  const char *rowptr = "rowptr", *col = "col", *keep = "keep", *weight = "weight";
};

// `ids`: how many rows the call asks for.
template <class Col, class Weight>
Csr<Col, Weight> make_csr(const char* op, const CsrNames& names, int64_t ids, const Tensor& rowptr, const Tensor& col,
                          const std::optional<Tensor>& keep = std::nullopt,
                          const std::optional<Tensor>& weight = std::nullopt) {
  const Col* columns = data<Col>(op, names.col, col, {kAny});
  const int64_t entries = col.size(0);
  const int64_t* rows = offsets(op, names.rowptr, rowptr, entries);
  if (ids > 0) expect_rows(op, names.rowptr, rowptr, 2);
  return {rows, columns, data<bool>(op, names.keep, keep, {entries}),
          data<Weight>(op, names.weight, weight, {entries})};
}

}  // namespace graphmem
