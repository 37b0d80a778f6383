// See emulator.h. A fiber is entered by ucontext once and then resumed by _longjmp, which makes no system call.
#include "emulator.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace emulator {

Dim3 thread_index, block_index, block_size, grid_size;

namespace {

constexpr size_t kStack = 128 * 1024;
constexpr int64_t kGuard = 256, kMostShared = 48 * 1024;
constexpr unsigned char kGarbage = 0xFF, kCanary = 0xA5;
constexpr const char* kBarrier = "__syncthreads";

enum class State { kReady, kWaiting, kDone };

struct Fiber {
  void* stack = nullptr;
  ucontext_t entry;
  jmp_buf point;
  bool entered = false;
  State state = State::kDone;
  // What it waits for.
  const char* primitive = nullptr;
  unsigned mask = 0;
  uint64_t value = 0;
  Where where;
  uint64_t received[kWarp];
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<unsigned char> memory;
  unsigned char* shared = nullptr;
  int64_t shared_size = 0;
  int threads = 0, current = 0;
  void (*body)(void*) = nullptr;
  void* context = nullptr;
  jmp_buf scheduler;
  const void* main_stack = nullptr;
  size_t main_stack_size = 0;
  ucontext_t unused;
  uint64_t random = 0x9E3779B97F4A7C15ull;
  std::string error;
};

Machine machine;
std::mutex one_launch;

uint64_t next_random() {
  machine.random ^= machine.random << 13;
  machine.random ^= machine.random >> 7;
  machine.random ^= machine.random << 17;
  return machine.random;
}

template <class T>
void shuffle(std::vector<T>& order) {
  for (size_t n = order.size(); n > 1; --n) std::swap(order[n - 1], order[next_random() % n]);
}

// The address sanitizer has to know which stack is in use. Fake stacks are off (see `make cuda-emulation`).
void entering_stack([[maybe_unused]] const void* bottom, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, bottom, size);
#endif
}
void entered_stack([[maybe_unused]] const void** from, [[maybe_unused]] size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, from, size);
#endif
}

void give_way() {
  if (_setjmp(machine.fibers[machine.current]->point) == 0) {
    entering_stack(machine.main_stack, machine.main_stack_size);
    _longjmp(machine.scheduler, 1);
  }
  entered_stack(&machine.main_stack, &machine.main_stack_size);
}

// A fiber outlives its block: it then waits here for the next one.
void fiber_main() {
  entered_stack(&machine.main_stack, &machine.main_stack_size);
  for (;;) {
    machine.body(machine.context);
    machine.fibers[machine.current]->state = State::kDone;
    give_way();
  }
}

void add_fiber() {
  auto fiber = std::make_unique<Fiber>();
  fiber->stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fiber->stack == MAP_FAILED) throw std::runtime_error("emulator: no memory for a fiber's stack");
  machine.fibers.push_back(std::move(fiber));
}

void resume(int n) {
  Fiber& fiber = *machine.fibers[n];
  machine.current = n;
  thread_index.x = static_cast<unsigned>(n);
  if (_setjmp(machine.scheduler) != 0) {
    entered_stack(nullptr, nullptr);
    return;
  }
  entering_stack(fiber.stack, kStack);
  if (fiber.entered) _longjmp(fiber.point, 1);
  fiber.entered = true;
  getcontext(&fiber.entry);
  fiber.entry.uc_stack.ss_sp = fiber.stack;
  fiber.entry.uc_stack.ss_size = kStack;
  fiber.entry.uc_link = &machine.unused;
  makecontext(&fiber.entry, fiber_main, 0);
  setcontext(&fiber.entry);
}

std::string place(const char* primitive, const Where& where) {
  std::ostringstream out;
  out << primitive << " at " << where.file_name() << ":" << where.line();
  return out.str();
}

void fail(const std::string& what) {
  if (!machine.error.empty()) return;
  std::ostringstream out;
  out << what << " (block " << block_index.x << "," << block_index.y << ")";
  machine.error = out.str();
}

// Whether fiber `n` may go on: all whom its primitive names wait at the same place. Then it is set free with them.
bool release(int n) {
  Fiber& fiber = *machine.fibers[n];
  const bool whole_block = fiber.primitive == kBarrier;
  const int first = whole_block ? 0 : n / kWarp * kWarp, last = whole_block ? machine.threads : first + kWarp;
  for (int other = first; other < last; ++other) {
    if (!whole_block && !(fiber.mask >> (other - first) & 1)) continue;
    const Fiber* peer = other < machine.threads ? machine.fibers[other].get() : nullptr;
    if (peer == nullptr || peer->state == State::kDone) {
      fail(place(fiber.primitive, fiber.where) + ": thread " + std::to_string(n) + " waits for thread " +
           std::to_string(other) + ", which has ended");
      return false;
    }
    if (peer->state != State::kWaiting || peer->primitive != fiber.primitive || peer->mask != fiber.mask ||
        peer->where.line() != fiber.where.line() || peer->where.file_name() != fiber.where.file_name()) {
      return false;
    }
  }
  for (int other = first; other < last; ++other) {
    if (!whole_block && !(fiber.mask >> (other - first) & 1)) continue;
    Fiber& peer = *machine.fibers[other];
    peer.state = State::kReady;
    if (whole_block) continue;
    for (int l = 0; l < kWarp; ++l) {
      peer.received[l] = fiber.mask >> l & 1 ? machine.fibers[first + l]->value : 0;
    }
  }
  return true;
}

