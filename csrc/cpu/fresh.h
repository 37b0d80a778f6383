// New tensors for results. A result of some megabytes is fresh memory of the system nearly every time, and its first
// writing is a page fault every 4 KiB: as much time as a sparse operator's own work. Huge pages make it a fault every
// 2 MiB.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <optional>

#include "common/dispatch.h"
#include "cpu/parallel.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace graphmem {

// Asks for huge pages inside a buffer where it is large enough; where the system has none, nothing happens.
inline void prefer_huge_pages([[maybe_unused]] void* start, [[maybe_unused]] int64_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHuge = uintptr_t{1} << 21;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(start) + kHuge - 1) & ~(kHuge - 1);
  const uintptr_t last = (reinterpret_cast<uintptr_t>(start) + static_cast<uintptr_t>(bytes)) & ~(kHuge - 1);
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

inline Tensor advised(Tensor out) {
  prefer_huge_pages(out.mutable_data_ptr(), out.numel() * out.element_size());
  return out;
}

inline Tensor fresh(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef size,
                    std::optional<ScalarType> dtype = std::nullopt) {
  return advised(torch::stable::new_empty(like, size, dtype));
}

inline Tensor fresh_like(const Tensor& x) { return advised(torch::stable::empty_like(x)); }

inline Tensor fresh_zeros(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef size, ScalarType dtype) {
  Tensor out = fresh(like, size, dtype);
  char* start = static_cast<char*>(out.mutable_data_ptr());
  parallel_chunks(out.numel() * out.element_size(), int64_t{1} << 20,
                  [&](int64_t begin, int64_t end) { std::memset(start + begin, 0, end - begin); });
  return out;
}

}  // namespace graphmem
