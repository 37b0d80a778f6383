// Half events in the order of their owners, for the operators that enter a batch into rows.
#pragma once

#include <bit>

#include "common/events.h"
#include "cuda/algorithm.h"

namespace graphmem {

template <class Time>
__global__ void list_owners(Events<Time> events, int64_t* owners, int64_t* halves) {
  const int64_t half = global_thread();
  if (half >= 2 * events.count) return;
  owners[half] = events.owner(half);
  halves[half] = half;
}

struct Halves {
  Tensor scratch;
  const int64_t* owners = nullptr;  // ascending
  const int64_t* order = nullptr;   // half events: those of an owner in their order

  template <class Time>
  Halves(const char* op, const Device& device, const Tensor& like, const Events<Time>& events, int64_t nodes)
      : scratch(torch::stable::new_empty(like, {4, 2 * events.count}, ScalarType::Long)) {
    const int64_t total = 2 * events.count;
    int64_t* given = static_cast<int64_t*>(scratch.mutable_data_ptr());
    int64_t *halves = given + total, *sorted = halves + total, *ordered = sorted + total;
    launch(op, device, list_owners<Time>, {blocks_for(total, kThreads)}, kThreads, 0, events, given, halves);
    // A bit at least, or nothing would be copied.
    const int bits = std::max<int>(std::bit_width(static_cast<uint64_t>(nodes - 1)), 1);
    sort_by_key(op, device, like, given, sorted, halves, ordered, total, bits);
    owners = sorted;
    order = ordered;
  }
};

// Events with numbers raise `next_event`; without, it is read until `move_on`.
template <class Time>
__device__ void raise_next_event(const Events<Time>& events, int64_t e) {
  if (events.event == nullptr) return;
  atomicMax(reinterpret_cast<long long*>(events.next_event), static_cast<long long>(behind(events.event[e], 1)));
}

// By one thread, behind all others.
template <class Time>
__device__ void move_on(const Events<Time>& events, Time* latest) {
  if (events.count == 0) return;
  *latest = events.time_of(events.count - 1);
  if (events.event == nullptr) *events.next_event = behind(*events.next_event, events.count);
}

}  // namespace graphmem
