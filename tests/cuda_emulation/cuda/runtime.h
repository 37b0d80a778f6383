// Stands in for csrc/cuda/runtime.h: the same names, on the emulator. Kernels are registered for CPU tensors.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>

#include "emulator.h"

#define GRAPHMEM_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m)

namespace graphmem {

class Device {
 public:
  explicit Device(const torch::stable::Tensor&) {}
  // Few, so that kernels which stride over their work do so on small inputs.
  int64_t multiprocessors() const { return 2; }

  template <class T>
  void read(const char*, T* to, const T* from, int64_t count) const {
    std::copy_n(from, count, to);
  }
};

struct Grid {
  int64_t x, y = 1;
};

template <class... Params, class... Args>
void launch(const char* op, const Device&, void (*kernel)(Params...), Grid grid, int threads, int64_t shared,
            Args&&... args) {
  if (grid.x == 0 || grid.y == 0) return;
  struct Call {
    void (*kernel)(Params...);
    std::tuple<Params...> args;
  } call{kernel, {static_cast<Params>(args)...}};
  emulator::run(
      op, {static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), 1}, {static_cast<unsigned>(threads), 1, 1},
      shared,
      [](void* context) {
        auto& it = *static_cast<Call*>(context);
        std::apply(it.kernel, it.args);
      },
      &call);
}

template <class T = unsigned char>
T* shared_memory() {
  return reinterpret_cast<T*>(emulator::shared_memory());
}

constexpr int kThreads = 256;

inline int64_t blocks_for(int64_t items, int64_t per_block) { return (items + per_block - 1) / per_block; }

inline int64_t global_thread() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

}  // namespace graphmem
