// Growing arrays whose new elements are not initialised: what std::vector would write twice.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

namespace graphmem {

template <class T>
class Buffer {
 public:
  // Room for `size` elements; of those there were, the first `used` keep their values.
  T* reserve(int64_t size, int64_t used = 0) {
    if (size > capacity_) {
      const int64_t kept = std::min(used, capacity_);
      capacity_ = std::max(size, 2 * capacity_);
      std::unique_ptr<T[]> grown(new T[capacity_]);
      std::copy_n(data_.get(), kept, grown.get());
      data_ = std::move(grown);
    }
    return data_.get();
  }
  const T* data() const { return data_.get(); }

 private:
  std::unique_ptr<T[]> data_;
  int64_t capacity_ = 0;
};

}  // namespace graphmem
