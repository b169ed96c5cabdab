// Lanes over 16-bit halves of the states (AVX-512 with VBMI2): 32 high and 32 low halves fill one register each, and all tables stay in registers.
// The 32-bit products and quotients are put together from 16-bit ones.
#pragma once

namespace ans::core {
namespace ANS_TARGET {

alignas(64) static const uint8_t kEvenBytes[64] = {
    0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36,  38,  40,  42,  44,  46,  48,  50,  52,  54,  56,  58,  60,  62,
    64, 66, 68, 70, 72, 74, 76, 78, 80, 82, 84, 86, 88, 90, 92, 94, 96, 98, 100, 102, 104, 106, 108, 110, 112, 114, 116, 118, 120, 122, 124, 126};

alignas(64) static const uint16_t kOddWords[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                   33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};

// The low and the high halves of 32 numbers that were unpacked to two registers.
alignas(64) static const uint16_t kUnpackedLow[32] = {0,  2,  4,  6,  32, 34, 36, 38, 8,  10, 12, 14, 40, 42, 44, 46,
                                                      16, 18, 20, 22, 48, 50, 52, 54, 24, 26, 28, 30, 56, 58, 60, 62};
alignas(64) static const uint16_t kUnpackedHigh[32] = {1,  3,  5,  7,  33, 35, 37, 39, 9,  11, 13, 15, 41, 43, 45, 47,
                                                       17, 19, 21, 23, 49, 51, 53, 55, 25, 27, 29, 31, 57, 59, 61, 63};

// 64, 128 or 256 entries of 16 bits; only the low 6, 7 or 8 bits of an index count.
template <int kEntries>
struct Lookup16 {
  __m512i v[kEntries / 32];
  Lookup16() = default;
  ANS_INLINE explicit Lookup16(const uint16_t* t) {
    for (int k = 0; k < kEntries / 32; ++k) v[k] = _mm512_loadu_si512(t + 32 * k);
  }
  ANS_INLINE __m512i quarter(int k, __m512i i) const { return _mm512_permutex2var_epi16(v[2 * k], i, v[2 * k + 1]); }
  ANS_INLINE __m512i operator()(__m512i i) const {
    if constexpr (kEntries == 64) return quarter(0, i);
    const __mmask32 bit6 = _mm512_test_epi16_mask(i, _mm512_set1_epi16(64));
    const __m512i low = _mm512_mask_mov_epi16(quarter(0, i), bit6, quarter(kEntries > 64 ? 1 : 0, i));
    if constexpr (kEntries <= 128) return low;
    const __mmask32 bit7 = _mm512_test_epi16_mask(i, _mm512_set1_epi16(128));
    const __m512i high = _mm512_mask_mov_epi16(quarter(kEntries > 128 ? 2 : 0, i), bit6, quarter(kEntries > 128 ? 3 : 0, i));
    return _mm512_mask_mov_epi16(low, bit7, high);
  }
};

// 32 states of 32 bits.
struct State16 {
  __m512i high, low;
};

// Advances the states of streams [kBegin, kEnd) by the symbols that their positions in these buckets stand for; entries of the tables come to `index`. Step by step over the streams.
template <int kPositionBits, int kBegin, int kEnd, class Tables, int kStreams>
ANS_INLINE void pop_from_buckets(const Tables& tables, const __m512i (&bucket)[kStreams], State16 (&x)[kStreams], __m512i (&index)[kStreams]) {
#define ANS_EACH ANS_UNROLL for (int s = kBegin; s < kEnd; ++s)
  const __m512i ones = _mm512_set1_epi16(-1), position = _mm512_set1_epi16((1 << kPositionBits) - 1), top4 = _mm512_set1_epi16(short(0xF000));
  __m512i divider_alias[kStreams], offset[kStreams], bias[kStreams], freq16[kStreams], add[kStreams];
  __mmask32 is_alias[kStreams], carry[kStreams];
  ANS_EACH divider_alias[s] = tables[s].divider_alias(bucket[s]);
  ANS_EACH offset[s] = tables[s].alias_offset(bucket[s]);
  ANS_EACH bias[s] = _mm512_and_si512(x[s].low, position);
  // position << .. | ones >= divider << .. | alias  <=>  position >= divider
  ANS_EACH is_alias[s] = _mm512_cmpge_epu16_mask(_mm512_shldi_epi16(x[s].low, ones, 16 - kPositionBits), divider_alias[s]);
  ANS_EACH index[s] = _mm512_mask_mov_epi16(bucket[s], is_alias[s], divider_alias[s]);
  ANS_EACH bias[s] = _mm512_mask_add_epi16(bias[s], is_alias[s], bias[s], offset[s]);
  // freq * (x >> 12) = freq16 * high + freq * (low >> 12); the second product fits 16 bits, also with the bias added.
  ANS_EACH freq16[s] = tables[s].freq16(index[s]);
  ANS_EACH add[s] = _mm512_add_epi16(_mm512_mulhi_epu16(freq16[s], _mm512_and_si512(x[s].low, top4)), bias[s]);
  ANS_EACH x[s].low = _mm512_add_epi16(_mm512_mullo_epi16(freq16[s], x[s].high), add[s]);
  ANS_EACH x[s].high = _mm512_mulhi_epu16(freq16[s], x[s].high);
  ANS_EACH carry[s] = _mm512_cmplt_epu16_mask(x[s].low, add[s]);
  ANS_EACH x[s].high = _mm512_mask_sub_epi16(x[s].high, carry[s], x[s].high, ones);
#undef ANS_EACH
}

template <int kBuckets>
struct Lanes16 {
  static constexpr int kDecodeStreams = kBuckets == 64 ? 6 : 4, kEncodeStreams = 4;
  static constexpr int kPositionBits = kBuckets == 64 ? 6 : kBuckets == 128 ? 5 : 4;
  using Index = __m512i;
  using Mask = __mmask32;
  using State = State16;
  using Lookup = Lookup16<kBuckets>;
  static constexpr __mmask64 kLowBytes = 0x5555555555555555;  // of every 16-bit lane
  ANS_INLINE static __m512i set1(int v) { return _mm512_set1_epi16(short(v)); }

