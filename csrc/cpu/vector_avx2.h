// 32 unsigned 32-bit numbers in four AVX2 registers.
#pragma once

namespace ans::core {
namespace ANS_TARGET {

// expand[m]: the k-th word goes to the k-th set lane of m; pack[m]: set lanes to the top.
struct Permutations {
  alignas(32) uint8_t expand[256][8], pack[256][8];
  Permutations() {
    for (int m = 0; m < 256; ++m) {
      int taken = 0, top = 8 - __builtin_popcount(unsigned(m));
      for (int i = 0; i < 8; ++i) {
        expand[m][i] = uint8_t((m >> i & 1) ? taken++ : 0);
        pack[m][i] = 0;
      }
      for (int i = 0; i < 8; ++i)
        if (m >> i & 1) pack[m][top++] = uint8_t(i);
    }
  }
};
static const Permutations kPermutations;

struct VectorAvx2 {
  static constexpr int kDecodeStreams = 2, kEncodeStreams = 2;
  struct U32 {
    __m256i v[4];
  };
  using Mask = U32;  // all ones or zeros

  template <class F>
  ANS_INLINE static U32 make(F f) { return {{f(0), f(1), f(2), f(3)}}; }
  ANS_INLINE static __m256i load1(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  ANS_INLINE static __m128i load_half(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
  ANS_INLINE static __m128i load_quarter(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }

  ANS_INLINE static U32 load(const uint32_t* p) { return make([&](int k) __attribute__((always_inline)) { return load1(p + 8 * k); }); }
  ANS_INLINE static void store(uint32_t* p, const U32& a) {
    for (int k = 0; k < 4; ++k) _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8 * k), a.v[k]);
  }
  ANS_INLINE static U32 load_u8(const uint8_t* p) { return make([&](int k) __attribute__((always_inline)) { return _mm256_cvtepu8_epi32(load_quarter(p + 8 * k)); }); }
  ANS_INLINE static uint32_t equal_mask(const uint8_t* p, uint8_t v) {
    return uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi8(load1(p), _mm256_set1_epi8(char(v)))));
  }
  ANS_INLINE static uint32_t equal_mask(const uint16_t* p, uint16_t v) {
    const __m256i w = _mm256_set1_epi16(short(v)), packed = _mm256_packs_epi16(_mm256_cmpeq_epi16(load1(p), w), _mm256_cmpeq_epi16(load1(p + 16), w));
    return uint32_t(_mm256_movemask_epi8(_mm256_permute4x64_epi64(packed, 0xD8)));
  }
  ANS_INLINE static void store_low(uint8_t* p, const U32& a) {
    const __m256i m = _mm256_set1_epi32(0xFF);
    const __m256i x = _mm256_packus_epi32(_mm256_and_si256(a.v[0], m), _mm256_and_si256(a.v[1], m));
    const __m256i y = _mm256_packus_epi32(_mm256_and_si256(a.v[2], m), _mm256_and_si256(a.v[3], m));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permutevar8x32_epi32(_mm256_packus_epi16(x, y), order));
  }
  ANS_INLINE static void store_low(uint16_t* p, const U32& a) {
    const __m256i m = _mm256_set1_epi32(0xFFFF);
    for (int k = 0; k < 2; ++k) {
      const __m256i x = _mm256_packus_epi32(_mm256_and_si256(a.v[2 * k], m), _mm256_and_si256(a.v[2 * k + 1], m));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 16 * k), _mm256_permute4x64_epi64(x, 0xD8));
    }
  }
