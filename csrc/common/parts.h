// Which of the three sets of a pair an operator is asked for; bits of the `parts` argument.
#pragma once

#include "common/macros.h"

namespace graphmem {

constexpr int64_t kCn = 1, kLeft = 2, kRight = 4;

GRAPHMEM_HD int64_t count_parts(int64_t parts) {
  return ((parts & kCn) != 0) + ((parts & kLeft) != 0) + ((parts & kRight) != 0);
}

// Row of the output that a part is written to, or -1.
GRAPHMEM_HD int64_t part_row(int64_t parts, int64_t part) {
  return (parts & part) ? count_parts(parts & (part - 1)) : -1;
}

}  // namespace graphmem
