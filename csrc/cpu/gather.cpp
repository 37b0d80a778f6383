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

// A block of one list. `kPlain`: every entry counts once, so that nothing but rows is read and added.
template <int64_t kWidth, bool kFar, bool kPlain, class Index, class X, class Acc>
GRAPHMEM_INLINE void gather_block(const Entries<Index, Acc>& lists, int64_t s, int64_t end, const X* x, int64_t stride,
                                  int64_t width, X* to) {
  Acc sums[kWidth] = {};
  const Index* idx = lists.idx;
  const int64_t last = lists.ptr[s + 1], ahead = lists.ptr[end] - kAhead;
  for (int64_t k = lists.ptr[s]; k < last; ++k) {
    if (kFar && k < ahead) {
      const char* next = reinterpret_cast<const char*>(x + idx[k + kAhead] * stride);
      for (int64_t byte = 0; byte < width * int64_t{sizeof(X)}; byte += kLine) __builtin_prefetch(next + byte);
    }
    Acc weight(1);
    if (!kPlain && !entry(lists, k, weight)) continue;
    asm volatile("");  // or GCC 12 vectorises over the entries, with sums in memory: ten times as slow
    const X* row = x + idx[k] * stride;
    if (width == kWidth) {
      for (int64_t f = 0; f < kWidth; ++f) sums[f] += weight * static_cast<Acc>(row[f]);
    } else {
      for (int64_t f = 0; f < width; ++f) sums[f] += weight * static_cast<Acc>(row[f]);
    }
  }
  for (int64_t f = 0; f < width; ++f) to[f] = static_cast<X>(sums[f]);
}

template <bool kFar, bool kPlain, class Index, class X, class Acc>
GRAPHMEM_INLINE void gather_all(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, int64_t width,
                                int64_t stride, const X* x, X* out) {
  for (int64_t s = begin; s < end; ++s) {
    X* to = out + s * stride;
    int64_t f = 0;
    for (; f + 128 <= width; f += 128) gather_block<128, kFar, kPlain>(lists, s, end, x + f, stride, 128, to + f);
    for (; f + 64 <= width; f += 64) gather_block<64, kFar, kPlain>(lists, s, end, x + f, stride, 64, to + f);
    for (; f + 32 <= width; f += 32) gather_block<32, kFar, kPlain>(lists, s, end, x + f, stride, 32, to + f);
    if (f < width) gather_block<32, kFar, kPlain>(lists, s, end, x + f, stride, width - f, to + f);
  }
}

template <int64_t kWidth, bool kFar, class Index, class X, class Acc>
GRAPHMEM_INLINE void scatter_block(const Entries<Index, Acc>& lists, int64_t s, int64_t end, const X* grad,
                                   int64_t width, Acc* sums, int64_t stride) {
  Acc from[kWidth] = {};
  for (int64_t f = 0; f < width; ++f) from[f] = static_cast<Acc>(grad[f]);
  const int64_t ahead = lists.ptr[end] - kAhead;
  for (int64_t k = lists.ptr[s]; k < lists.ptr[s + 1]; ++k) {
    if (kFar && k < ahead) {
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

template <bool kFar, class Index, class X, class Acc>
GRAPHMEM_INLINE void scatter_all(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, int64_t width,
                                 int64_t stride, const X* grad, Acc* sums) {
  for (int64_t s = begin; s < end; ++s) {
    const X* from = grad + s * stride;
    int64_t f = 0;
    for (; f + 64 <= width; f += 64) scatter_block<64, kFar>(lists, s, end, from + f, 64, sums + f, stride);
    for (; f + 32 <= width; f += 32) scatter_block<32, kFar>(lists, s, end, from + f, 32, sums + f, stride);
    if (f < width) scatter_block<32, kFar>(lists, s, end, from + f, width - f, sums + f, stride);
  }
}

}  // namespace

// Function multiversioning does not reach into templates, so each combination has clones of its own.
#define GRAPHMEM_DEFINE(Index, X, Acc)                                                                                \
  GRAPHMEM_CLONES void gather(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, int64_t width, bool far,  \
                              int64_t stride, const X* x, X* out) {                                                   \
    const bool plain = lists.weight == nullptr && lists.keep == nullptr;                                              \
    if (plain && far) {                                                                                               \
      gather_all<true, true>(lists, begin, end, width, stride, x, out);                                               \
    } else if (plain) {                                                                                               \
      gather_all<false, true>(lists, begin, end, width, stride, x, out);                                              \
    } else if (far) {                                                                                                 \
      gather_all<true, false>(lists, begin, end, width, stride, x, out);                                              \
    } else {                                                                                                          \
      gather_all<false, false>(lists, begin, end, width, stride, x, out);                                             \
    }                                                                                                                 \
  }                                                                                                                   \
  GRAPHMEM_CLONES void scatter(const Entries<Index, Acc>& lists, int64_t begin, int64_t end, int64_t width, bool far, \
                               int64_t stride, const X* grad, Acc* sums) {                                            \
    if (far) {                                                                                                        \
      scatter_all<true>(lists, begin, end, width, stride, grad, sums);                                                \
    } else {                                                                                                          \
      scatter_all<false>(lists, begin, end, width, stride, grad, sums);                                               \
    }                                                                                                                 \
  }
GRAPHMEM_EVERY_GATHER(GRAPHMEM_DEFINE)
#undef GRAPHMEM_DEFINE

}  // namespace graphmem