  struct Decoder {
    Decoder() = default;
    ANS_INLINE explicit Decoder(const DecodeTable& t)
        : divider_alias(t.divider_alias), alias_offset(t.alias_offset), freq16(t.freq16), first16(set1(t.first_value)), first8(_mm512_set1_epi8(char(t.first_value))),
          symbols(_mm512_add_epi8(first8, _mm512_permutex2var_epi8(_mm512_loadu_si512(kIota), _mm512_load_si512(kEvenBytes), _mm512_loadu_si512(kIota + 32)))),
          mark16(set1(t.first_value + t.escape_index)), mark8(_mm512_set1_epi8(char(t.first_value + t.escape_index))) {}
    Lookup divider_alias, alias_offset, freq16;
    __m512i first16, first8, symbols;  // symbols: 64, by index
    __m512i mark16, mark8;             // what is stored for an escape
  };

  ANS_INLINE static __m512i narrow(__m512i a, __m512i b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)), _mm512_cvtepi32_epi16(b), 1);
  }
  ANS_INLINE static __m512i widen(__m256i high, __m256i low) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
  }
  ANS_INLINE static State load(const uint32_t* p) {
    const __m512i a = _mm512_loadu_si512(p), b = _mm512_loadu_si512(p + 16);
    return {narrow(_mm512_srli_epi32(a, 16), _mm512_srli_epi32(b, 16)), narrow(a, b)};
  }
  ANS_INLINE static void store(uint32_t* p, const State& x) {
    _mm512_storeu_si512(p, widen(_mm512_castsi512_si256(x.high), _mm512_castsi512_si256(x.low)));
    _mm512_storeu_si512(p + 16, widen(_mm512_extracti64x4_epi64(x.high, 1), _mm512_extracti64x4_epi64(x.low, 1)));
  }

  // Step by step over all streams: see decode_row().
  template <int kBegin, int kEnd, class Decoders, int kStreams>
  ANS_INLINE static void pop(const Decoders& decoders, State (&x)[kStreams], Index (&index)[kStreams]) {
#define ANS_EACH ANS_UNROLL for (int s = kBegin; s < kEnd; ++s)
    __m512i bucket[kStreams];
    ANS_EACH bucket[s] = _mm512_srli_epi16(x[s].low, kPositionBits);
    pop_from_buckets<kPositionBits, kBegin, kEnd>(decoders, bucket, x, index);
  }
  template <int kBegin, int kEnd, int kStreams>
  ANS_INLINE static void refill(State (&x)[kStreams], const uint8_t* (&words)[kStreams]) {
    Mask empty[kStreams];
    ANS_EACH empty[s] = _mm512_testn_epi16_mask(x[s].high, x[s].high);
    ANS_EACH x[s].high = _mm512_mask_mov_epi16(x[s].high, empty[s], x[s].low);
    ANS_EACH x[s].low = _mm512_mask_expand_epi16(x[s].low, empty[s], _mm512_loadu_si512(words[s]));
    ANS_EACH words[s] += 2 * __builtin_popcount(empty[s]);
#undef ANS_EACH
  }

  struct Encoder {
    ANS_INLINE explicit Encoder(const EncodeTable& t)
        : freq16(t.freq16), inverse_low(t.inverse_low), inverse_high(t.inverse_high), excess(t.excess), part_slot(t.part_slot), part_end(t.part_end),
          guess_low(_mm512_loadu_si512(t.part_guess)), guess_high(_mm512_loadu_si512(t.part_guess + 64)), own(_mm512_loadu_si512(t.own)), window_shift(set1(t.window_shift)),
          steps(t.part_steps) {}
    Lookup16<64> freq16, inverse_low, inverse_high, excess, part_slot;
    const uint16_t* part_end;
    __m512i guess_low, guess_high, own, window_shift;
    int steps;
  };

  ANS_INLINE static void spill(State& x, Mask full, uint8_t*& words) {
    put_words(full, x.low, words);
    x.low = _mm512_mask_mov_epi16(x.low, full, x.high);
    x.high = _mm512_mask_mov_epi16(x.high, full, _mm512_setzero_si512());
  }

  ANS_INLINE static __m512i divide(__m512i x, __m512i inverse) {
    return _mm512_cvttps_epu32(_mm512_mul_ps(_mm512_cvtepu32_ps(x), _mm512_castsi512_ps(inverse)));
  }
  // Stage by stage over all streams: a table is then loaded once for kStreams look-ups, and there are more tables than registers.
  template <bool kPartial, int kStreams>
  ANS_INLINE static void push(const Encoder& e, State (&x)[kStreams], const Index (&index)[kStreams], Mask on, uint8_t* (&words)[kStreams]) {
    static_assert(kBuckets == 64);
    const __m512i one = set1(1);
    __m512i freq16[kStreams], inverse_low[kStreams], inverse_high[kStreams], quotient_low[kStreams], quotient_high[kStreams], bias[kStreams];
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) freq16[s] = e.freq16(index[s]);
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) inverse_low[s] = e.inverse_low(index[s]);
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) inverse_high[s] = e.inverse_high(index[s]);
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      Mask full = _mm512_cmpge_epu16_mask(x[s].high, freq16[s]);  // x >= freq * 2^20
      if constexpr (kPartial) full &= on;
      State y = x[s];
      spill(y, full, words[s]);
      // The quotient or one less, by floating-point arithmetic: see inverse_below(). Halves unpack to numbers, 16 in each register.
      const __m512i a = divide(_mm512_unpacklo_epi16(y.low, y.high), _mm512_unpacklo_epi16(inverse_low[s], inverse_high[s]));
      const __m512i b = divide(_mm512_unpackhi_epi16(y.low, y.high), _mm512_unpackhi_epi16(inverse_low[s], inverse_high[s]));
      const __m512i low = _mm512_permutex2var_epi16(a, _mm512_load_si512(kUnpackedLow), b), high = _mm512_permutex2var_epi16(a, _mm512_load_si512(kUnpackedHigh), b);
      const __m512i freq = _mm512_srli_epi16(freq16[s], 4);
      const __m512i rest = _mm512_sub_epi16(y.low, _mm512_mullo_epi16(low, freq));  // below 2 * freq
      const Mask less = _mm512_cmpge_epu16_mask(rest, freq);
      bias[s] = _mm512_mask_sub_epi16(rest, less, rest, freq);
      quotient_low[s] = _mm512_mask_add_epi16(low, less, low, one);
      quotient_high[s] = _mm512_mask_add_epi16(high, _mm512_mask_testn_epi16_mask(less, quotient_low[s], quotient_low[s]), high, one);
    }
    // Slot of the bias: in the own bucket, or in one of the alias parts.
    __m512i position[kStreams], part[kStreams], slot[kStreams];
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      position[s] = _mm512_add_epi16(bias[s], e.excess(index[s]));  // anything for a bias in the own bucket
      part[s] = _mm512_maskz_permutex2var_epi8(kLowBytes, e.guess_low, _mm512_srlv_epi16(position[s], e.window_shift), e.guess_high);
    }
    for (int i = e.steps - 1; i >= 0; --i) {
      const Lookup16<64> end(e.part_end + (1 << i) - 1);
      const __m512i step = set1(1 << i);
      ANS_UNROLL
      for (int s = 0; s < kStreams; ++s) part[s] = _mm512_mask_add_epi16(part[s], _mm512_cmpge_epu16_mask(position[s], end(part[s])), part[s], step);
    }
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) slot[s] = _mm512_add_epi16(position[s], e.part_slot(part[s]));
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      const Mask is_own = _mm512_cmplt_epu16_mask(bias[s], _mm512_maskz_permutexvar_epi8(kLowBytes, index[s], e.own));
      slot[s] = _mm512_mask_mov_epi16(slot[s], is_own, _mm512_or_si512(_mm512_slli_epi16(index[s], 6), bias[s]));
      const State next{_mm512_shldi_epi16(quotient_high[s], quotient_low[s], 12), _mm512_or_si512(_mm512_slli_epi16(quotient_low[s], 12), slot[s])};
      x[s] = kPartial ? select_state(on, next, x[s]) : next;
    }
  }

  ANS_INLINE static Mask first(int n) { return n >= 32 ? ~0u : (1u << n) - 1; }
  ANS_INLINE static State select_state(Mask m, const State& a, const State& b) {
    return {_mm512_mask_mov_epi16(b.high, m, a.high), _mm512_mask_mov_epi16(b.low, m, a.low)};
  }

  ANS_INLINE static __m512i symbols_of(const Decoder& d, Index index) { return _mm512_add_epi16(_mm512_and_si512(index, set1(kBuckets - 1)), d.first16); }
  template <class Out>
  ANS_INLINE static void store_row(const Decoder& d, Out* out, Index index) {
    if constexpr (sizeof(Out) == 1) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi16_epi8(symbols_of(d, index)));
    else _mm512_storeu_si512(out, symbols_of(d, index));
  }
  template <class Out, bool kEscape>
  ANS_INLINE static uint64_t store_row_pair(const Decoder& d, Out* out, Index a, Index b) {
    if constexpr (sizeof(Out) == 1) {
      __m512i v = _mm512_permutex2var_epi8(a, _mm512_load_si512(kEvenBytes), b);
      if constexpr (kBuckets == 64) v = _mm512_permutexvar_epi8(v, d.symbols);  // which takes the low 6 bits
      else if constexpr (kBuckets == 128) v = _mm512_add_epi8(_mm512_and_si512(v, _mm512_set1_epi8(kBuckets - 1)), d.first8);
      else v = _mm512_add_epi8(v, d.first8);
      _mm512_storeu_si512(out, v);
      return kEscape ? _mm512_cmpeq_epi8_mask(v, d.mark8) : 0;
    } else {
      const __m512i v = symbols_of(d, a), w = symbols_of(d, b);
      _mm512_storeu_si512(out, v);
      _mm512_storeu_si512(out + format::kLanes, w);
      return kEscape ? _mm512_cmpeq_epi16_mask(v, d.mark16) | _mm512_cmpeq_epi16_mask(w, d.mark16) : 0;
    }
  }
  ANS_INLINE static uint32_t equal_in_row(const uint8_t* row, uint8_t v) {
    return _mm256_cmpeq_epi8_mask(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)), _mm256_set1_epi8(char(v)));
  }
  ANS_INLINE static uint32_t equal_in_row(const uint16_t* row, uint16_t v) { return _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(row), set1(v)); }

  // Weights by index, 64 of them; indices may carry garbage. What from_float<T>(dequantize_symbol(first_value + i, scale)) is for a finite scale; the mark for an
  // escape. A matrix row may be short: there are few operations here.
  using Weights = Lookup16<64>;
  struct WeightValues {
    WeightValues() = default;
    ANS_INLINE explicit WeightValues(const DecodeTable& table) {
      const __m512i mark = set1(table.escape_index);  // -1: of no index
      for (int k = 0; k < 4; ++k) {
        const __m512i index = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(kIota + 16 * k)));
        symbol[k] = _mm512_cvtepi32_ps(_mm512_add_epi32(index, _mm512_set1_epi32(table.first_value)));
      }
      for (int k = 0; k < 2; ++k) escape[k] = _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(kIota + 32 * k), mark);
    }
    __m512 symbol[4];
    Mask escape[2];
  };
  template <class T>
  ANS_INLINE static Weights make_weights(const WeightValues& values, float scale) {
    Weights weights;
    const __m512 s = _mm512_set1_ps(scale);
    for (int k = 0; k < 2; ++k) {
      const __m512i w = round_to(T{}, _mm512_mul_ps(values.symbol[2 * k], s), _mm512_mul_ps(values.symbol[2 * k + 1], s));
      weights.v[k] = _mm512_mask_mov_epi16(w, values.escape[k], set1(kWeightMark));
    }
    return weights;
  }
  ANS_INLINE static __m512i round_to(Float16, __m512 x, __m512 y) {
    const __m256i a = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), b = _mm512_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  }
  // Numbers, no NaNs; the instruction for this flushes subnormals. The halves that remain are the high ones.
  ANS_INLINE static __m512i round_to(BFloat16, __m512 x, __m512 y) {
    return _mm512_permutex2var_epi16(add_half(x), _mm512_load_si512(kOddWords), add_half(y));
  }
  ANS_INLINE static __m512i add_half(__m512 x) {
    const __m512i bits = _mm512_castps_si512(x), up = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF));
    return _mm512_mask_add_epi32(up, _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000)), up, _mm512_set1_epi32(1));
  }
  template <class T>
  ANS_INLINE static Index store_weights(T* out, const Weights& weights, Index index) {
    const __m512i w = weights(index);
    _mm512_storeu_si512(out, w);
    return w;
  }
  ANS_INLINE static Index larger_weights(Index a, Index b) { return _mm512_max_epi16(a, b); }
  ANS_INLINE static bool any_mark(Index w) { return _mm512_cmpeq_epi16_mask(w, set1(kWeightMark)) != 0; }

  ANS_INLINE static Index load_index(const uint8_t* p) { return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
};

