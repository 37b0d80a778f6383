// Dynamic scheduling over torch's thread pool. Every output element belongs to one chunk, so which thread runs a chunk
// never shows in the result.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace graphmem {

// A thread that sleeps (OMP_WAIT_POLICY=passive) needs 50 to 100 microseconds to wake up: work of fewer nanoseconds is
// done before two threads would have it done.
#ifndef GRAPHMEM_WORTH_WAKING
#define GRAPHMEM_WORTH_WAKING (int64_t{1} << 17)
#endif
constexpr int64_t kWorthWaking = GRAPHMEM_WORTH_WAKING;

// Calls f(begin, end) over [0, n) in chunks; threads fetch chunks as they become free, because the cost of a pair is
// heavy-tailed and an even split by count would leave threads idle. `work`: about how many nanoseconds one thread takes.
template <class F>
void parallel_chunks(int64_t n, int64_t chunk, int64_t work, const F& f) {
  const int64_t chunks = (n + chunk - 1) / chunk;
  const int64_t threads = work < kWorthWaking ? 1 : std::min<int64_t>(torch::stable::get_num_threads(), chunks);
  if (threads <= 1) {
    if (n > 0) f(int64_t{0}, n);
    return;
  }
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      // Relaxed: chunks share nothing. An ordering here would hide from the thread sanitizer whatever they did share.
      const auto fetch = [&next] { return next.fetch_add(1, std::memory_order_relaxed); };
      for (int64_t c = fetch(); c < chunks; c = fetch()) {
        f(c * chunk, std::min(n, (c + 1) * chunk));
      }
    }
  });
}

// The same where each chunk is worth a thread.
template <class F>
void parallel_chunks(int64_t n, int64_t chunk, const F& f) {
  parallel_chunks(n, chunk, kWorthWaking, f);
}

// Calls f(begin, end) for one slice of [0, n) a thread, whose ends are multiples of 16: for sums into rows that are met in
// any order, of which every thread adds up columns of its own. Wide slices, because lines that two slices share travel
// between the caches. `work`: as of parallel_chunks.
template <class F>
void parallel_slices(int64_t n, int64_t work, const F& f) {
  const int64_t threads = std::max<int64_t>(torch::stable::get_num_threads(), 1);
  parallel_chunks(n, std::max<int64_t>((n + threads * 16 - 1) / (threads * 16), 1) * 16, work, f);
}

}  // namespace graphmem