#define ANS_EACH(expression) make([&](int k) __attribute__((always_inline)) { return expression; })
  ANS_INLINE static U32 set1(uint32_t c) { return ANS_EACH((void(k), _mm256_set1_epi32(int(c)))); }
  ANS_INLINE static U32 and_(const U32& a, const U32& b) { return ANS_EACH(_mm256_and_si256(a.v[k], b.v[k])); }
  ANS_INLINE static U32 xor_(const U32& a, const U32& b) { return ANS_EACH(_mm256_xor_si256(a.v[k], b.v[k])); }
  ANS_INLINE static U32 or_(const U32& a, const U32& b) { return ANS_EACH(_mm256_or_si256(a.v[k], b.v[k])); }
  ANS_INLINE static U32 add(const U32& a, const U32& b) { return ANS_EACH(_mm256_add_epi32(a.v[k], b.v[k])); }
  ANS_INLINE static U32 sub(const U32& a, const U32& b) { return ANS_EACH(_mm256_sub_epi32(a.v[k], b.v[k])); }
  ANS_INLINE static U32 mul(const U32& a, const U32& b) { return ANS_EACH(_mm256_mullo_epi32(a.v[k], b.v[k])); }
  ANS_INLINE static __m256i mulhi1(__m256i a, __m256i b) {
    const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(a, b), 32);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    return _mm256_blend_epi32(even, odd, 0xAA);
  }
  ANS_INLINE static U32 mulhi(const U32& a, const U32& b) { return ANS_EACH(mulhi1(a.v[k], b.v[k])); }
  template <int n>
  ANS_INLINE static U32 shr(const U32& a) { return ANS_EACH(_mm256_srli_epi32(a.v[k], n)); }
  template <int n>
  ANS_INLINE static U32 shl(const U32& a) { return ANS_EACH(_mm256_slli_epi32(a.v[k], n)); }
  ANS_INLINE static U32 shr_var(const U32& a, const U32& n) { return ANS_EACH(_mm256_srlv_epi32(a.v[k], n.v[k])); }
  ANS_INLINE static U32 gather(const uint32_t* t, const U32& i) { return ANS_EACH(_mm256_i32gather_epi32(reinterpret_cast<const int*>(t), i.v[k], 4)); }
  ANS_INLINE static U32 gather16(const uint16_t* t, const U32& i) {
    return ANS_EACH(_mm256_and_si256(_mm256_set1_epi32(0xFFFF), _mm256_i32gather_epi32(reinterpret_cast<const int*>(t), i.v[k], 2)));
  }
  ANS_INLINE static Mask ge(const U32& a, const U32& b) { return ANS_EACH(_mm256_cmpeq_epi32(_mm256_max_epu32(a.v[k], b.v[k]), a.v[k])); }
  ANS_INLINE static Mask both(const Mask& a, const Mask& b) { return and_(a, b); }
  ANS_INLINE static Mask first(int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return ANS_EACH(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8 * k), lane));
  }
  ANS_INLINE static U32 max(const U32& a, const U32& b) { return ANS_EACH(_mm256_max_epu32(a.v[k], b.v[k])); }
  ANS_INLINE static bool any_ge(const U32& a, const U32& b) {  // a compare of the largest
    const __m256i m = _mm256_max_epu32(_mm256_max_epu32(a.v[0], a.v[1]), _mm256_max_epu32(a.v[2], a.v[3]));
    return _mm256_movemask_epi8(_mm256_cmpeq_epi32(_mm256_max_epu32(m, b.v[0]), m)) != 0;  // b: the same in all lanes
  }
  ANS_INLINE static U32 select(const Mask& m, const U32& a, const U32& b) { return ANS_EACH(_mm256_blendv_epi8(b.v[k], a.v[k], m.v[k])); }
  // For the matrix models: numbers are signed where a name says so.
  static constexpr int kDotColumns = 2;
  template <class T>
  ANS_INLINE static const T& fetch(const T& t) { return t; }
  template <int n>
  ANS_INLINE static const U32& pick(const U32 (&of)[n], int i) { return of[i]; }
  ANS_INLINE static U32 load_i8(const uint8_t* p) { return ANS_EACH(_mm256_cvtepi8_epi32(load_quarter(p + 8 * k))); }
  ANS_INLINE static U32 load_i16(const int16_t* p) { return ANS_EACH(_mm256_cvtepi16_epi32(load_half(p + 8 * k))); }
  ANS_INLINE static U32 gather8(const uint8_t* t, const U32& i) {
    return ANS_EACH(_mm256_and_si256(_mm256_set1_epi32(0xFF), _mm256_i32gather_epi32(reinterpret_cast<const int*>(t), i.v[k], 1)));
  }
  ANS_INLINE static U32 shr_by(const U32& a, int n) { return ANS_EACH(_mm256_srl_epi32(a.v[k], _mm_cvtsi32_si128(n))); }
  ANS_INLINE static U32 shl_by(const U32& a, int n) { return ANS_EACH(_mm256_sll_epi32(a.v[k], _mm_cvtsi32_si128(n))); }
  ANS_INLINE static U32 sar_by(const U32& a, int n) { return ANS_EACH(_mm256_sra_epi32(a.v[k], _mm_cvtsi32_si128(n))); }
  ANS_INLINE static U32 min_signed(const U32& a, const U32& b) { return ANS_EACH(_mm256_min_epi32(a.v[k], b.v[k])); }
  ANS_INLINE static U32 max_signed(const U32& a, const U32& b) { return ANS_EACH(_mm256_max_epi32(a.v[k], b.v[k])); }
  ANS_INLINE static U32 float_bits(const U32& a) { return ANS_EACH(_mm256_castps_si256(_mm256_cvtepi32_ps(a.v[k]))); }
  ANS_INLINE static U32 dot_pairs(const U32& sum, const U32& a, uint32_t b) {
    const __m256i both = _mm256_set1_epi32(int(b));
    return ANS_EACH(_mm256_add_epi32(sum.v[k], _mm256_madd_epi16(a.v[k], both)));
  }
  // Numbers as float32, each operation rounded.
  ANS_INLINE static __m256 ps(__m256i v) { return _mm256_castsi256_ps(v); }
  ANS_INLINE static __m256i si(__m256 v) { return _mm256_castps_si256(v); }
  ANS_INLINE static U32 fadd(const U32& x, const U32& y) { return ANS_EACH(si(_mm256_add_ps(ps(x.v[k]), ps(y.v[k])))); }
  ANS_INLINE static U32 fsub(const U32& x, const U32& y) { return ANS_EACH(si(_mm256_sub_ps(ps(x.v[k]), ps(y.v[k])))); }
  ANS_INLINE static U32 fmul(const U32& x, const U32& y) { return ANS_EACH(si(_mm256_mul_ps(ps(x.v[k]), ps(y.v[k])))); }
  ANS_INLINE static Mask fless(const U32& x, const U32& y) { return ANS_EACH(si(_mm256_cmp_ps(ps(x.v[k]), ps(y.v[k]), _CMP_LT_OQ))); }
  ANS_INLINE static U32 floor_of(const U32& x) { return ANS_EACH(_mm256_cvttps_epi32(_mm256_floor_ps(ps(x.v[k])))); }  // below 2^31
