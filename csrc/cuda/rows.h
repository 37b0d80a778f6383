// Sums of feature rows in registers: a thread owns a few features and adds row after row, so that a sum's order, and with
// it its bits, are those of the CPU. Rows in flight hide the latency of memory, not partial sums.
#pragma once

#include <cstdint>

#include "common/dispatch.h"
#include "cuda/runtime.h"

namespace graphmem {

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T value[kCount];
};

// Whether rows can be read and written four features at a time.
template <class T>
bool by_four(const T* rows, int64_t num_features) {
  return num_features % 4 == 0 && reinterpret_cast<uintptr_t>(rows) % (4 * sizeof(T)) == 0;
}

// The features that a thread of rank r in a group of kSize owns in a slice: kPacks packs of kPack, kSize packs apart.
template <int kSize, int kPack, int kPacks, class Acc>
class Sums {
 public:
  static constexpr int64_t kSlice = int64_t{kSize} * kPack * kPacks;

  __device__ Sums(int rank, int64_t slice_begin, int64_t num_features)
      : first_(slice_begin + int64_t{rank} * kPack), num_features_(num_features), sum_{} {}

  template <class X>
  __device__ void start_from(const X* row) {
    each([&](int q, int64_t f) {
      const auto pack = load(row + f);
      for (int v = 0; v < kPack; ++v) sum_[q][v] = static_cast<Acc>(pack.value[v]);
    });
  }

  // Adds weight(k) * row(k) for k in [0, count), in this order; a null row is left out. Four rows are in flight.
  template <class GetRow, class GetWeight>
  __device__ void add(int64_t count, GetRow&& row, GetWeight&& weight) {
    constexpr int kFlight = 4;
    using X = std::remove_cv_t<std::remove_pointer_t<decltype(row(int64_t{0}))>>;
    for (int64_t k = 0; k < count; k += kFlight) {
      const X* rows[kFlight];
      Pack<X, kPack> packs[kFlight][kPacks];
#pragma unroll
      for (int t = 0; t < kFlight; ++t) {
        rows[t] = k + t < count ? row(k + t) : nullptr;
        if (rows[t] != nullptr) each([&](int q, int64_t f) { packs[t][q] = load(rows[t] + f); });
      }
#pragma unroll
      for (int t = 0; t < kFlight; ++t) {
        if (rows[t] == nullptr) continue;
        const Acc w = weight(k + t);
        each([&](int q, int64_t) {
          for (int v = 0; v < kPack; ++v) sum_[q][v] += w * static_cast<Acc>(packs[t][q].value[v]);
        });
      }
    }
  }

  template <class X>
  __device__ void store(X* row) const {
    each([&](int q, int64_t f) {
      Pack<X, kPack> pack;
      for (int v = 0; v < kPack; ++v) pack.value[v] = static_cast<X>(sum_[q][v]);
      *reinterpret_cast<Pack<X, kPack>*>(row + f) = pack;
    });
  }

 private:
  template <class X>
  __device__ static Pack<X, kPack> load(const X* at) {
    return *reinterpret_cast<const Pack<X, kPack>*>(at);
  }

  // Calls f(number of the pack, its first feature); features are a multiple of kPack.
  template <class F>
  __device__ void each(F&& f) const {
#pragma unroll
    for (int q = 0; q < kPacks; ++q) {
      const int64_t at = first_ + int64_t{q} * kSize * kPack;
      if (at < num_features_) f(q, at);
    }
  }

  int64_t first_, num_features_;
  Acc sum_[kPacks][kPack];
};

}  // namespace graphmem
