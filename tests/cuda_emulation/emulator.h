// Runs CUDA kernels on a CPU, one block after another. A block's threads are fibers that give way only at barriers and
// warp primitives; a warp runs ahead of the others until it has to wait for them, warps and lanes in a shuffled order. For
// the logic of a kernel, not for its speed: memory is the host's, and there is one address space. What it checks beside
// results:
//   - a barrier or warp primitive is reached by every thread it names, at the same place of the source, with one mask;
//   - shared memory starts as garbage, the same for every block, and nothing is written outside of what was asked for;
//   - a grid, a block and a mask are such as a device accepts.
// The order (another for every block and launch, the same in every run) makes a forgotten barrier show as a wrong result
// or an uninitialised read.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>

namespace emulator {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// Of the thread that runs now.
extern Dim3 thread_index, block_index, block_size, grid_size;

constexpr int kWarp = 32;
using Where = std::source_location;

// Runs body(context) for every thread of every block. Throws std::runtime_error where a check above fails.
void run(const char* op, Dim3 grid, Dim3 block, int64_t shared, void (*body)(void*), void* context);

unsigned char* shared_memory();

// Waits for the other threads of the block, or for the lanes of `mask`.
void barrier(Where where);
// Also hands `value` to the lanes of `mask` and returns what each of them handed over, by lane.
const uint64_t* exchange(const char* primitive, unsigned mask, uint64_t value, Where where);
int lane();

template <class T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// Reading a lane that the mask does not name is undefined on a device, and an error here.
uint64_t lane_value(const char* primitive, const uint64_t* values, unsigned mask, int from, Where where);

}  // namespace emulator

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

#define threadIdx (::emulator::thread_index)
#define blockIdx (::emulator::block_index)
#define blockDim (::emulator::block_size)
#define gridDim (::emulator::grid_size)

inline void __syncthreads(emulator::Where where = emulator::Where::current()) { emulator::barrier(where); }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, emulator::Where where = emulator::Where::current()) {
  emulator::exchange("__syncwarp", mask, 0, where);
}

inline unsigned __ballot_sync(unsigned mask, bool predicate, emulator::Where where = emulator::Where::current()) {
  const uint64_t* values = emulator::exchange("__ballot_sync", mask, predicate, where);
  unsigned result = 0;
  for (int l = 0; l < emulator::kWarp; ++l) {
    if ((mask >> l & 1) && values[l]) result |= 1u << l;
  }
  return result;
}
inline bool __any_sync(unsigned mask, bool predicate, emulator::Where where = emulator::Where::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline bool __all_sync(unsigned mask, bool predicate, emulator::Where where = emulator::Where::current()) {
  return __ballot_sync(mask, predicate, where) == mask;
}

// A lane outside its section of `width` lanes gets its own value, as on a device.
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = emulator::kWarp,
              emulator::Where where = emulator::Where::current()) {
  const uint64_t* values = emulator::exchange("__shfl_sync", mask, emulator::to_bits(value), where);
  const int section = emulator::lane() / width * width;
  const int source = section + ((from % width) + width) % width;
  return emulator::from_bits<T>(emulator::lane_value("__shfl_sync", values, mask, source, where));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = emulator::kWarp,
                   emulator::Where where = emulator::Where::current()) {
  const uint64_t* values = emulator::exchange("__shfl_down_sync", mask, emulator::to_bits(value), where);
  const int lane = emulator::lane(), last = lane / width * width + width - 1;
  const int source = lane + static_cast<int>(delta) <= last ? lane + static_cast<int>(delta) : lane;
  return emulator::from_bits<T>(emulator::lane_value("__shfl_down_sync", values, mask, source, where));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = emulator::kWarp,
                  emulator::Where where = emulator::Where::current()) {
  const uint64_t* values = emulator::exchange("__shfl_xor_sync", mask, emulator::to_bits(value), where);
  const int lane = emulator::lane(), source = lane ^ bits;
  const bool inside = source / width <= lane / width;
  return emulator::from_bits<T>(emulator::lane_value("__shfl_xor_sync", values, mask, inside ? source : lane, where));
}

template <class T>
T __reduce_add_sync(unsigned mask, T value, emulator::Where where = emulator::Where::current()) {
  static_assert(sizeof(T) == 4, "the device has this primitive for 32-bit integers alone");
  const uint64_t* values = emulator::exchange("__reduce_add_sync", mask, emulator::to_bits(value), where);
  T sum = 0;
  for (int l = 0; l < emulator::kWarp; ++l) {
    if (mask >> l & 1) sum += emulator::from_bits<T>(values[l]);
  }
  return sum;
}

// Fibers give way nowhere else, so a read and a write in a row are atomic.
template <class T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}
template <class T>
T atomicMax(T* to, T value) {
  const T before = *to;
  if (before < value) *to = value;
  return before;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