#undef ANS_EACH
  ANS_INLINE static uint32_t bits(const Mask& m) { return bits(m.v[0]) | bits(m.v[1]) << 8 | bits(m.v[2]) << 16 | bits(m.v[3]) << 24; }
  ANS_INLINE static unsigned bits(__m256i m) { return unsigned(_mm256_movemask_ps(_mm256_castsi256_ps(m))); }
  ANS_INLINE static void refill(U32& x, const uint8_t*& words) {
    for (int k = 0; k < 4; ++k) {
      const __m256i low = _mm256_cmpeq_epi32(_mm256_srli_epi32(x.v[k], 16), _mm256_setzero_si256());
      const unsigned m = bits(low);
      __m256i w = _mm256_cvtepu16_epi32(load_half(words));
      w = _mm256_permutevar8x32_epi32(w, _mm256_cvtepu8_epi32(load_quarter(kPermutations.expand[m])));
      x.v[k] = _mm256_blendv_epi8(x.v[k], _mm256_or_si256(_mm256_slli_epi32(x.v[k], 16), w), low);
      words += 2 * __builtin_popcount(m);
    }
  }
  ANS_INLINE static void spill(U32& x, const Mask& full, uint8_t*& words) {
    for (int k = 3; k >= 0; --k) {
      const unsigned m = bits(full.v[k]);
      __m256i w = _mm256_permutevar8x32_epi32(x.v[k], _mm256_cvtepu8_epi32(load_quarter(kPermutations.pack[m])));
      w = _mm256_and_si256(w, _mm256_set1_epi32(0xFFFF));
      w = _mm256_permute4x64_epi64(_mm256_packus_epi32(w, w), 0x08);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(words - 16), _mm256_castsi256_si128(w));
      words -= 2 * __builtin_popcount(m);
      x.v[k] = _mm256_blendv_epi8(x.v[k], _mm256_srli_epi32(x.v[k], 16), full.v[k]);
    }
  }
};

}  // namespace ANS_TARGET
}  // namespace ans::core
