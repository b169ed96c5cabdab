// 32 unsigned 32-bit numbers in two AVX-512 registers.
#pragma once

namespace ans::core {
namespace ANS_TARGET {

alignas(64) static const uint16_t kIota[64] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};

// Stores the words of the lanes in m (ascending) so that they end at `words`. A whole register is written: cheaper than a masked store.
ANS_INLINE static void put_words(__mmask32 m, __m512i lanes, uint8_t*& words) {
  const unsigned n = unsigned(__builtin_popcount(m));
  const __m512i packed = _mm512_permutexvar_epi16(_mm512_loadu_si512(kIota + n), _mm512_maskz_compress_epi16(m, lanes));
  _mm512_storeu_si512(words - 64, packed);
  words -= 2 * n;
}

struct VectorAvx512 {
  static constexpr int kDecodeStreams = 2, kEncodeStreams = 2;
  struct U32 {
    __m512i a, b;
  };
  using Mask = __mmask32;

  ANS_INLINE static U32 load(const uint32_t* p) { return {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 16)}; }
  ANS_INLINE static void store(uint32_t* p, const U32& x) {
    _mm512_storeu_si512(p, x.a);
    _mm512_storeu_si512(p + 16, x.b);
  }
  ANS_INLINE static __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  ANS_INLINE static U32 load_u8(const uint8_t* p) {
    return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
  }
  ANS_INLINE static uint32_t equal_mask(const uint8_t* p, uint8_t v) { return _mm256_cmpeq_epi8_mask(load_256(p), _mm256_set1_epi8(char(v))); }
  ANS_INLINE static uint32_t equal_mask(const uint16_t* p, uint16_t v) { return _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(p), _mm512_set1_epi16(short(v))); }
  ANS_INLINE static void store_low(uint8_t* p, const U32& x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x.a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16), _mm512_cvtepi32_epi8(x.b));
  }
  ANS_INLINE static void store_low(uint16_t* p, const U32& x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.a));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 16), _mm512_cvtepi32_epi16(x.b));
  }
  ANS_INLINE static U32 set1(uint32_t c) { return {_mm512_set1_epi32(int(c)), _mm512_set1_epi32(int(c))}; }
  ANS_INLINE static U32 and_(const U32& x, const U32& y) { return {_mm512_and_si512(x.a, y.a), _mm512_and_si512(x.b, y.b)}; }
  ANS_INLINE static U32 or_(const U32& x, const U32& y) { return {_mm512_or_si512(x.a, y.a), _mm512_or_si512(x.b, y.b)}; }
  ANS_INLINE static U32 xor_(const U32& x, const U32& y) { return {_mm512_xor_si512(x.a, y.a), _mm512_xor_si512(x.b, y.b)}; }
  ANS_INLINE static U32 add(const U32& x, const U32& y) { return {_mm512_add_epi32(x.a, y.a), _mm512_add_epi32(x.b, y.b)}; }
  ANS_INLINE static U32 sub(const U32& x, const U32& y) { return {_mm512_sub_epi32(x.a, y.a), _mm512_sub_epi32(x.b, y.b)}; }
  ANS_INLINE static U32 mul(const U32& x, const U32& y) { return {_mm512_mullo_epi32(x.a, y.a), _mm512_mullo_epi32(x.b, y.b)}; }
  ANS_INLINE static __m512i mulhi1(__m512i x, __m512i y) {
    const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(x, y), 32);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(y, 32));
    return _mm512_mask_blend_epi32(0xAAAA, even, odd);
  }
  ANS_INLINE static U32 mulhi(const U32& x, const U32& y) { return {mulhi1(x.a, y.a), mulhi1(x.b, y.b)}; }
  template <int n>
  ANS_INLINE static U32 shr(const U32& x) { return {_mm512_srli_epi32(x.a, n), _mm512_srli_epi32(x.b, n)}; }
  template <int n>
  ANS_INLINE static U32 shl(const U32& x) { return {_mm512_slli_epi32(x.a, n), _mm512_slli_epi32(x.b, n)}; }
  ANS_INLINE static U32 shr_var(const U32& x, const U32& n) { return {_mm512_srlv_epi32(x.a, n.a), _mm512_srlv_epi32(x.b, n.b)}; }
  ANS_INLINE static U32 gather(const uint32_t* t, const U32& i) { return {_mm512_i32gather_epi32(i.a, t, 4), _mm512_i32gather_epi32(i.b, t, 4)}; }
  ANS_INLINE static U32 gather16(const uint16_t* t, const U32& i) {
    const __m512i m = _mm512_set1_epi32(0xFFFF);
    return {_mm512_and_si512(m, _mm512_i32gather_epi32(i.a, t, 2)), _mm512_and_si512(m, _mm512_i32gather_epi32(i.b, t, 2))};
  }
  ANS_INLINE static Mask join(__mmask16 a, __mmask16 b) { return _mm512_kunpackw(b, a); }
  ANS_INLINE static Mask ge(const U32& x, const U32& y) { return join(_mm512_cmpge_epu32_mask(x.a, y.a), _mm512_cmpge_epu32_mask(x.b, y.b)); }
  ANS_INLINE static Mask both(Mask a, Mask b) { return a & b; }
  ANS_INLINE static Mask first(int n) { return n >= 32 ? ~0u : (1u << n) - 1; }
  ANS_INLINE static U32 max(const U32& x, const U32& y) { return {_mm512_max_epu32(x.a, y.a), _mm512_max_epu32(x.b, y.b)}; }
  ANS_INLINE static bool any_ge(const U32& x, const U32& y) { return ge(x, y) != 0; }
  ANS_INLINE static U32 select(Mask m, const U32& x, const U32& y) {
    return {_mm512_mask_mov_epi32(y.a, __mmask16(m), x.a), _mm512_mask_mov_epi32(y.b, __mmask16(m >> 16), x.b)};
  }
  // For the matrix models: numbers are signed where a name says so.
  static constexpr int kDotColumns = 8;
  template <class T>
  ANS_INLINE static const T& fetch(const T& t) { return t; }
  template <int n>
  ANS_INLINE static const U32& pick(const U32 (&of)[n], int i) { return of[i]; }
  ANS_INLINE static U32 load_i8(const uint8_t* p) {
    return {_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16)))};
  }
  ANS_INLINE static U32 load_i16(const int16_t* p) { return {_mm512_cvtepi16_epi32(load_256(p)), _mm512_cvtepi16_epi32(load_256(p + 16))}; }
  ANS_INLINE static U32 gather8(const uint8_t* t, const U32& i) {
    const __m512i m = _mm512_set1_epi32(0xFF);
    return {_mm512_and_si512(m, _mm512_i32gather_epi32(i.a, t, 1)), _mm512_and_si512(m, _mm512_i32gather_epi32(i.b, t, 1))};
  }
  ANS_INLINE static U32 shr_by(const U32& x, int n) { return {_mm512_srl_epi32(x.a, _mm_cvtsi32_si128(n)), _mm512_srl_epi32(x.b, _mm_cvtsi32_si128(n))}; }
  ANS_INLINE static U32 shl_by(const U32& x, int n) { return {_mm512_sll_epi32(x.a, _mm_cvtsi32_si128(n)), _mm512_sll_epi32(x.b, _mm_cvtsi32_si128(n))}; }
  ANS_INLINE static U32 sar_by(const U32& x, int n) { return {_mm512_sra_epi32(x.a, _mm_cvtsi32_si128(n)), _mm512_sra_epi32(x.b, _mm_cvtsi32_si128(n))}; }
  ANS_INLINE static U32 min_signed(const U32& x, const U32& y) { return {_mm512_min_epi32(x.a, y.a), _mm512_min_epi32(x.b, y.b)}; }
  ANS_INLINE static U32 max_signed(const U32& x, const U32& y) { return {_mm512_max_epi32(x.a, y.a), _mm512_max_epi32(x.b, y.b)}; }
  ANS_INLINE static U32 float_bits(const U32& x) { return {_mm512_castps_si512(_mm512_cvtepi32_ps(x.a)), _mm512_castps_si512(_mm512_cvtepi32_ps(x.b))}; }
  ANS_INLINE static U32 dot_pairs(const U32& sum, const U32& x, uint32_t y) {
    const __m512i both = _mm512_set1_epi32(int(y));
    return {_mm512_dpwssd_epi32(sum.a, x.a, both), _mm512_dpwssd_epi32(sum.b, x.b, both)};
  }
  ANS_INLINE static uint32_t bits(Mask m) { return m; }
  // Numbers as float32, each operation rounded.
  ANS_INLINE static __m512 ps(__m512i v) { return _mm512_castsi512_ps(v); }
  ANS_INLINE static __m512i si(__m512 v) { return _mm512_castps_si512(v); }
  ANS_INLINE static U32 fadd(const U32& x, const U32& y) { return {si(_mm512_add_ps(ps(x.a), ps(y.a))), si(_mm512_add_ps(ps(x.b), ps(y.b)))}; }
  ANS_INLINE static U32 fsub(const U32& x, const U32& y) { return {si(_mm512_sub_ps(ps(x.a), ps(y.a))), si(_mm512_sub_ps(ps(x.b), ps(y.b)))}; }
  ANS_INLINE static U32 fmul(const U32& x, const U32& y) { return {si(_mm512_mul_ps(ps(x.a), ps(y.a))), si(_mm512_mul_ps(ps(x.b), ps(y.b)))}; }
  ANS_INLINE static Mask fless(const U32& x, const U32& y) { return join(_mm512_cmp_ps_mask(ps(x.a), ps(y.a), _CMP_LT_OQ), _mm512_cmp_ps_mask(ps(x.b), ps(y.b), _CMP_LT_OQ)); }
  ANS_INLINE static U32 floor_of(const U32& x) {  // below 2^31
    constexpr int kDown = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    return {_mm512_cvt_roundps_epi32(ps(x.a), kDown), _mm512_cvt_roundps_epi32(ps(x.b), kDown)};
  }

  ANS_INLINE static void refill(U32& x, const uint8_t*& words) {
    const __m512i bound = _mm512_set1_epi32(65536);
    const __mmask16 ma = _mm512_cmplt_epu32_mask(x.a, bound), mb = _mm512_cmplt_epu32_mask(x.b, bound);
    const uint8_t* second = words + 2 * __builtin_popcount(ma);
    const __m512i wa = _mm512_cvtepu16_epi32(load_256(words)), wb = _mm512_cvtepu16_epi32(load_256(second));
    x.a = _mm512_mask_or_epi32(x.a, ma, _mm512_slli_epi32(x.a, 16), _mm512_maskz_expand_epi32(ma, wa));
    x.b = _mm512_mask_or_epi32(x.b, mb, _mm512_slli_epi32(x.b, 16), _mm512_maskz_expand_epi32(mb, wb));
    words = second + 2 * __builtin_popcount(mb);
  }
  ANS_INLINE static void spill(U32& x, Mask m, uint8_t*& words) {
    put_words(m, _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(x.a)), _mm512_cvtepi32_epi16(x.b), 1), words);
    x.a = _mm512_mask_srli_epi32(x.a, __mmask16(m), x.a, 16);
    x.b = _mm512_mask_srli_epi32(x.b, __mmask16(m >> 16), x.b, 16);
  }
};

}  // namespace ANS_TARGET
}  // namespace ans::core
