// What calls of kernels are made of, and how their outputs are compared.
#pragma once

#include <torch/csrc/stable/library.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <tuple>

namespace harness {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;
using Outputs = std::vector<Tensor>;

template <class... Results>
Outputs list(const std::tuple<Results...>& results) {
  return std::apply([](const auto&... each) { return Outputs{each...}; }, results);
}
inline Outputs list(const Tensor& result) { return {result}; }
inline Outputs list(const Outputs& result) { return result; }

template <class Result, class... Args>
Outputs call(const char* name, Args... args) {
  return list(torch::stable::find<Result(Args...)>(name)(args...));
}

template <class T>
Tensor tensor(std::vector<int64_t> sizes, ScalarType dtype, const std::function<T(int64_t)>& value) {
  Tensor out(std::move(sizes), dtype);
  T* data = static_cast<T*>(out.mutable_data_ptr());
  for (int64_t n = 0; n < out.numel(); ++n) data[n] = value(n);
  return out;
}

inline int failures = 0;
inline std::set<std::string> ran;

// `work` with one thread and with four: the same bytes.
inline void check(const std::string& name, const std::string& variant, const std::function<Outputs()>& work) {
  ran.insert(name);
  torch::stable::num_threads = 1;
  const Outputs expected = work();
  torch::stable::num_threads = 4;
  const Outputs found = work();
  for (size_t k = 0; k < expected.size(); ++k) {
    const size_t bytes = expected[k].numel() * expected[k].element_size();
    if (std::memcmp(expected[k].const_data_ptr(), found[k].const_data_ptr(), bytes) != 0) {
      std::printf("%s (%s): output %zu differs between 1 and 4 threads\n", name.c_str(), variant.c_str(), k);
      ++failures;
    }
  }
}

inline std::mt19937_64 random_bits(7);
inline int64_t below(int64_t bound) { return static_cast<int64_t>(random_bits() % static_cast<uint64_t>(bound)); }
inline float real() {
  return static_cast<float>(static_cast<double>(random_bits() >> 11) / 9007199254740992.0 * 2 - 1);
}

inline Tensor nodes_of(std::vector<int64_t> sizes, int64_t nodes) {
  return tensor<int64_t>(std::move(sizes), ScalarType::Long, [=](int64_t) { return below(nodes); });
}

inline Tensor matrix(std::vector<int64_t> sizes) {
  return tensor<float>(std::move(sizes), ScalarType::Float, [](int64_t) { return real(); });
}

inline const int64_t* longs(const Tensor& t) { return static_cast<const int64_t*>(t.const_data_ptr()); }

void dictionaries();

}  // namespace harness
