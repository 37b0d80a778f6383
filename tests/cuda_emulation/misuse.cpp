// Kernels that a device would get wrong, and one that is right: what the emulator says of each. The name is the argument.
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>

#include "emulator.h"

namespace {

int64_t result[64];

void right(void*) {
  int* shared = reinterpret_cast<int*>(emulator::shared_memory());
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  const int other = shared[63 - threadIdx.x];
  const int half = __shfl_xor_sync(0xFFFFu << (threadIdx.x & 16), other, 8, 16);
  result[threadIdx.x] = half + __popc(__ballot_sync(0xFFFFFFFFu, threadIdx.x % 2 == 0));
}

void barrier_by_some(void*) {
  if (threadIdx.x < 40) __syncthreads();
}

void barriers_at_two_places(void*) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

void lane_has_ended(void*) {
  if (threadIdx.x % 32 != 3) __ballot_sync(0xFFFFFFFFu, true);
}

void lanes_at_two_places(void*) {
  if (threadIdx.x % 32 < 16) {
    __syncwarp();
  } else {
    __any_sync(0xFFFFFFFFu, true);
  }
}

void two_masks(void*) { __syncwarp(threadIdx.x % 32 < 16 ? 0xFFFFFFFFu : 0xFFFF0000u); }

void not_in_mask(void*) { __ballot_sync(0xFFu, true); }

void reads_unnamed_lane(void*) {
  if (threadIdx.x % 32 < 8) __shfl_sync(0xFFu, 1, 9);
}

void writes_past_shared(void*) { emulator::shared_memory()[256 + threadIdx.x] = 1; }

// Without the barrier a thread may read what its neighbour has not written yet.
void forgets_barrier(void*) {
  int* shared = reinterpret_cast<int*>(emulator::shared_memory());
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  const int other = shared[63 - threadIdx.x];
  if (other != static_cast<int>(63 - threadIdx.x)) result[0] = -1;
}

}  // namespace

int main(int count, char** names) {
  const std::map<std::string, void (*)(void*)> kernels{{"right", right},
                                                       {"barrier_by_some", barrier_by_some},
                                                       {"barriers_at_two_places", barriers_at_two_places},
                                                       {"lane_has_ended", lane_has_ended},
                                                       {"lanes_at_two_places", lanes_at_two_places},
                                                       {"two_masks", two_masks},
                                                       {"not_in_mask", not_in_mask},
                                                       {"reads_unnamed_lane", reads_unnamed_lane},
                                                       {"writes_past_shared", writes_past_shared},
                                                       {"forgets_barrier", forgets_barrier}};
  if (count != 2 || !kernels.count(names[1])) return 2;
  try {
    emulator::run(names[1], {3, 1, 1}, {64, 1, 1}, 256, kernels.at(names[1]), nullptr);
    // A launch that failed leaves no trace in the next.
    if (std::string(names[1]) == "right") emulator::run("right", {1, 1, 1}, {64, 1, 1}, 256, right, nullptr);
  } catch (const std::runtime_error& error) {
    std::puts(error.what());
    emulator::run("right", {1, 1, 1}, {64, 1, 1}, 256, right, nullptr);
  }
  for (int64_t number : result) std::printf("%d ", static_cast<int>(number));
  return 0;
}
