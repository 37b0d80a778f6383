// Three ways, by the processor and by the rows:
//
// - one row at least kGallopRatio times as long: the shorter one gallops through it (common/intersect.h);
// - int32, and AVX-512 or AVX2: blocks of 16 or 8 entries of each row are compared all with all, by one instruction where
//   there is one (VP2INTERSECT), else by comparing with every rotation; then the block with the smaller last entry moves on;
// - otherwise a merge without branches.
#include "cpu/intersect.h"

#include <algorithm>
#include <array>
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
#define GRAPHMEM_INLINE_FOR(TARGET) __attribute__((target(TARGET), always_inline)) static inline
#define GRAPHMEM_AVX2 "avx2,popcnt"
#define GRAPHMEM_AVX512 "avx512f,popcnt"
#define GRAPHMEM_AVX512_2 "avx512f,popcnt,avx512vp2intersect"

// What the loop over blocks needs of an instruction set. Masks say which entries of each block are in the other one.
struct Avx512 {
  static constexpr int64_t kWidth = 16;
  using Block = __m512i;
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX512) Block load(const int32_t* from) { return _mm512_loadu_si512(from); }
  // The first `count` entries; the others are `filler`.
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX512) Block load_some(const int32_t* from, int64_t count, int32_t filler) {
    const auto has = static_cast<__mmask16>((1u << count) - 1);
    return _mm512_mask_loadu_epi32(_mm512_set1_epi32(filler), has, from);
  }
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX512) Block count_from(int64_t first) {
    const Block lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int32_t>(first)));
  }
  // The entries of the mask, one after the other; writes a whole block.
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX512) void store(int32_t* to, uint32_t mask, Block block) {
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), block));
  }
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX512) void compare(Block u, Block v, uint32_t& in_a, uint32_t& in_b) {
    const Block turn = _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0);
    in_a = in_b = 0;
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) {
      const uint32_t equal = _mm512_cmpeq_epi32_mask(u, v);  // u[k] = v'[k], v'[k] = v[k + r mod 16]
      in_a |= equal;
      in_b |= (equal << r) | (equal >> (16 - r));
      v = _mm512_maskz_permutexvar_epi32(0xffff, turn, v);  // the plain form warns of GCC's own header
    }
    in_b &= 0xffff;
  }
};

struct Avx512Intersect : Avx512 {
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX512_2) void compare(Block u, Block v, uint32_t& in_a, uint32_t& in_b) {
    __mmask16 a, b;
    _mm512_2intersect_epi32(u, v, &a, &b);
    in_a = a;
    in_b = b;
  }
};

// For each mask of 8 bits the places of its bits: AVX2 has no instruction that moves chosen entries together.
constexpr auto kPlaces = [] {
  std::array<std::array<int32_t, 8>, 256> places{};
  for (int mask = 0; mask < 256; ++mask) {
    int n = 0;
    for (int bit = 0; bit < 8; ++bit) {
      if (mask >> bit & 1) places[mask][n++] = bit;
    }
  }
  return places;
}();

struct Avx2 {
  static constexpr int64_t kWidth = 8;
  using Block = __m256i;
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX2) Block load(const int32_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const Block*>(from));
  }
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX2) Block count_from(int64_t first) {
    return _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(static_cast<int32_t>(first)));
  }
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX2) Block load_some(const int32_t* from, int64_t count, int32_t filler) {
    const Block has = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(count)), count_from(0));
    return _mm256_blendv_epi8(_mm256_set1_epi32(filler), _mm256_maskload_epi32(from, has), has);
  }
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX2) void store(int32_t* to, uint32_t mask, Block block) {
    _mm256_storeu_si256(reinterpret_cast<Block*>(to), _mm256_permutevar8x32_epi32(block, load(kPlaces[mask].data())));
  }
  GRAPHMEM_INLINE_FOR(GRAPHMEM_AVX2) void compare(Block u, Block v, uint32_t& in_a, uint32_t& in_b) {
    const Block turn = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 0);
    in_a = in_b = 0;
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) {
      const uint32_t equal = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(u, v)));
      in_a |= equal;
      in_b |= (equal << r) | (equal >> (8 - r));
      v = _mm256_permutevar8x32_epi32(v, turn);
    }
    in_b &= 0xff;
  }
};

