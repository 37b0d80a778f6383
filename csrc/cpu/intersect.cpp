// Three ways, by the processor and by the rows:
//
// - one row at least kGallopRatio times as long: the shorter one gallops through it (common/intersect.h);
// - AVX-512 and int32: blocks of 16 entries of each row are compared all with all, by one instruction where there is one
//   (VP2INTERSECT), else by comparing with the 16 rotations; then the block with the smaller last entry moves on;
// - otherwise a merge without branches.
#include "cpu/intersect.h"

#include <bit>

#include "cpu/capability.h"

#ifdef GRAPHMEM_X86
#include <immintrin.h>
#endif

namespace graphmem {
namespace {

// What is done with a match: nothing but counting, its node, or its places in both rows.
struct Count {
  template <class Col>
  void match(int64_t, Col, int64_t, int64_t) {}
};

template <class Col>
struct Nodes {
  Col* node;
  void match(int64_t n, Col u, int64_t, int64_t) { node[n] = u; }
};

struct Places {
  int32_t *at_a, *at_b;
  template <class Col>
  void match(int64_t n, Col, int64_t p, int64_t q) {
    at_a[n] = static_cast<int32_t>(p);
    at_b[n] = static_cast<int32_t>(q);
  }
};

template <class Col, class Emit>
int64_t scalar(const Col* a, int64_t len_a, const Col* b, int64_t len_b, Emit emit) {
  return visit_matches(a, len_a, b, len_b, [&](int64_t n, Col u, int64_t p, int64_t q) { emit.match(n, u, p, q); });
}

#ifdef GRAPHMEM_X86
#define GRAPHMEM_TARGET __attribute__((target("avx512f,popcnt")))
#define GRAPHMEM_TARGET_2 __attribute__((target("avx512f,popcnt,avx512vp2intersect")))
#define GRAPHMEM_TARGET_INLINE GRAPHMEM_TARGET inline __attribute__((always_inline))

GRAPHMEM_TARGET_INLINE void emit_block(Count, int64_t, __m512i, __mmask16, __mmask16, int64_t, int64_t) {}

GRAPHMEM_TARGET_INLINE void emit_block(Nodes<int32_t> to, int64_t n, __m512i nodes, __mmask16 in_a, __mmask16, int64_t,
                                       int64_t) {
  _mm512_storeu_si512(to.node + n, _mm512_maskz_compress_epi32(in_a, nodes));
}

GRAPHMEM_TARGET_INLINE void emit_block(Places to, int64_t n, __m512i, __mmask16 in_a, __mmask16 in_b, int64_t p,
                                       int64_t q) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i first_a = _mm512_set1_epi32(static_cast<int32_t>(p));
  const __m512i first_b = _mm512_set1_epi32(static_cast<int32_t>(q));
  // Rows ascend, so the k-th match in one block is the k-th in the other.
  _mm512_storeu_si512(to.at_a + n, _mm512_maskz_compress_epi32(in_a, _mm512_add_epi32(lane, first_a)));
  _mm512_storeu_si512(to.at_b + n, _mm512_maskz_compress_epi32(in_b, _mm512_add_epi32(lane, first_b)));
}

// Which entries of each block are in the other one.
struct Rotations {
  static GRAPHMEM_TARGET_INLINE void compare(__m512i u, __m512i v, __mmask16& in_a, __mmask16& in_b) {
    const __m512i turn = _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0);
    uint32_t a = 0, b = 0;
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
      const uint32_t equal = _mm512_cmpeq_epi32_mask(u, v);  // u[k] = v'[k], v'[k] = v[k + r mod 16]
      a |= equal;
      b |= (equal << r) | (equal >> (16 - r));
      v = _mm512_maskz_permutexvar_epi32(0xffff, turn, v);  // the plain form warns of GCC's own header
    }
    in_a = static_cast<__mmask16>(a);
    in_b = static_cast<__mmask16>(b);
  }
};

struct Instruction {
  static __attribute__((target("avx512f,popcnt,avx512vp2intersect"), always_inline)) inline void compare(
      __m512i u, __m512i v, __mmask16& in_a, __mmask16& in_b) {
    _mm512_2intersect_epi32(u, v, &in_a, &in_b);
  }
};