// Indices of 8-bit symbols, 64 at a time.
template <int kBuckets, bool kDense>
ANS_NOINLINE IndexResult index_bytes_of(const EncodeTable& t, const uint8_t* symbols, int64_t n, uint8_t* index, uint16_t* raw, uint16_t* cost) {
  IndexResult result;
  __m512i map[4];
  for (int k = 0; k < 4; ++k) map[k] = _mm512_loadu_si512(t.index_of + 64 * k);
  const Lookup16<kBuckets> costs(t.cost);
  const __m512i first_value = _mm512_set1_epi8(char(t.first_value)), raw_min = _mm512_set1_epi8(char(t.raw_min));
  const __m512i escape = _mm512_set1_epi8(char(t.escape_index)), invalid = _mm512_set1_epi8(char(t.invalid_index));
  const __m512i last = _mm512_set1_epi8(char(t.core_size - 1)), missing = t.escape_index >= 0 ? escape : invalid;
  __m512i sum = _mm512_loadu_si512(cost), sum_odd = _mm512_setzero_si512(), raw_seen = _mm512_setzero_si512();
  auto append_raw = [&](__mmask32 escaped, __m256i values) __attribute__((always_inline)) {
    _mm512_storeu_si512(raw + result.escapes, _mm512_maskz_compress_epi16(escaped, _mm512_cvtepu8_epi16(values)));
    result.escapes += __builtin_popcount(escaped);
  };
  __mmask64 bad = 0;
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(symbols + i + 2048), _MM_HINT_T0);
    const __m512i symbol = _mm512_loadu_si512(symbols + i), u = _mm512_sub_epi8(symbol, first_value);
    const __m512i k = kDense ? _mm512_mask_mov_epi8(u, _mm512_cmpgt_epu8_mask(u, last), missing)
                             : _mm512_mask_blend_epi8(_mm512_movepi8_mask(u), _mm512_permutex2var_epi8(map[0], u, map[1]), _mm512_permutex2var_epi8(map[2], u, map[3]));
    _mm512_storeu_si512(index + i, k);
    sum = _mm512_add_epi16(sum, costs(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(k))));
    sum_odd = _mm512_add_epi16(sum_odd, costs(_mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(k, 1))));
    if (t.escape_index >= 0) {
      const __mmask64 escaped = _mm512_cmpeq_epi8_mask(k, escape);
      if (escaped != 0) {
        const __m512i r = _mm512_sub_epi8(symbol, raw_min);
        raw_seen = _mm512_or_si512(raw_seen, _mm512_maskz_mov_epi8(escaped, r));
        append_raw(__mmask32(escaped), _mm512_castsi512_si256(r));
        append_raw(__mmask32(escaped >> 32), _mm512_extracti64x4_epi64(r, 1));
      }
    } else {
      bad |= _mm512_cmpeq_epi8_mask(k, invalid);
    }
  }
  _mm512_storeu_si512(cost, _mm512_add_epi16(sum, sum_odd));
  // A raw value is valid if it is below 2^raw_bits: no higher bit may ever be set.
  if (t.escape_index >= 0 && t.raw_bits < 8) bad |= _mm512_test_epi8_mask(raw_seen, _mm512_set1_epi8(char(0xFF << t.raw_bits)));
  result.invalid = bad != 0 && (t.escape_index >= 0 || t.invalid_index >= 0);
  index_symbols_from(t, symbols, i, n, index, raw, cost, &result);
  return result;
}

template <int kBuckets>
IndexResult index_bytes(const EncodeTable& t, const uint8_t* symbols, int64_t n, uint8_t* index, uint16_t* raw, uint16_t* cost) {
  return t.dense ? index_bytes_of<kBuckets, true>(t, symbols, n, index, raw, cost) : index_bytes_of<kBuckets, false>(t, symbols, n, index, raw, cost);
}

}  // namespace ANS_TARGET
}  // namespace ans::core
