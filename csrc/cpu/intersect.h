// Intersections of two strictly ascending rows, in registers where the processor has them.
#pragma once

#include <cstdint>

#include "common/intersect.h"

namespace graphmem {

// A vector store may write past the last result: room for this many more entries is needed.
constexpr int64_t kSlack = 16;

// The common entries, ascending; returns how many. Room for min(len_a, len_b) + kSlack results.
int64_t intersect_nodes(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b, int32_t* node);
int64_t intersect_nodes(const int64_t* a, int64_t len_a, const int64_t* b, int64_t len_b, int64_t* node);

// Where the common entries stand in both rows.
int64_t intersect_places(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b, int32_t* at_a,
                         int32_t* at_b);
int64_t intersect_places(const int64_t* a, int64_t len_a, const int64_t* b, int64_t len_b, int32_t* at_a,
                         int32_t* at_b);

// Their number alone.
int64_t intersect_count(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b);
int64_t intersect_count(const int64_t* a, int64_t len_a, const int64_t* b, int64_t len_b);

}  // namespace graphmem