#define GRAPHMEM_BLOCKS(NAME, TARGET, COMPARE)                                                          \
  template <class Emit>                                                                                 \
  TARGET int64_t NAME(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b, Emit emit) {    \
    int64_t n = 0, p = 0, q = 0;                                                                        \
    __mmask16 in_a, in_b;                                                                               \
    while (p + 16 <= len_a && q + 16 <= len_b) {                                                        \
      const __m512i u = _mm512_loadu_si512(a + p), v = _mm512_loadu_si512(b + q);                       \
      COMPARE::compare(u, v, in_a, in_b);                                                               \
      emit_block(emit, n, u, in_a, in_b, p, q);                                                         \
      n += std::popcount(static_cast<uint32_t>(in_a));                                                  \
      const int32_t last_a = a[p + 15], last_b = b[q + 15];                                             \
      p += last_a <= last_b ? 16 : 0;                                                                   \
      q += last_b <= last_a ? 16 : 0;                                                                   \
    }                                                                                                   \
    /* Shorter blocks are filled up with two numbers that are no nodes and differ. */                   \
    while (p < len_a && q < len_b) {                                                                    \
      const int64_t left_a = len_a - p < 16 ? len_a - p : 16, left_b = len_b - q < 16 ? len_b - q : 16; \
      const __mmask16 has_a = static_cast<__mmask16>((1u << left_a) - 1);                               \
      const __mmask16 has_b = static_cast<__mmask16>((1u << left_b) - 1);                               \
      const __m512i u = _mm512_mask_loadu_epi32(_mm512_set1_epi32(-1), has_a, a + p);                   \
      const __m512i v = _mm512_mask_loadu_epi32(_mm512_set1_epi32(-2), has_b, b + q);                   \
      COMPARE::compare(u, v, in_a, in_b);                                                               \
      emit_block(emit, n, u, in_a, in_b, p, q);                                                         \
      n += std::popcount(static_cast<uint32_t>(in_a));                                                  \
      const int32_t last_a = a[p + left_a - 1], last_b = b[q + left_b - 1];                             \
      p += last_a <= last_b ? left_a : 0;                                                               \
      q += last_b <= last_a ? left_b : 0;                                                               \
    }                                                                                                   \
    return n;                                                                                           \
  }
GRAPHMEM_BLOCKS(blocks, GRAPHMEM_TARGET, Rotations)
GRAPHMEM_BLOCKS(blocks_2, GRAPHMEM_TARGET_2, Instruction)
#undef GRAPHMEM_BLOCKS

template <class Emit>
int64_t run(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b, Emit emit) {
  if (capability() < Capability::kAvx512 || len_a * kGallopRatio <= len_b || len_b * kGallopRatio <= len_a) {
    return scalar(a, len_a, b, len_b, emit);
  }
  return capability() == Capability::kAvx512Intersect ? blocks_2(a, len_a, b, len_b, emit)
                                                      : blocks(a, len_a, b, len_b, emit);
}
#else
template <class Emit>
int64_t run(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b, Emit emit) {
  return scalar(a, len_a, b, len_b, emit);
}
#endif

}  // namespace

int64_t intersect_nodes(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b, int32_t* node) {
  return run(a, len_a, b, len_b, Nodes<int32_t>{node});
}

int64_t intersect_nodes(const int64_t* a, int64_t len_a, const int64_t* b, int64_t len_b, int64_t* node) {
  return scalar(a, len_a, b, len_b, Nodes<int64_t>{node});
}

int64_t intersect_places(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b, int32_t* at_a,
                         int32_t* at_b) {
  return run(a, len_a, b, len_b, Places{at_a, at_b});
}

int64_t intersect_places(const int64_t* a, int64_t len_a, const int64_t* b, int64_t len_b, int32_t* at_a,
                         int32_t* at_b) {
  return scalar(a, len_a, b, len_b, Places{at_a, at_b});
}

int64_t intersect_count(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b) {
  return run(a, len_a, b, len_b, Count{});
}

int64_t intersect_count(const int64_t* a, int64_t len_a, const int64_t* b, int64_t len_b) {
  return scalar(a, len_a, b, len_b, Count{});
}

}  // namespace graphmem
