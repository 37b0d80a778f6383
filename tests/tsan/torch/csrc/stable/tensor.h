// A stand-in for the part of torch's stable ABI that the CPU kernels use, on std::thread, so that ThreadSanitizer sees
// every thread: torch's own pool is not built with it. Tests only.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace torch::stable {

using headeronly::ScalarType;

inline int64_t size_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Bool:
      return 1;
    case ScalarType::Half:
    case ScalarType::BFloat16:
      return 2;
    case ScalarType::Int:
    case ScalarType::Float:
      return 4;
    case ScalarType::Long:
    case ScalarType::Double:
      return 8;
    default:
      throw std::runtime_error("no such dtype here");
  }
}

// Contiguous memory with a shape, shared by copies as torch's is.
class Tensor {
 public:
  Tensor(std::vector<int64_t> sizes, ScalarType dtype) : sizes_(std::move(sizes)), dtype_(dtype) {
    // Memory of its own, not filled: writes of the kernels are the first ones that the sanitizer sees.
    bytes_.reset(new std::byte[numel() * element_size() + 1]);
  }

  int64_t dim() const { return static_cast<int64_t>(sizes_.size()); }
  int64_t size(int64_t d) const { return sizes_.at(d); }
  const std::vector<int64_t>& sizes() const { return sizes_; }
  int64_t numel() const {
    int64_t n = 1;
    for (const int64_t size : sizes_) n *= size;
    return n;
  }
  ScalarType scalar_type() const { return dtype_; }
  int64_t element_size() const { return size_of(dtype_); }
  bool is_contiguous() const { return true; }
  int64_t stride(int64_t d) const {
    int64_t step = 1;
    for (size_t k = sizes_.size() - 1; k > static_cast<size_t>(d); --k) step *= sizes_[k];
    return step;
  }
  bool is_cuda() const { return false; }
  const void* const_data_ptr() const { return bytes_.get(); }
  void* mutable_data_ptr() const { return bytes_.get(); }

 private:
  std::vector<int64_t> sizes_;
  ScalarType dtype_;
  std::shared_ptr<std::byte[]> bytes_;
};

}  // namespace torch::stable
