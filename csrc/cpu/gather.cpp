// See gather.h. Features are summed in blocks that stay in registers, so that an entry costs one load a lane.
#include "cpu/gather.h"

#include <algorithm>

#include "cpu/vector.h"

namespace graphmem {
namespace {

constexpr int64_t kLine = 64;
// Entries between the fetch of a row and its use: some hundred nanoseconds at a few nanoseconds an entry.
constexpr int64_t kAhead = 16;

template <class Index, class Acc>
GRAPHMEM_INLINE bool entry(const Entries<Index, Acc>& lists, int64_t k, Acc& weight) {
  const int64_t q = lists.slot == nullptr ? k : lists.slot[k];
  if (lists.keep != nullptr && !lists.keep[q]) return false;
  weight = lists.weight == nullptr ? Acc(1) : lists.weight[q];
  return true;
}

template <int64_t kWidth, class Index, class X, class Acc>
GRAPHMEM_INLINE void gather_block(const Entries<Index, Acc>& lists, int64_t s, int64_t end, const X* x, int64_t stride,
                                  int64_t width, bool far, X* out) {
  Acc sums[kWidth] = {};
  const int64_t ahead = lists.ptr[end] - kAhead;
  for (int64_t k = lists.ptr[s]; k < lists.ptr[s + 1]; ++k) {
    if (far && k < ahead) {
      const char* next = reinterpret_cast<const char*>(x + lists.idx[k + kAhead] * stride);
      for (int64_t byte = 0; byte < width * int64_t{sizeof(X)}; byte += kLine) __builtin_prefetch(next + byte);
    }
    Acc weight;
    if (!entry(lists, k, weight)) continue;
    const X* row = x + lists.idx[k] * stride;
    if (width == kWidth) {
      for (int64_t f = 0; f < kWidth; ++f) sums[f] += weight * static_cast<Acc>(row[f]);
    } else {
      for (int64_t f = 0; f < width; ++f) sums[f] += weight * static_cast<Acc>(row[f]);
    }
  }
  X* to = out + s * stride;
  for (int64_t f = 0; f < width; ++f) to[f] = static_cast<X>(sums[f]);
}

template <class Index, class X, class Acc>
GRAPHMEM_INLINE void gather_all(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, const X* x,
                                int64_t stride, int64_t first, int64_t last, bool far, X* out) {
  for (int64_t s = begin; s < end; ++s) {
    int64_t f = first;
    for (; f + 128 <= last; f += 128) gather_block<128>(lists, s, end, x + f, stride, 128, far, out + f);
    for (; f + 32 <= last; f += 32) gather_block<32>(lists, s, end, x + f, stride, 32, far, out + f);
    if (f < last) gather_block<32>(lists, s, end, x + f, stride, last - f, far, out + f);
  }
}

template <int64_t kWidth, class Index, class X, class Acc>
GRAPHMEM_INLINE void scatter_block(const Entries<Index, Acc>& lists, int64_t s, int64_t end, const X* grad,
                                   int64_t stride, int64_t width, bool far, Acc* sums) {
  Acc from[kWidth] = {};
  for (int64_t f = 0; f < width; ++f) from[f] = static_cast<Acc>(grad[s * stride + f]);
  const int64_t ahead = lists.ptr[end] - kAhead;
  for (int64_t k = lists.ptr[s]; k < lists.ptr[s + 1]; ++k) {
    if (far && k < ahead) {
      const char* next = reinterpret_cast<const char*>(sums + lists.idx[k + kAhead] * stride);
      for (int64_t byte = 0; byte < width * int64_t{sizeof(Acc)}; byte += kLine) __builtin_prefetch(next + byte, 1);
    }
    Acc weight;
    if (!entry(lists, k, weight)) continue;
    Acc* to = sums + lists.idx[k] * stride;
    if (width == kWidth) {
      for (int64_t f = 0; f < kWidth; ++f) to[f] += weight * from[f];
    } else {
      for (int64_t f = 0; f < width; ++f) to[f] += weight * from[f];
    }
  }
}

template <class Index, class X, class Acc>
GRAPHMEM_INLINE void scatter_all(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, const X* grad,
                                 int64_t stride, int64_t first, int64_t last, bool far, Acc* sums) {
  for (int64_t s = begin; s < end; ++s) {
    int64_t f = first;
    for (; f + 64 <= last; f += 64) scatter_block<64>(lists, s, end, grad + f, stride, 64, far, sums + f);
    for (; f + 32 <= last; f += 32) scatter_block<32>(lists, s, end, grad + f, stride, 32, far, sums + f);
    if (f < last) scatter_block<32>(lists, s, end, grad + f, stride, last - f, far, sums + f);
  }
}

}  // namespace

// Function multiversioning does not reach into templates, so each combination has clones of its own.
#define GRAPHMEM_DEFINE(Index, X, Acc)                                                                      \
  GRAPHMEM_CLONES void gather(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, const X* x,     \
                              int64_t stride, int64_t first, int64_t last, bool far, X* out) {              \
    if (far) {                                                                                              \
      gather_all(lists, begin, end, x, stride, first, last, true, out);                                     \
    } else {                                                                                                \
      gather_all(lists, begin, end, x, stride, first, last, false, out);                                    \
    }                                                                                                       \
  }                                                                                                         \
  GRAPHMEM_CLONES void scatter(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, const X* grad, \
                               int64_t stride, int64_t first, int64_t last, bool far, Acc* sums) {          \
    if (far) {                                                                                              \
      scatter_all(lists, begin, end, grad, stride, first, last, true, sums);                                \
    } else {                                                                                                \
      scatter_all(lists, begin, end, grad, stride, first, last, false, sums);                               \
    }                                                                                                       \
  }
GRAPHMEM_EVERY_GATHER(GRAPHMEM_DEFINE)
#undef GRAPHMEM_DEFINE

}  // namespace graphmem
