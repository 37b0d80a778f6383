// The device as the kernels see it: launches, the current stream, shared memory. With cuda/algorithm.h this is all that a
// kernel file takes from CUDA beside the language, and what tests/cuda_emulation replaces to run the kernels on a CPU.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>

// Registers the kernels of a file for CUDA tensors.
#define GRAPHMEM_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(graphmem, CUDA, m)

namespace graphmem {

inline void check_cuda(const char* op, cudaError_t error) {
  STD_TORCH_CHECK(error == cudaSuccess, op, ": CUDA error: ", cudaGetErrorString(error),
                  error == cudaErrorNoKernelImageForDevice
                      ? " (`graphmem doctor` shows the architectures that the operators were built for)"
                      : "");
}

// Makes a tensor's device current while it lives; work goes to torch's current stream of that device.
class Device {
 public:
  explicit Device(const torch::stable::Tensor& on) : guard_(index_of(on)) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(on.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
    check_cuda("graphmem",
               cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, on.get_device_index()));
  }
  cudaStream_t stream() const { return stream_; }
  int64_t multiprocessors() const { return multiprocessors_; }

  // Reads numbers back to the host: waits for the stream. Operators that need it say so.
  template <class T>
  void read(const char* op, T* to, const T* from, int64_t count) const {
    check_cuda(op, cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToHost, stream_));
    check_cuda(op, cudaStreamSynchronize(stream_));
  }

 private:
  // A failed call of CUDA's would be remembered and reported by the next launch.
  static torch::stable::accelerator::DeviceIndex index_of(const torch::stable::Tensor& on) {
    STD_TORCH_CHECK(on.is_cuda(), "graphmem: expected every tensor on a CUDA device, found one on the CPU");
    return on.get_device_index();
  }

  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
  int multiprocessors_ = 0;
};

struct Grid {
  int64_t x, y = 1;
};

// The one way to start a kernel. An empty grid starts nothing.
template <class... Params, class... Args>
void launch(const char* op, const Device& device, void (*kernel)(Params...), Grid grid, int threads, int64_t shared,
            Args&&... args) {
  if (grid.x == 0 || grid.y == 0) return;
  STD_TORCH_CHECK(grid.x <= 0x7FFFFFFF && grid.y <= 0xFFFF, op, ": too large for one launch: a grid of ", grid.x,
                  " by ", grid.y, " blocks");
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
  kernel<<<blocks, threads, shared, device.stream()>>>(static_cast<Params>(args)...);
  check_cuda(op, cudaGetLastError());
}

// The block's shared memory, `shared` bytes of the launch. Every kernel lays it out itself.
template <class T = unsigned char>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char graphmem_shared[];
  return reinterpret_cast<T*>(graphmem_shared);
}

constexpr int kThreads = 256;

// Blocks for `items` of which a block takes `per_block`.
inline int64_t blocks_for(int64_t items, int64_t per_block) { return (items + per_block - 1) / per_block; }

__device__ __forceinline__ int64_t global_thread() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

}  // namespace graphmem
