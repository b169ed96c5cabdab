// The coder: 32 rANS states that advance in lockstep (BITSTREAM.md, sections 4 and 6), written once over `Lanes`.
//
// Three surprises of rANS, for the reader who meets it here. Encoding is a stack: what is pushed last pops first, so the encoder walks backwards and the
// decoder forwards. The state is the message: words are only its overflow. And one step serves both directions: push is the exact inverse of pop.
//
// A `Lanes` type supplies (a value is 32 lanes: SIMD registers, a plain array, or one register in every thread of a warp):
//   State, Index, Mask             32 states, 32 indices (or symbols minus first_value), 32 flags
//   Decoder{table}, Encoder{table} the table as the backend likes it (in registers, say)
//   load / store                   states from / to uint32_t[32]
//   kDecodeStreams, kEncodeStreams how many streams at once are the fastest
//   pop<kBegin, kEnd>(decoders, x[], index[])   for each of these streams: look up the bucket, advance the state; indices may carry garbage above the alphabet
//   refill<kBegin, kEnd>(x[], words[])          lanes below 2^16 take the next words, in ascending order of lanes
//   push<kPartial, kStreams>(encoder, x[], index[], on, words[])   for each stream: spill the lanes that would overflow, in descending order of lanes downwards
//                                  from `words`; then the inverse of pop
//   first(n), select_state(m, a, b)
//   store_row<Out>(decoder, out, index), load_index
//   store_row_pair<Out, kEscape>   stores two rows; not 0 if there is an escape in them
//   uint32_t equal_in_row(out, v)  bit i: out[i] == v
//   WeightValues{table}, Weights, make_weights, store_weights, larger_weights, any_mark   only for decode_weight_rows
// Callers guarantee that 64 bytes can be read at `words` and written below it.
#pragma once
#include "core/quantize_arithmetic.h"
#include "core/row_coder.h"

