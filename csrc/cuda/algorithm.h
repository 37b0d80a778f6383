// The algorithms that the operators take from CUB, without synchronisation; scratch space comes from torch's allocator.
#pragma once

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <type_traits>

#include "common/dispatch.h"
#include "cuda/runtime.h"

namespace graphmem {

// Runs a CUB algorithm: once to learn how much scratch space it needs, once to do it.
template <class Call>
void with_scratch(const char* op, const Tensor& like, Call&& call) {
  size_t bytes = 0;
  check_cuda(op, call(nullptr, bytes));
  Tensor scratch = torch::stable::new_empty(like, {static_cast<int64_t>(bytes) + 1}, ScalarType::Byte);
  check_cuda(op, call(scratch.mutable_data_ptr(), bytes));
}

// Sorts entries by key, stably: `values_out` are the values in the order of the keys, of which the lowest `bits` count.
template <class Key>
void sort_by_key(const char* op, const Device& device, const Tensor& like, const Key* keys, Key* keys_out,
                 const int64_t* values, int64_t* values_out, int64_t count, int bits) {
  using Unsigned = std::make_unsigned_t<Key>;
  with_scratch(op, like, [&](void* scratch, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(scratch, bytes, reinterpret_cast<const Unsigned*>(keys),
                                           reinterpret_cast<Unsigned*>(keys_out), values, values_out, count, 0, bits,
                                           device.stream());
  });
}

// out[n] = numbers[0] + ... + numbers[n].
inline void running_sum(const char* op, const Device& device, const Tensor& like, const int64_t* numbers, int64_t* out,
                        int64_t count) {
  with_scratch(op, like, [&](void* scratch, size_t& bytes) {
    return cub::DeviceScan::InclusiveSum(scratch, bytes, numbers, out, count, device.stream());
  });
}

}  // namespace graphmem
