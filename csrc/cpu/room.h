// Working arrays of calls that compute for some microseconds, of which a dozen allocations would be a good part: a thread
// keeps what it has freed, up to some blocks of each size.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace graphmem {

class Recycler {
 public:
  ~Recycler() {
    for (Shelf& shelf : shelves_) {
      for (int n = 0; n < shelf.count; ++n) ::operator delete(shelf.blocks[n]);
    }
  }

  void* take(size_t bytes) {
    const int size = shelf_of(bytes);
    if (size >= kShelves) return ::operator new(bytes);
    Shelf& shelf = shelves_[size];
    return shelf.count > 0 ? shelf.blocks[--shelf.count] : ::operator new(kLeast << size);
  }

  void give(void* block, size_t bytes) {
    const int size = shelf_of(bytes);
    if (size < kShelves && shelves_[size].count < kBlocks) {
      shelves_[size].blocks[shelves_[size].count++] = block;
    } else {
      ::operator delete(block);
    }
  }

  static Recycler& of_thread() {
    static thread_local Recycler recycler;
    return recycler;
  }

 private:
  // Blocks of 64 bytes to 1 MiB: at most 16 MiB a thread, which only calls of that size come near to.
  static constexpr size_t kLeast = 64;
  static constexpr int kShelves = 15, kBlocks = 8;
  struct Shelf {
    void* blocks[kBlocks];
    int count = 0;
  };

  static int shelf_of(size_t bytes) { return bytes <= kLeast ? 0 : std::bit_width((bytes - 1) / kLeast); }

  Shelf shelves_[kShelves];
};

template <class T>
struct Recycled {
  using value_type = T;

  Recycled() = default;
  template <class U>
  Recycled(const Recycled<U>&) {}

  // A sanitizer sees every block come and go.
#ifdef GRAPHMEM_NO_CLONES
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T))); }
  void deallocate(T* block, size_t) { ::operator delete(block); }
#else
  T* allocate(size_t count) { return static_cast<T*>(Recycler::of_thread().take(count * sizeof(T))); }
  void deallocate(T* block, size_t count) { Recycler::of_thread().give(block, count * sizeof(T)); }
#endif
  template <class U>
  bool operator==(const Recycled<U>&) const {
    return true;
  }
};

template <class T>
using Room = std::vector<T, Recycled<T>>;

// Numbers that are written before they are read, and begin as nothing in particular.
template <class T>
struct Unwritten : Recycled<T> {
  template <class U>
  struct rebind {
    using other = Unwritten<U>;
  };
  template <class U>
  void construct(U* at) {
    ::new (static_cast<void*>(at)) U;
  }
  template <class U, class... Args>
  void construct(U* at, Args&&... args) {
    ::new (static_cast<void*>(at)) U(std::forward<Args>(args)...);
  }
};

template <class T>
using Blank = std::vector<T, Unwritten<T>>;

}  // namespace graphmem