namespace ans::core {
namespace ANS_TARGET {

// A T of the table of each stream: one for all streams of one table, or one each.
template <class T, int kStreams, bool kShared>
struct PerTable {
  T of[kShared ? 1 : kStreams];
  ANS_INLINE explicit PerTable(const DecodeStream* streams) {
    for (int s = 0; s < (kShared ? 1 : kStreams); ++s) of[s] = T(*streams[s].table);
  }
  ANS_INLINE const T& operator[](int s) const { return of[kShared ? 0 : s]; }
};
template <class L, int kStreams, bool kShared>
using Decoders = PerTable<typename L::Decoder, kStreams, kShared>;

// One row of each stream, kGroup streams step by step together: a step waits long for the one before it, and a processor looks for other work only so far ahead.
// use(s) then gets to see index[s].
template <class L, int kGroup, class D, int kStreams, class Words, class Use, int kBegin = 0>
ANS_INLINE void decode_row(const D& decoders, typename L::State (&x)[kStreams], Words (&words)[kStreams], typename L::Index (&index)[kStreams], Use use) {
  if constexpr (kBegin < kStreams) {
    constexpr int kEnd = kBegin + kGroup < kStreams ? kBegin + kGroup : kStreams;
    L::template pop<kBegin, kEnd>(decoders, x, index);
    L::template refill<kBegin, kEnd>(x, words);
    ANS_UNROLL
    for (int s = kBegin; s < kEnd; ++s) use(s);
    decode_row<L, kGroup, D, kStreams, Words, Use, kEnd>(decoders, x, words, index, use);
  }
}

// Places in a block of rows where some stream met an escape. They are noted without a branch, and filled in when the block is done: the loops over rows know
// nothing of escapes, and all states stay in registers.
constexpr int kBlock = 256;
struct EscapePlaces {
  int32_t at[2 * kBlock];
  int count = 0;
  ANS_INLINE void note(int32_t place, bool some) {
    at[count] = place;
    count += some;
  }
};

// The value that the rows store for an escape, which no other index has.
template <class Out>
ANS_INLINE Out escape_mark(const DecodeTable& table) { return Out(table.first_value + table.escape_index); }

// Fills in the escaped ones among symbols of a row; on: the lanes that count.
template <class L, class Out>
ANS_INLINE void fill_in(const DecodeStream& stream, Out* row, uint32_t on = ~0u) {
  const DecodeTable& table = *stream.table;
  if (table.escape_index < 0) return;
  for (uint32_t m = L::equal_in_row(row, escape_mark<Out>(table)) & on; m != 0; m &= m - 1)
    row[__builtin_ctz(m)] = Out(table.first_value + table.raw_offset + int32_t(stream.raws->next()));
}

// Decodes `rows` full rows of each of kStreams chunks.
template <class L, class Out, int kStreams, bool kEscape, bool kShared>
ANS_NOINLINE void decode_rows(DecodeStream* streams, int64_t rows) {
  constexpr int kGroup = L::kDecodeStreams;
  const Decoders<L, kStreams, kShared> decoders(streams);
  typename L::State x[kStreams];
  const uint8_t* words[kStreams];
  Out* out[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    x[s] = L::load(streams[s].state);
    words[s] = streams[s].words;
    out[s] = static_cast<Out*>(streams[s].out);
  }
  typename L::Index first[kStreams], second[kStreams];
  for (int64_t pairs = rows / 2; pairs > 0;) {  // two rows at a time: one full-width store
    const int n = int(pairs < kBlock ? pairs : kBlock);
    EscapePlaces places;
    for (int pair = 0; pair < n; ++pair) {
      auto nothing = [](int) __attribute__((always_inline)) {};
      decode_row<L, kGroup>(decoders, x, words, first, nothing);
      decode_row<L, kGroup>(decoders, x, words, second, nothing);
      uint64_t escaped = 0;
      ANS_UNROLL
      for (int s = 0; s < kStreams; ++s) {
        escaped |= L::template store_row_pair<Out, kEscape>(decoders[s], out[s], first[s], second[s]);
        out[s] += 2 * format::kLanes;
      }
      if constexpr (kEscape) places.note(pair, escaped != 0);
    }
    for (int i = 0; i < places.count; ++i)
      for (int s = 0; s < kStreams; ++s) {
        Out* pair = out[s] + (places.at[i] - n) * 2 * format::kLanes;
        fill_in<L>(streams[s], pair);
        fill_in<L>(streams[s], pair + format::kLanes);
      }
    pairs -= n;
  }
  if (rows % 2 != 0) {
    decode_row<L, kGroup>(decoders, x, words, first, [](int) __attribute__((always_inline)) {});
    for (int s = 0; s < kStreams; ++s) {
      L::store_row(decoders[s], out[s], first[s]);
      if constexpr (kEscape) fill_in<L>(streams[s], out[s]);
      out[s] += format::kLanes;
    }
  }
  for (int s = 0; s < kStreams; ++s) {
    L::store(streams[s].state, x[s]);
    streams[s].words = words[s];
    streams[s].out = out[s];
  }
}

// An escape among weights is marked by a NaN, of bf16 and of fp16. Scales are finite, so no other weight is one: as an integer it is larger than all of them.
constexpr uint16_t kWeightMark = 0x7fff;

// The row of 32 that follows `start` by `row` others.
template <class L, class T>
ANS_INLINE void fill_in_weights(const DecodeStream& stream, const WeightRow& start, int64_t row, T* out) {
  uint32_t m = L::equal_in_row(reinterpret_cast<const uint16_t*>(out), kWeightMark);
  if (m == 0) return;
  const float scale = start.scale[row < start.left ? 0 : 1 + (row - start.left) / start.length];
  const int32_t raw_min = stream.table->first_value + stream.table->raw_offset;
  for (; m != 0; m &= m - 1) out[__builtin_ctz(m)] = from_float<T>(dequantize_symbol(raw_min + int32_t(stream.raws->next()), scale));
}

// Rows straight to 16-bit floats T: within a row of the matrix a weight is a look-up by index.
template <class L, class T, int kStreams, bool kEscape, bool kShared>
ANS_NOINLINE void decode_weight_rows(DecodeStream* streams, WeightRow* places, int64_t rows) {
  constexpr int kGroup = 3;  // weights take up registers
  const Decoders<L, kStreams, kShared> decoders(streams);
  typename L::State x[kStreams];
  const PerTable<typename L::WeightValues, kStreams, kShared> values(streams);
  typename L::Weights weights[kStreams];
  const uint8_t* words[kStreams];
  T* out[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    x[s] = L::load(streams[s].state);
    words[s] = streams[s].words;
    out[s] = static_cast<T*>(streams[s].out);
    weights[s] = L::template make_weights<T>(values[s], *places[s].scale);
  }
  WeightRow start[kStreams];
  for (int s = 0; s < kStreams; ++s) start[s] = places[s];
  EscapePlaces escapes;
  for (int64_t done = 0, filled = 0; done < rows;) {
    int64_t n = rows - done < kBlock ? rows - done : kBlock;  // until a matrix row ends
    for (int s = 0; s < kStreams; ++s) n = places[s].left < n ? places[s].left : n;
    for (int row = 0; row < int(n); ++row) {
      typename L::Index index[kStreams], largest{};
      decode_row<L, kGroup>(decoders, x, words, index, [&](int s) __attribute__((always_inline)) {
        const typename L::Index stored = L::store_weights(out[s] + row * format::kLanes, weights[s], index[s]);
        if constexpr (kEscape) largest = s == 0 ? stored : L::larger_weights(largest, stored);
      });
      if constexpr (kEscape) escapes.note(int32_t(done) + row, L::any_mark(largest));
    }
    done += n;
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      out[s] += n * format::kLanes;
      if ((places[s].left -= n) > 0) continue;
      places[s].left = places[s].length;
      ++places[s].scale;
      if (done < rows) weights[s] = L::template make_weights<T>(values[s], *places[s].scale);
    }
    if (done < rows && done < filled + kBlock) continue;
    for (int i = 0; i < escapes.count; ++i)
      for (int s = 0; s < kStreams; ++s) fill_in_weights<L>(streams[s], start[s], escapes.at[i], out[s] + (escapes.at[i] - done) * format::kLanes);
    escapes.count = 0;
    filled = done;
  }
  for (int s = 0; s < kStreams; ++s) {
    L::store(streams[s].state, x[s]);
    streams[s].words = words[s];
    streams[s].out = out[s];
  }
}

// One row in which only the first `active` lanes have a symbol. Idle lanes keep their states, which are >= 2^16: they never refill.
// Writes all 32 symbols: the caller passes a buffer of its own.
template <class L, class Out>
ANS_NOINLINE void decode_partial_row(DecodeStream* stream, int active) {
  const Decoders<L, 1, true> decoders(stream);
  const typename L::State before = L::load(stream->state);
  typename L::State x[1] = {before};
  typename L::Index index[1];
  const uint8_t* words[1] = {stream->words};
  L::template pop<0, 1>(decoders, x, index);
  x[0] = L::select_state(L::first(active), x[0], before);
  L::template refill<0, 1>(x, words);
  Out* out = static_cast<Out*>(stream->out);
  L::store_row(decoders[0], out, index[0]);
  fill_in<L>(*stream, out, (1u << active) - 1);
  L::store(stream->state, x[0]);
  stream->words = words[0];
}

// One row of each stream; on: the lanes that have a symbol in it.
template <class L, bool kPartial, int kStreams>
ANS_INLINE void encode_row(const typename L::Encoder& encoder, typename L::State (&x)[kStreams], const EncodeStream* streams, int64_t row, const typename L::Mask& on,
                           uint8_t* (&words)[kStreams]) {
  typename L::Index index[kStreams];
  ANS_UNROLL
  for (int s = 0; s < kStreams; ++s) index[s] = L::load_index(streams[s].index + row * format::kLanes);
  L::template push<kPartial, kStreams>(encoder, x, index, on, words);
}

// Encodes `rows` full rows of each stream, the last first.
template <class L, int kStreams>
ANS_NOINLINE void encode_rows(const EncodeTable& table, EncodeStream* streams, int64_t rows) {
  const typename L::Encoder encoder(table);
  typename L::State x[kStreams];
  uint8_t* words[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    x[s] = L::load(streams[s].state);
    words[s] = streams[s].words;
  }
  const typename L::Mask all = L::first(format::kLanes);
  for (int64_t row = rows; row-- > 0;) encode_row<L, false, kStreams>(encoder, x, streams, row, all, words);
  for (int s = 0; s < kStreams; ++s) {
    L::store(streams[s].state, x[s]);
    streams[s].words = words[s];
  }
}

template <class L>
ANS_NOINLINE void encode_partial_row(const EncodeTable& table, EncodeStream* stream, int active) {
  const typename L::Encoder encoder(table);
  typename L::State x[1] = {L::load(stream->state)};
  uint8_t* words[1] = {stream->words};
  encode_row<L, true, 1>(encoder, x, stream, 0, L::first(active), words);
  L::store(stream->state, x[0]);
  stream->words = words[0];
}

// ---- run-time choice of the instantiation

inline bool one_table(const DecodeStream* streams, int count) {
  for (int s = 1; s < count; ++s)
    if (streams[s].table != streams[0].table) return false;
  return true;
}

template <class L, class Out, bool kEscape, bool kShared>
void decode_rows_of(DecodeStream* streams, int count, int64_t rows) {
  switch (count) {
    case 1: return decode_rows<L, Out, 1, kEscape, true>(streams, rows);
    case 2: return decode_rows<L, Out, 2, kEscape, kShared>(streams, rows);
    case 3: if constexpr (L::kDecodeStreams >= 3) return decode_rows<L, Out, 3, kEscape, kShared>(streams, rows); break;
    case 4: if constexpr (L::kDecodeStreams >= 4) return decode_rows<L, Out, 4, kEscape, kShared>(streams, rows); break;
    case 5: if constexpr (L::kDecodeStreams >= 5) return decode_rows<L, Out, 5, kEscape, kShared>(streams, rows); break;
    case 6: if constexpr (L::kDecodeStreams >= 6) return decode_rows<L, Out, 6, kEscape, kShared>(streams, rows); break;
  }
}

// Tables that differ are treated as if all had an escape: a symbol that is none is none.
template <class L, class Out>
void decode_rows_to(DecodeStream* streams, int count, int64_t rows) {
  if (!one_table(streams, count)) decode_rows_of<L, Out, true, false>(streams, count, rows);
  else if (streams[0].table->escape_index >= 0) decode_rows_of<L, Out, true, true>(streams, count, rows);
  else decode_rows_of<L, Out, false, true>(streams, count, rows);
}

template <class L>
void decode_rows_any(DecodeStream* streams, int count, int64_t rows) {
  if (streams[0].table->symbol_bytes == 1) decode_rows_to<L, uint8_t>(streams, count, rows);
  else decode_rows_to<L, uint16_t>(streams, count, rows);
}

template <class L, class T, bool kEscape, bool kShared>
void decode_weight_rows_of(DecodeStream* streams, WeightRow* places, int count, int64_t rows) {
  switch (count) {
    case 1: return decode_weight_rows<L, T, 1, kEscape, true>(streams, places, rows);
    case 2: return decode_weight_rows<L, T, 2, kEscape, kShared>(streams, places, rows);
    case 3: return decode_weight_rows<L, T, 3, kEscape, kShared>(streams, places, rows);
    case 4: return decode_weight_rows<L, T, 4, kEscape, kShared>(streams, places, rows);
    case 5: return decode_weight_rows<L, T, 5, kEscape, kShared>(streams, places, rows);
    case 6: return decode_weight_rows<L, T, 6, kEscape, kShared>(streams, places, rows);
  }
}

template <class L, class T>
void decode_weight_rows_to(DecodeStream* streams, WeightRow* places, int count, int64_t rows) {
  if (!one_table(streams, count)) decode_weight_rows_of<L, T, true, false>(streams, places, count, rows);
  else if (streams[0].table->escape_index >= 0) decode_weight_rows_of<L, T, true, true>(streams, places, count, rows);
  else decode_weight_rows_of<L, T, false, true>(streams, places, count, rows);
}

template <class L>
void decode_weight_rows_any(DecodeStream* streams, WeightRow* places, int count, int64_t rows, FloatType type) {
  if (type == FloatType::kBFloat16) decode_weight_rows_to<L, BFloat16>(streams, places, count, rows);
  else decode_weight_rows_to<L, Float16>(streams, places, count, rows);
}

template <class L>
void decode_partial_row_any(DecodeStream* stream, int active) {
  if (stream->table->symbol_bytes == 1) decode_partial_row<L, uint8_t>(stream, active);
  else decode_partial_row<L, uint16_t>(stream, active);
}

template <class L>
void encode_rows_any(const EncodeTable& table, EncodeStream* streams, int count, int64_t rows) {
  switch (count) {
    case 1: return encode_rows<L, 1>(table, streams, rows);
    case 2: return encode_rows<L, 2>(table, streams, rows);
    case 3: if constexpr (L::kEncodeStreams >= 3) return encode_rows<L, 3>(table, streams, rows); break;
    case 4: if constexpr (L::kEncodeStreams >= 4) return encode_rows<L, 4>(table, streams, rows); break;
  }
}

}  // namespace ANS_TARGET
}  // namespace ans::core
