// Lanes over 16-bit halves of the states in AVX2 registers, for decoding 8-bit symbols of alphabets up to 64: tables are looked up by byte shuffles, 16 entries at
// a time, which is faster than gathers. See lane_coder.h for what the functions mean.
#pragma once

namespace ans::core {
namespace ANS_TARGET {

// expand[m]: the k-th word goes to the k-th set lane of m, the other lanes become zero.
struct WordShuffles {
  alignas(16) uint8_t expand[256][16];
  WordShuffles() {
    for (int m = 0; m < 256; ++m)
      for (int i = 0, taken = 0; i < 8; ++i) {
        const bool set = m >> i & 1;
        expand[m][2 * i] = uint8_t(set ? 2 * taken : 0x80);
        expand[m][2 * i + 1] = uint8_t(set ? 2 * taken + 1 : 0x80);
        taken += set;
      }
  }
};
static const WordShuffles kWordShuffles;

struct Lanes16 {
  static constexpr int kDecodeStreams = 2, kBuckets = 64;

  // Words of 32 lanes in two registers: 0-7 and 16-23, 8-15 and 24-31. That is how bytes of 32 lanes unpack to words.
  struct Words {
    __m256i v[2];
  };
  struct State {
    Words high, low;
  };
  using Index = __m256i;  // a byte per lane
  using Mask = __m256i;   // bytes, all ones or zeros

  ANS_INLINE static __m256i set8(int v) { return _mm256_set1_epi8(char(v)); }
  ANS_INLINE static __m256i set16(int v) { return _mm256_set1_epi16(short(v)); }
  ANS_INLINE static Words unpack(__m256i low, __m256i high) { return {{_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)}}; }
  ANS_INLINE static __m256i pack(const Words& w) { return _mm256_packus_epi16(w.v[0], w.v[1]); }  // words below 256

