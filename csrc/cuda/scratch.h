// New tensors of the device, for results and for what lives as long as a call. Sizes are arguments of their own: nvcc 13
// makes no sense of a list in braces where it depends on a template.
#pragma once

#include "common/dispatch.h"
#include "cuda/runtime.h"

namespace graphmem {

// To be written before it is read.
template <class T, class... Sizes>
Tensor unset(const Tensor& like, Sizes... sizes) {
  const int64_t shape[] = {static_cast<int64_t>(sizes)...};
  constexpr ScalarType kDtype = torch::headeronly::CppTypeToScalarType<T>::value;
  return torch::stable::new_empty(like, Shape(shape, sizeof...(sizes)), kDtype);
}

template <class T, class... Sizes>
Tensor all_zeros(const Tensor& like, Sizes... sizes) {
  const int64_t shape[] = {static_cast<int64_t>(sizes)...};
  constexpr ScalarType kDtype = torch::headeronly::CppTypeToScalarType<T>::value;
  return torch::stable::new_zeros(like, Shape(shape, sizeof...(sizes)), kDtype);
}

}  // namespace graphmem
