// Distinct nodes in ascending order, without sorting. A node is marked by a byte, and so is its block of 64: stores that
// wait for nothing, where setting a bit would wait for the last bit of the same word. Only marked blocks are read again;
// how many nodes there are in all matters for the search of these alone, a byte for 64 nodes.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>

namespace graphmem {

class NodeSet {
 public:
  explicit NodeSet(int64_t num_nodes) : blocks_(static_cast<uint64_t>(num_nodes) / kBlock + 1) {
    // Kept for the next call of the thread: 9 bytes a node. Marks are false but while a set lives.
    static thread_local std::unique_ptr<bool[]> marks, blocks;
    static thread_local std::unique_ptr<int64_t[]> places;
    static thread_local uint64_t room = 0;
    if (room < blocks_) {
      room = 0;
      blocks = std::make_unique<bool[]>(blocks_ + kWord);
      marks = std::make_unique<bool[]>(kBlock * blocks_);
      places = std::make_unique<int64_t[]>(kBlock * blocks_);
      room = blocks_;
    }
    block_ = blocks.get();
    mark_ = marks.get();
    place_ = places.get();
  }
  ~NodeSet() {
    each_set(block_, blocks_, [this](uint64_t b) { std::memset(mark_ + b * kBlock, 0, kBlock); });
    std::memset(block_, 0, blocks_);
  }
  NodeSet(const NodeSet&) = delete;

  void add(int64_t node) {
    mark_[node] = true;
    block_[static_cast<uint64_t>(node) / kBlock] = true;
  }

  // Writes the nodes in ascending order; returns how many there are.
  int64_t list(int64_t* out) {
    int64_t known = 0;
    each_set(block_, blocks_, [&](uint64_t b) {
      each_set(mark_ + b * kBlock, kBlock, [&](uint64_t n) {
        place_[b * kBlock + n] = known;
        out[known++] = static_cast<int64_t>(b * kBlock + n);
      });
    });
    return known;
  }

  // Where the list has a node of the set.
  int64_t place(int64_t node) const { return place_[node]; }

 private:
  static constexpr uint64_t kBlock = 64, kWord = 8;

  // Calls f(n) for the marks that are set; reads whole words.
  template <class F>
  static void each_set(const bool* marks, uint64_t count, const F& f) {
    static_assert(std::endian::native == std::endian::little && sizeof(bool) == 1);
    for (uint64_t n = 0; n < count; n += kWord) {
      uint64_t word;
      std::memcpy(&word, marks + n, sizeof word);
      for (; word != 0; word &= word - 1) f(n + static_cast<uint64_t>(std::countr_zero(word)) / 8);
    }
  }

  bool *mark_, *block_;
  int64_t* place_;
  const uint64_t blocks_;
};

}  // namespace graphmem
