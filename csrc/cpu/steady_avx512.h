// Steady rows (core/matrix/steady_rows.h) over 16-bit halves of the states in AVX-512 registers: a look-up knows 64 or 128 entries, two tables of 32 or 64 buckets side by side.
#pragma once

namespace ans::core {
namespace ANS_TARGET {

// 64 or 128 bytes, found by the low 6 or 7 bits of each byte.
template <int kEntries>
struct Lookup8 {
  __m512i v[kEntries / 64];
  Lookup8() = default;
  ANS_INLINE explicit Lookup8(const uint8_t* t) {
    for (int k = 0; k < kEntries / 64; ++k) v[k] = _mm512_loadu_si512(t + 64 * k);
  }
  ANS_INLINE __m512i operator()(__m512i i) const {
    if constexpr (kEntries == 64) return _mm512_permutexvar_epi8(i, v[0]);
    else return _mm512_permutex2var_epi8(v[0], i, v[1]);
  }
};

template <int kBuckets>
struct SteadyLanes {
  static constexpr int kEntries = 2 * kBuckets, kEntryBits = kBuckets == 32 ? 5 : 6, kPositionBits = format::kProbBits - kEntryBits;
  using State = State16;
  ANS_INLINE static __m512i set1(int v) { return _mm512_set1_epi16(short(v)); }

  struct Tables {
    Lookup16<kEntries> divider_alias, alias_offset, freq16;
    Lookup8<kEntries> value, step;
    Tables() = default;
    ANS_INLINE explicit Tables(const SteadyTable& t) : divider_alias(t.divider_alias), alias_offset(t.alias_offset), freq16(t.freq16), value(t.value), step(t.step) {}
    ANS_INLINE const Tables& operator[](int) const { return *this; }  // the same for all streams
  };

  // One symbol of every lane of each stream: advances the states; entries come to `index`, in the low kEntryBits + 1 bits. walk: the trellis's states, in the upper bits from
  // kEntryBits on, so that a state's parity stands where entries have it.
  template <int kBegin, int kEnd, int kStreams>
  ANS_INLINE static void pop(const Tables& t, State (&x)[kStreams], const __m512i (&walk)[kStreams], __m512i (&index)[kStreams]) {
#define ANS_EACH ANS_UNROLL for (int s = kBegin; s < kEnd; ++s)
    constexpr int kSelect = 0xCA;  // first ? second : third
    const __m512i low = set1(kBuckets - 1);
    __m512i bucket[kStreams];
    ANS_EACH bucket[s] = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(x[s].low, kPositionBits), walk[s], kSelect);
    pop_from_buckets<kPositionBits, kBegin, kEnd>(t, bucket, x, index);
  }
  // The trellis's next states, wrong where there is an escape: `escaped` has kSteadyEscape then, in lanes that are on.
  template <bool kPartial, int kBegin, int kEnd, int kStreams>
  ANS_INLINE static void follow(const Tables& t, __m512i (&walk)[kStreams], const __m512i (&index)[kStreams], const __mmask32* on, __m512i& escaped) {
    __m512i step[kStreams];
    ANS_EACH step[s] = t.step(index[s]);
    ANS_EACH escaped = _mm512_or_si512(escaped, kPartial ? _mm512_maskz_mov_epi16(on[s], step[s]) : step[s]);
    // (walk >> kEntryBits) >> 1 XOR step
    ANS_EACH walk[s] = _mm512_slli_epi16(_mm512_xor_si512(_mm512_srli_epi16(walk[s], kEntryBits + 1), _mm512_and_si512(step[s], set1(0x1F))), kEntryBits);
  }
#undef ANS_EACH
  // One row of each stream, kGroup of them step by step together. The symbols come to row[s]. kPartial: states of lanes that are not on stay as they are, so they take no words.
  template <int kGroup, bool kPartial, int kBegin, int kStreams>
  ANS_INLINE static void decode_row(const Tables& t, State (&x)[kStreams], __m512i (&walk)[kStreams], const uint8_t* (&words)[kStreams], __m512i (&index)[kStreams], const __mmask32* on, uint8_t* row,
                                    int64_t stride, __m512i& escaped) {
    if constexpr (kBegin < kStreams) {
      constexpr int kEnd = kBegin + kGroup < kStreams ? kBegin + kGroup : kStreams;
      State before[kStreams];
      if constexpr (kPartial) {
        ANS_UNROLL
        for (int s = kBegin; s < kEnd; ++s) before[s] = x[s];
      }
      pop<kBegin, kEnd>(t, x, walk, index);
      if constexpr (kPartial) {
        ANS_UNROLL
        for (int s = kBegin; s < kEnd; ++s) x[s] = {_mm512_mask_mov_epi16(before[s].high, on[s], x[s].high), _mm512_mask_mov_epi16(before[s].low, on[s], x[s].low)};
      }
      Lanes16<64>::template refill<kBegin, kEnd>(x, words);
      ANS_UNROLL
      for (int s = kBegin; s < kEnd; ++s) _mm256_store_si256(reinterpret_cast<__m256i*>(row + s * stride), _mm512_cvtepi16_epi8(t.value(index[s])));
      follow<kPartial, kBegin, kEnd>(t, walk, index, on, escaped);
      decode_row<kGroup, kPartial, kEnd>(t, x, walk, words, index, on, row, stride, escaped);
    }
  }
};

// 32 rows of 32 bytes -> 32 columns.
ANS_INLINE void transpose_tile(const uint8_t (*tile)[32], __m256i (&out)[32]) {
  // Pairs of rows 16 apart, so that what unpacks within 128 bits comes out in order.
  __m512i a[16], b[16];
  ANS_UNROLL
  for (int i = 0; i < 16; ++i) a[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_load_si256(reinterpret_cast<const __m256i*>(tile[i]))), _mm256_load_si256(reinterpret_cast<const __m256i*>(tile[i + 16])), 1);
  // Each stage joins rows i and i + 8: after four, a lane of 128 bits of register i has column i of 16 rows.
  ANS_UNROLL
  for (int i = 0; i < 8; ++i) b[2 * i] = _mm512_unpacklo_epi8(a[i], a[i + 8]), b[2 * i + 1] = _mm512_unpackhi_epi8(a[i], a[i + 8]);
  ANS_UNROLL
  for (int i = 0; i < 8; ++i) a[2 * i] = _mm512_unpacklo_epi8(b[i], b[i + 8]), a[2 * i + 1] = _mm512_unpackhi_epi8(b[i], b[i + 8]);
  ANS_UNROLL
  for (int i = 0; i < 8; ++i) b[2 * i] = _mm512_unpacklo_epi8(a[i], a[i + 8]), b[2 * i + 1] = _mm512_unpackhi_epi8(a[i], a[i + 8]);
  ANS_UNROLL
  for (int i = 0; i < 8; ++i) a[2 * i] = _mm512_unpacklo_epi8(b[i], b[i + 8]), a[2 * i + 1] = _mm512_unpackhi_epi8(b[i], b[i + 8]);
  // Register i: column i of rows 0-15, column i + 16 of these, both of rows 16-31.
  ANS_UNROLL
  for (int i = 0; i < 16; ++i) {
    const __m512i ordered = _mm512_shuffle_i64x2(a[i], a[i], 0xD8);
    out[i] = _mm512_castsi512_si256(ordered);
    out[i + 16] = _mm512_extracti64x4_epi64(ordered, 1);
  }
}

