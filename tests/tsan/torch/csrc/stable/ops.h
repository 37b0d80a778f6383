// See tensor.h.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/HeaderOnlyArrayRef.h>

#include <algorithm>
#include <cstring>
#include <latch>
#include <optional>
#include <thread>

namespace torch::stable {

inline int64_t num_threads = 1;
inline int64_t get_num_threads() { return num_threads; }

inline Tensor new_empty(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
                        std::optional<ScalarType> dtype = {}) {
  return Tensor(std::vector<int64_t>(sizes.begin(), sizes.end()), dtype.value_or(like.scalar_type()));
}

inline Tensor new_zeros(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
                        std::optional<ScalarType> dtype = {}) {
  Tensor out = new_empty(like, sizes, dtype);
  std::memset(out.mutable_data_ptr(), 0, out.numel() * out.element_size());
  return out;
}

inline Tensor empty_like(const Tensor& like) { return Tensor(like.sizes(), like.scalar_type()); }

inline Tensor to(const Tensor&, ScalarType) { throw std::runtime_error("conversion is torch's work, not a kernel's"); }

// Calls f(begin, end) for one part of the range a thread; fresh threads that start together and are joined at the end.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const F& f) {
  const int64_t n = end - begin, most = (n + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1);
  const int64_t threads = std::min(num_threads, most);
  std::vector<std::thread> pool;
  std::latch together(threads);
  for (int64_t t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      together.arrive_and_wait();
      f(begin + t * n / threads, begin + (t + 1) * n / threads);
    });
  }
  for (std::thread& thread : pool) thread.join();
}

}  // namespace torch::stable