// A function for each instruction set, because a template's target is not an argument of it.
#define GRAPHMEM_BLOCKS(NAME, TARGET, ISA)                                                                        \
  GRAPHMEM_INLINE_FOR(TARGET) void emit(Count, int64_t, ISA::Block, uint32_t, uint32_t, int64_t, int64_t, ISA) {} \
  GRAPHMEM_INLINE_FOR(TARGET)                                                                                     \
  void emit(Nodes<int32_t> to, int64_t n, ISA::Block nodes, uint32_t in_a, uint32_t, int64_t, int64_t, ISA) {     \
    ISA::store(to.node + n, in_a, nodes);                                                                         \
  }                                                                                                               \
  /* Rows ascend, so the k-th match in one block is the k-th in the other. */                                     \
  GRAPHMEM_INLINE_FOR(TARGET)                                                                                     \
  void emit(Places to, int64_t n, ISA::Block, uint32_t in_a, uint32_t in_b, int64_t p, int64_t q, ISA) {          \
    ISA::store(to.at_a + n, in_a, ISA::count_from(p));                                                            \
    ISA::store(to.at_b + n, in_b, ISA::count_from(q));                                                            \
  }                                                                                                               \
  template <class Emit>                                                                                           \
  __attribute__((target(TARGET))) int64_t NAME(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b,  \
                                               Emit to) {                                                         \
    constexpr int64_t kWidth = ISA::kWidth;                                                                       \
    int64_t n = 0, p = 0, q = 0;                                                                                  \
    uint32_t in_a, in_b;                                                                                          \
    while (p + kWidth <= len_a && q + kWidth <= len_b) {                                                          \
      const ISA::Block u = ISA::load(a + p), v = ISA::load(b + q);                                                \
      ISA::compare(u, v, in_a, in_b);                                                                             \
      emit(to, n, u, in_a, in_b, p, q, ISA());                                                                    \
      n += std::popcount(in_a);                                                                                   \
      const int32_t last_a = a[p + kWidth - 1], last_b = b[q + kWidth - 1];                                       \
      p += last_a <= last_b ? kWidth : 0;                                                                         \
      q += last_b <= last_a ? kWidth : 0;                                                                         \
    }                                                                                                             \
    /* Shorter blocks are filled up with two numbers that are no nodes and differ. */                             \
    while (p < len_a && q < len_b) {                                                                              \
      const int64_t left_a = std::min(len_a - p, kWidth), left_b = std::min(len_b - q, kWidth);                   \
      const ISA::Block u = ISA::load_some(a + p, left_a, -1), v = ISA::load_some(b + q, left_b, -2);              \
      ISA::compare(u, v, in_a, in_b);                                                                             \
      emit(to, n, u, in_a, in_b, p, q, ISA());                                                                    \
      n += std::popcount(in_a);                                                                                   \
      const int32_t last_a = a[p + left_a - 1], last_b = b[q + left_b - 1];                                       \
      p += last_a <= last_b ? left_a : 0;                                                                         \
      q += last_b <= last_a ? left_b : 0;                                                                         \
    }                                                                                                             \
    return n;                                                                                                     \
  }
GRAPHMEM_BLOCKS(blocks_avx2, GRAPHMEM_AVX2, Avx2)
GRAPHMEM_BLOCKS(blocks_avx512, GRAPHMEM_AVX512, Avx512)
GRAPHMEM_BLOCKS(blocks_avx512_2, GRAPHMEM_AVX512_2, Avx512Intersect)
#undef GRAPHMEM_BLOCKS

template <class Emit>
int64_t run(const int32_t* a, int64_t len_a, const int32_t* b, int64_t len_b, Emit emit) {
  if (len_a * kGallopRatio <= len_b || len_b * kGallopRatio <= len_a) return scalar(a, len_a, b, len_b, emit);
  switch (capability()) {
    case Capability::kAvx512Intersect:
      return blocks_avx512_2(a, len_a, b, len_b, emit);
    case Capability::kAvx512:
      return blocks_avx512(a, len_a, b, len_b, emit);
    case Capability::kAvx2:
      return blocks_avx2(a, len_a, b, len_b, emit);
    default:
      return scalar(a, len_a, b, len_b, emit);
  }
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