constexpr int kSteadyGroup = 2;  // streams that go step by step together

struct SteadyFix {
  uint8_t stream, lane, column;
  int32_t symbol;
};

// An escape in row `column` of a tile: its symbols are noted, and the trellis put right.
template <int kBuckets, int kStreams>
ANS_NOINLINE int note_escapes(const SteadyRows& rows, const SteadyTable& table, SteadyCursor* cursors, const __m512i* index, __m512i* walk, int column, SteadyFix* fixes) {
  constexpr int kEntryBits = SteadyLanes<kBuckets>::kEntryBits;
  int count = 0;
  for (int s = 0; s < kStreams; ++s) {
    alignas(64) uint16_t entry[format::kLanes], state[format::kLanes];
    _mm512_store_si512(entry, index[s]);
    _mm512_store_si512(state, walk[s]);
    for (int lane = 0; lane < cursors[s].width; ++lane) {
      const uint32_t at = entry[lane] & (2 * kBuckets - 1);
      if ((table.step[at] & kSteadyEscape) == 0) continue;
      const int32_t coded = int32_t(cursors[s].raws->next()) + rows.raw_min;
      const int32_t symbol = rows.halved ? 2 * coded + int32_t(at / kBuckets) : coded;
      if ((coded & 1) != 0) state[lane] = uint16_t(state[lane] ^ rows.parity << kEntryBits);
      fixes[count++] = {uint8_t(s), uint8_t(lane), uint8_t(column), symbol};
    }
    walk[s] = _mm512_load_si512(state);
  }
  return count;
}

