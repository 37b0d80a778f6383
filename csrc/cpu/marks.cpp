#include "cpu/marks.h"

#include <bit>

#include "cpu/capability.h"

#ifdef GRAPHMEM_X86
#include <immintrin.h>
#endif

namespace graphmem {
namespace {

// The marked entries of `other`; their number. Written without a branch on the mark, which no predictor would guess.
template <bool kList, class Col>
int64_t marked(const uint32_t* bits, const Col* other, int64_t len, Col* node) {
  int64_t n = 0;
  for (int64_t k = 0; k < len; ++k) {
    const auto u = static_cast<uint64_t>(other[k]);
    if (kList) node[n] = other[k];
    n += (bits[u >> 5] >> (u & 31)) & 1;
  }
  return n;
}

#ifdef GRAPHMEM_X86
template <bool kList>
__attribute__((target("avx512f,popcnt"))) int64_t marked_16(const uint32_t* bits, const int32_t* other, int64_t len,
                                                            int32_t* node) {
  const __m512i one = _mm512_set1_epi32(1), low = _mm512_set1_epi32(31);
  int64_t n = 0;
  for (int64_t k = 0; k < len; k += 16) {
    const __mmask16 has = len - k < 16 ? static_cast<__mmask16>((1u << (len - k)) - 1) : __mmask16(0xffff);
    const __m512i u = _mm512_maskz_loadu_epi32(has, other + k);
    const __m512i words =
        _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), has, _mm512_maskz_srli_epi32(has, u, 5), bits, 4);
    const __mmask16 is = _mm512_test_epi32_mask(words, _mm512_maskz_sllv_epi32(has, one, _mm512_and_si512(u, low)));
    if (kList) _mm512_storeu_si512(node + n, _mm512_maskz_compress_epi32(is, u));
    n += std::popcount(static_cast<uint32_t>(is));
  }
  return n;
}
#endif

template <bool kList, class Col>
int64_t look_up(const uint32_t* bits, const Col* other, int64_t len, Col* node) {
#ifdef GRAPHMEM_X86
  if constexpr (sizeof(Col) == 4) {
    if (capability() >= Capability::kAvx512) return marked_16<kList>(bits, other, len, node);
  }
#endif
  return marked<kList>(bits, other, len, node);
}

}  // namespace

template <class Col>
thread_local std::vector<uint32_t> Marks<Col>::bits_;

template <class Col>
void Marks<Col>::set(const Col* row, int64_t len) {
  clear();
  if (bits_.size() < words_) bits_.resize(words_);
  for (int64_t k = 0; k < len; ++k) bits_[row[k] >> 5] |= 1u << (row[k] & 31);
  row_ = row;
  len_ = len;
}

template <class Col>
void Marks<Col>::clear() {
  for (int64_t k = 0; k < len_; ++k) bits_[row_[k] >> 5] = 0;
  row_ = nullptr;
  len_ = 0;
}

template <class Col>
int64_t Marks<Col>::nodes(const Col* other, int64_t len, Col* node) const {
  return look_up<true>(bits_.data(), other, len, node);
}

template <class Col>
int64_t Marks<Col>::count(const Col* other, int64_t len) const {
  return look_up<false, Col>(bits_.data(), other, len, nullptr);
}

template class Marks<int32_t>;
template class Marks<int64_t>;

}  // namespace graphmem
