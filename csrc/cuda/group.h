// Threads that work on one item together: 8, 16 or 32 lanes of a warp, or a whole block. A kernel written for a group runs
// on either. All threads of a group call its functions together.
#pragma once

#include "cuda/runtime.h"

namespace graphmem {

template <int kLanes>
class Lanes {
 public:
  static constexpr int kSize = kLanes;

  __device__ Lanes() : rank_(static_cast<int>(threadIdx.x) % kLanes) {
    const int first = static_cast<int>(threadIdx.x) % 32 / kLanes * kLanes;
    mask_ = static_cast<unsigned>((uint64_t{1} << kLanes) - 1) << first;
    first_ = first;
  }

  __device__ int rank() const { return rank_; }
  __device__ void sync() const { __syncwarp(mask_); }

  // Bit l: the flag of the thread of rank l.
  __device__ unsigned ballot(bool flag) const { return (__ballot_sync(mask_, flag) & mask_) >> first_; }

  // The value of the thread of this rank.
  template <class T>
  __device__ T shuffle(T value, int rank) const {
    return __shfl_sync(mask_, value, rank, kLanes);
  }

  // Number of threads before this one whose flag is set; `total` that of all.
  __device__ int place(bool flag, int& total) const {
    const unsigned flags = ballot(flag);
    total = __popc(flags);
    return __popc(flags & ((1u << rank_) - 1));
  }

  // Sum over the group, by halves: thread l adds the number of thread l + step for step = kLanes / 2, ..., 2, 1. Every
  // thread gets the result of thread 0, the order of which is that of `add_lanes` on the CPU.
  template <class T>
  __device__ T sum(T value) const {
    for (int step = kLanes / 2; step > 0; step /= 2) value += __shfl_down_sync(mask_, value, step, kLanes);
    return shuffle(value, 0);
  }

  // Largest over the group.
  template <class T>
  __device__ T largest(T value) const {
    for (int step = kLanes / 2; step > 0; step /= 2) {
      const T other = __shfl_xor_sync(mask_, value, step, kLanes);
      value = value < other ? other : value;
    }
    return value;
  }

 private:
  unsigned mask_;
  int rank_, first_;
};

// `scratch`: one int a warp, in shared memory.
class Block {
 public:
  static constexpr int kSize = kThreads;

  __device__ explicit Block(int* scratch) : scratch_(scratch) {}

  __device__ int rank() const { return static_cast<int>(threadIdx.x); }
  __device__ void sync() const { __syncthreads(); }

  __device__ int place(bool flag, int& total) const {
    const Lanes<32> warp;
    int in_warp;
    const int before = warp.place(flag, in_warp);
    const int own = rank() / 32;
    if (warp.rank() == 0) scratch_[own] = in_warp;
    __syncthreads();
    int first = 0, all = 0;
    for (int w = 0; w < kSize / 32; ++w) {
      if (w == own) first = all;
      all += scratch_[w];
    }
    __syncthreads();
    total = all;
    return first + before;
  }

 private:
  int* scratch_;
};

}  // namespace graphmem