  // 64 bytes, found by an index.
  struct Bytes {
    alignas(16) uint8_t byte[64];
  };
  // An index, and its bits 4 and 5 as the top bits of bytes: a shuffle knows 16 entries, and the blends choose.
  struct Place {
    __m256i index, bit4, bit5;
    ANS_INLINE explicit Place(__m256i i) : index(i), bit4(_mm256_slli_epi16(i, 3)), bit5(_mm256_slli_epi16(i, 2)) {}
  };
  ANS_INLINE static __m256i sixteen(const Bytes& table, int k, const Place& at) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table.byte + 16 * k))), at.index);
  }
  ANS_INLINE static __m256i look_up(const Bytes& table, const Place& at) {
    const __m256i low = _mm256_blendv_epi8(sixteen(table, 0, at), sixteen(table, 1, at), at.bit4);
    const __m256i high = _mm256_blendv_epi8(sixteen(table, 2, at), sixteen(table, 3, at), at.bit4);
    return _mm256_blendv_epi8(low, high, at.bit5);
  }

  struct Decoder {
    Decoder() = default;
    explicit Decoder(const DecodeTable& t)
        : first8(set8(t.first_value)), escape(set8(t.escape_index)) {
      for (int i = 0; i < kBuckets; ++i) {
        divider.byte[i] = uint8_t(t.divider_alias[i] >> 10);
        alias.byte[i] = uint8_t(t.divider_alias[i] & 63);
        offset_low.byte[i] = uint8_t(t.alias_offset[i]);
        offset_high.byte[i] = uint8_t(t.alias_offset[i] >> 8);
        freq16_low.byte[i] = uint8_t(t.freq16[i]);
        freq16_high.byte[i] = uint8_t(t.freq16[i] >> 8);
      }
    }
    Bytes divider, alias, offset_low, offset_high, freq16_low, freq16_high;
    __m256i first8, escape;
  };

  ANS_INLINE static State load(const uint32_t* p) {
    State x;
    for (int k = 0; k < 2; ++k) {
      const __m256i a = VectorAvx2::load1(p + 8 * k), b = VectorAvx2::load1(p + 8 * k + 16), m = _mm256_set1_epi32(0xFFFF);
      x.high.v[k] = _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16)), 0xD8);
      x.low.v[k] = _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(a, m), _mm256_and_si256(b, m)), 0xD8);
    }
    return x;
  }
  ANS_INLINE static void store(uint32_t* p, const State& x) {
    for (int k = 0; k < 2; ++k) {
      const __m256i high = _mm256_permute4x64_epi64(x.high.v[k], 0xD8), low = _mm256_permute4x64_epi64(x.low.v[k], 0xD8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8 * k), _mm256_unpacklo_epi16(low, high));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8 * k + 16), _mm256_unpackhi_epi16(low, high));
    }
  }

  template <int kBegin, int kEnd, class Decoders, int kStreams>
  ANS_INLINE static void pop(const Decoders& decoders, State (&x)[kStreams], Index (&index)[kStreams]) {
    ANS_UNROLL
    for (int s = kBegin; s < kEnd; ++s) index[s] = pop_one(decoders[s], x[s]);
  }
  template <int kBegin, int kEnd, int kStreams>
  ANS_INLINE static void refill(State (&x)[kStreams], const uint8_t* (&words)[kStreams]) {
    ANS_UNROLL
    for (int s = kBegin; s < kEnd; ++s) refill_one(x[s], words[s]);
  }
  ANS_INLINE static Index pop_one(const Decoder& d, State& x) {
    Words bucket16, position16;
    for (int k = 0; k < 2; ++k) {
      bucket16.v[k] = _mm256_and_si256(_mm256_srli_epi16(x.low.v[k], 6), set16(63));
      position16.v[k] = _mm256_and_si256(x.low.v[k], set16(63));
    }
    const __m256i bucket = pack(bucket16), position = pack(position16);
    const Place by_bucket(bucket);
    const __m256i divider = look_up(d.divider, by_bucket), alias = look_up(d.alias, by_bucket);
    const __m256i is_alias = _mm256_cmpeq_epi8(_mm256_max_epu8(position, divider), position);  // position >= divider
    const __m256i index = _mm256_blendv_epi8(bucket, alias, is_alias);
    const __m256i offset_low = _mm256_and_si256(look_up(d.offset_low, by_bucket), is_alias), offset_high = _mm256_and_si256(look_up(d.offset_high, by_bucket), is_alias);
    const Words offset = unpack(offset_low, offset_high);
    const Place by_index(index);
    const Words freq16 = unpack(look_up(d.freq16_low, by_index), look_up(d.freq16_high, by_index));
    for (int k = 0; k < 2; ++k) {  // as in lanes16_avx512.h
      const __m256i bias = _mm256_add_epi16(position16.v[k], offset.v[k]);
      const __m256i add = _mm256_add_epi16(_mm256_mulhi_epu16(freq16.v[k], _mm256_and_si256(x.low.v[k], set16(0xF000))), bias);
      const __m256i low = _mm256_add_epi16(_mm256_mullo_epi16(freq16.v[k], x.high.v[k]), add);
      const __m256i carry = _mm256_min_epu16(_mm256_subs_epu16(add, low), set16(1));  // low < add
      x.low.v[k] = low;
      x.high.v[k] = _mm256_add_epi16(_mm256_mulhi_epu16(freq16.v[k], x.high.v[k]), carry);
    }
    return index;
  }

  ANS_INLINE static void refill_one(State& x, const uint8_t*& words) {
    Words empty;
    for (int k = 0; k < 2; ++k) empty.v[k] = _mm256_cmpeq_epi16(x.high.v[k], _mm256_setzero_si256());
    const uint32_t m = uint32_t(_mm256_movemask_epi8(_mm256_packs_epi16(empty.v[0], empty.v[1])));
    const uint8_t* at[4];
    at[0] = words;
    for (int q = 0; q < 3; ++q) at[q + 1] = at[q] + 2 * __builtin_popcount(m >> (8 * q) & 0xFF);
    words += 2 * __builtin_popcount(m);
    auto expand = [&](int q) __attribute__((always_inline)) { return VectorAvx2::load_half(kWordShuffles.expand[m >> (8 * q) & 0xFF]); };
    for (int k = 0; k < 2; ++k) {
      const __m256i next = _mm256_inserti128_si256(_mm256_castsi128_si256(VectorAvx2::load_half(at[k])), VectorAvx2::load_half(at[k + 2]), 1);
      const __m256i shuffle = _mm256_inserti128_si256(_mm256_castsi128_si256(expand(k)), expand(k + 2), 1);
      x.high.v[k] = _mm256_blendv_epi8(x.high.v[k], x.low.v[k], empty.v[k]);
      x.low.v[k] = _mm256_blendv_epi8(x.low.v[k], _mm256_shuffle_epi8(next, shuffle), empty.v[k]);
    }
  }
  ANS_INLINE static Mask first(int n) {
    const __m256i lane = _mm256_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
    return _mm256_cmpgt_epi8(set8(n), lane);
  }
  ANS_INLINE static State select_state(Mask m, const State& a, const State& b) {
    const Words on = unpack(m, m);
    State x;
    for (int k = 0; k < 2; ++k) {
      x.high.v[k] = _mm256_blendv_epi8(b.high.v[k], a.high.v[k], on.v[k]);
      x.low.v[k] = _mm256_blendv_epi8(b.low.v[k], a.low.v[k], on.v[k]);
    }
    return x;
  }

  template <class Out>
  ANS_INLINE static void store_row(const Decoder& d, Out* out, Index index) {
    static_assert(sizeof(Out) == 1);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_add_epi8(index, d.first8));
  }
  template <class Out, bool kEscape>
  ANS_INLINE static uint64_t store_row_pair(const Decoder& d, Out* out, Index first, Index second) {
    store_row(d, out, first);
    store_row(d, out + format::kLanes, second);
    if constexpr (!kEscape) return 0;
    const __m256i some = _mm256_or_si256(_mm256_cmpeq_epi8(first, d.escape), _mm256_cmpeq_epi8(second, d.escape));
    return !_mm256_testz_si256(some, some);
  }
  ANS_INLINE static uint32_t equal_in_row(const uint8_t* row, uint8_t v) { return VectorAvx2::equal_mask(row, v); }
};

}  // namespace ANS_TARGET
}  // namespace ans::core