// As MatrixCoder::decode_steady_rows. kPartial: some have fewer than 32 lines.
template <int kBuckets, int kStreams, bool kOneClass, bool kPartial>
ANS_NOINLINE void decode_steady(const SteadyRows& rows, SteadyCursor* cursors) {
  using L = SteadyLanes<kBuckets>;
  constexpr int kTile = 64, kLanes = format::kLanes;
  typename L::State x[kStreams];
  __m512i walk[kStreams], index[kStreams];
  const uint8_t* words[kStreams];
  __mmask32 on[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    on[s] = cursors[s].width == kLanes ? ~0u : (1u << cursors[s].width) - 1;
    x[s] = Lanes16<64>::load(cursors[s].state);
    alignas(64) uint16_t w[kLanes];
    for (int i = 0; i < kLanes; ++i) w[i] = uint16_t(cursors[s].walk[i] << L::kEntryBits);
    walk[s] = _mm512_load_si512(w);
    words[s] = cursors[s].words;
  }
  alignas(64) uint8_t tile[kStreams][kTile][kLanes];
  std::memset(tile, 0, sizeof tile);
  SteadyFix fixes[kTile * kLanes * kStreams];
  typename L::Tables tables(rows.of_class[rows.class_of[0]]);
  for (int64_t begin = 0; begin < rows.columns; begin += kTile) {
    const int n = int(rows.columns - begin < kTile ? rows.columns - begin : kTile);
    const int64_t at = begin * format::symbol_bytes(rows.type);
    int fix_count = 0;
    for (int j = 0; j < n; ++j) {
      if (j < kLanes) {  // where the tile will go: there are more lines than the processor foresees
        ANS_UNROLL
        for (int s = 0; s < kStreams; ++s) __builtin_prefetch(cursors[s].lines[j] + at, 1);
      }
      const SteadyTable& table = rows.of_class[rows.class_of[kOneClass ? 0 : begin + j]];
      if constexpr (!kOneClass) tables = typename L::Tables(table);
      __m512i escaped = _mm512_setzero_si512();
      L::template decode_row<kSteadyGroup, kPartial, 0>(tables, x, walk, words, index, on, tile[0][j], kTile * kLanes, escaped);
      if (__builtin_expect(_mm512_test_epi16_mask(escaped, L::set1(kSteadyEscape)) != 0, 0)) fix_count += note_escapes<kBuckets, kStreams>(rows, table, cursors, index, walk, j, fixes + fix_count);
    }
    const bool wide = rows.type == format::SymbolType::kI16;
    const __mmask64 on = n == kTile ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
    for (int s = 0; s < kStreams; ++s) {
      __m256i first[kLanes], second[kLanes];
      transpose_tile(tile[s], first);
      transpose_tile(tile[s] + kTile / 2, second);
      for (int i = 0; i < (kPartial ? cursors[s].width : kLanes); ++i) {  // a line of the cache at a time: there are too many lines for half of one to wait in it
        uint8_t* const to = cursors[s].lines[i] + at;
        if (wide) {
          _mm512_mask_storeu_epi16(to, __mmask32(on), _mm512_cvtepi8_epi16(first[i]));
          _mm512_mask_storeu_epi16(to + kTile, __mmask32(on >> 32), _mm512_cvtepi8_epi16(second[i]));
        } else {
          _mm512_mask_storeu_epi8(to, on, _mm512_inserti64x4(_mm512_castsi256_si512(first[i]), second[i], 1));
        }
      }
    }
    for (int f = 0; f < fix_count; ++f) {
      const SteadyFix& fix = fixes[f];
      uint8_t* const line = cursors[fix.stream].lines[fix.lane];
      if (wide) reinterpret_cast<int16_t*>(line)[begin + fix.column] = int16_t(fix.symbol);
      else line[begin + fix.column] = uint8_t(fix.symbol);
    }
  }
  for (int s = 0; s < kStreams; ++s) {
    Lanes16<64>::store(cursors[s].state, x[s]);
    alignas(64) uint16_t w[kLanes];
    _mm512_store_si512(w, walk[s]);
    for (int i = 0; i < kLanes; ++i) cursors[s].walk[i] = w[i] >> L::kEntryBits;
    cursors[s].words = words[s];
  }
}

template <int kBuckets, int kStreams>
ANS_INLINE void decode_steady_of(const SteadyRows& rows, SteadyCursor* cursors, bool one_class) {
  bool partial = false;
  for (int s = 0; s < kStreams; ++s) partial |= cursors[s].width < format::kLanes;
  if (partial) decode_steady<kBuckets, kStreams, false, true>(rows, cursors);
  else if (one_class) decode_steady<kBuckets, kStreams, true, false>(rows, cursors);
  else decode_steady<kBuckets, kStreams, false, false>(rows, cursors);
}
template <int kBuckets>
ANS_INLINE void decode_steady_streams(const SteadyRows& rows, SteadyCursor* cursors, int count, bool one_class) {
  static_assert(kSteadyStreams == 4, "");
  if (count == 4) decode_steady_of<kBuckets, 4>(rows, cursors, one_class);
  else if (count == 3) decode_steady_of<kBuckets, 3>(rows, cursors, one_class);
  else if (count == 2) decode_steady_of<kBuckets, 2>(rows, cursors, one_class);
  else decode_steady_of<kBuckets, 1>(rows, cursors, one_class);
}
inline void decode_steady_rows(const SteadyRows& rows, SteadyCursor* cursors, int count) {
  bool one_class = true;
  for (int64_t j = 0; j < rows.columns; ++j) one_class &= rows.class_of[j] == rows.class_of[0];
  if (rows.buckets == 32) decode_steady_streams<32>(rows, cursors, count, one_class);
  else decode_steady_streams<64>(rows, cursors, count, one_class);
}

}  // namespace ANS_TARGET
}  // namespace ans::core