// Lets a warp run until its threads have ended or wait for other warps: as far ahead of them as it can. Returns whether
// anything happened.
bool run_warp(const std::vector<int>& lanes) {
  bool any = false;
  for (bool moved = true; moved && machine.error.empty(); any |= moved) {
    moved = false;
    for (int n : lanes) {
      if (machine.fibers[n]->state != State::kReady) continue;
      resume(n);
      moved = true;
    }
    for (int n : lanes) {
      const Fiber& fiber = *machine.fibers[n];
      if (fiber.state == State::kWaiting && fiber.primitive != kBarrier) moved |= release(n);
    }
  }
  return any;
}

void run_threads() {
  std::vector<std::vector<int>> warps(machine.threads / kWarp, std::vector<int>(kWarp));
  for (size_t w = 0; w < warps.size(); ++w) {
    std::iota(warps[w].begin(), warps[w].end(), static_cast<int>(w) * kWarp);
    shuffle(warps[w]);
  }
  const auto first_waiting = [] {
    return std::find_if(machine.fibers.begin(), machine.fibers.begin() + machine.threads,
                        [](const auto& fiber) { return fiber->state == State::kWaiting; });
  };
  for (int n = 0; n < machine.threads; ++n) machine.fibers[n]->state = State::kReady;
  while (machine.error.empty()) {
    shuffle(warps);
    bool moved = false;
    for (const auto& lanes : warps) moved |= run_warp(lanes);
    const auto waiting = first_waiting();
    if (waiting == machine.fibers.begin() + machine.threads) return;
    const Fiber& fiber = **waiting;
    if (fiber.primitive == kBarrier) moved |= release(static_cast<int>(waiting - machine.fibers.begin()));
    if (!moved) fail(place(fiber.primitive, fiber.where) + ": the threads it names wait at different places");
  }
}

void run_block() {
  std::fill_n(machine.shared, machine.shared_size, kGarbage);
  run_threads();
  const auto intact = [](const unsigned char* guard) {
    return std::all_of(guard, guard + kGuard, [](unsigned char byte) { return byte == kCanary; });
  };
  if (!intact(machine.shared - kGuard) || !intact(machine.shared + machine.shared_size)) {
    fail("write outside of the " + std::to_string(machine.shared_size) + " bytes of shared memory");
  }
}

// Threads of a launch that failed are left where they wait; the next launch needs fresh ones.
void abandon_fibers() {
  for (auto& fiber : machine.fibers) munmap(fiber->stack, kStack);
  machine.fibers.clear();
}

}  // namespace

void run(const char* op, Dim3 grid, Dim3 block, int64_t shared, void (*body)(void*), void* context) {
  const std::lock_guard<std::mutex> lock(one_launch);
  if (block.x == 0 || block.x > 1024 || block.x % kWarp != 0 || block.y != 1 || grid.y > 65535 ||
      shared > kMostShared) {
    throw std::runtime_error(std::string(op) + ": emulator: a grid, block or shared memory that no device accepts");
  }
  machine.threads = static_cast<int>(block.x);
  while (machine.fibers.size() < block.x) add_fiber();
  machine.body = body;
  machine.context = context;
  machine.error.clear();
  machine.shared_size = shared;
  machine.memory.assign(shared + 2 * kGuard + 16, kCanary);
  const uintptr_t start = reinterpret_cast<uintptr_t>(machine.memory.data()) + kGuard;
  machine.shared = reinterpret_cast<unsigned char*>((start + 15) / 16 * 16);
  block_size = block;
  grid_size = grid;
  std::vector<int64_t> blocks(int64_t{grid.x} * grid.y);
  std::iota(blocks.begin(), blocks.end(), 0);
  shuffle(blocks);
  for (int64_t b : blocks) {
    block_index = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x), 0};
    run_block();
    if (!machine.error.empty()) {
      abandon_fibers();
      throw std::runtime_error(std::string(op) + ": emulator: " + machine.error);
    }
  }
}

unsigned char* shared_memory() { return machine.shared; }

int lane() { return machine.current % kWarp; }

void barrier(Where where) {
  Fiber& fiber = *machine.fibers[machine.current];
  fiber.primitive = kBarrier;
  fiber.where = where;
  fiber.mask = 0;
  fiber.state = State::kWaiting;
  give_way();
}

const uint64_t* exchange(const char* primitive, unsigned mask, uint64_t value, Where where) {
  Fiber& fiber = *machine.fibers[machine.current];
  fiber.primitive = primitive;
  fiber.mask = mask;
  fiber.value = value;
  fiber.where = where;
  fiber.state = State::kWaiting;
  if (!(mask >> lane() & 1)) fail(place(primitive, where) + ": a thread calls it that its mask does not name");
  give_way();
  return fiber.received;
}

uint64_t lane_value(const char* primitive, const uint64_t* values, unsigned mask, int from, Where where) {
  if (!(mask >> from & 1)) {
    fail(place(primitive, where) + ": lane " + std::to_string(lane()) + " reads lane " + std::to_string(from) +
         ", which its mask does not name");
  }
  return values[from];
}

}  // namespace emulator
