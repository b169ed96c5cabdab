// The coder: 32 rANS states that advance in lockstep (BITSTREAM.md, sections 4 and 6), written once over `Lanes`.
//
// Three surprises of rANS, for the reader who meets it here. Encoding is a stack: what is pushed last pops first, so the encoder walks backwards and the
// decoder forwards. The state is the message: words are only its overflow. And one step serves both directions: push is the exact inverse of pop.
//
// A `Lanes` type supplies (a value is 32 lanes: SIMD registers, a plain array, or one register in every thread of a warp):
//   State, Index, Mask             32 states, 32 indices (or symbols minus first_value), 32 flags
//   Decoder{table}, Encoder{table} the table as the backend likes it (in registers, say)
//   load / store                   states from / to uint32_t[32]
//   Index pop(decoder, x)          look up the bucket, advance the state; indices may carry garbage above the alphabet until clean(decoder, index)
//   refill(x, words)               lanes below 2^16 take the next words, in ascending order of lanes
//   Index pop_raw(decoder, x, m)   lanes in m give their low raw_bits, as symbol - first_value
//   push<kPartial, kStreams>(encoder, x[], index[], on, words[])   for each stream: spill the lanes that would overflow, in descending order of lanes downwards
//                                  from `words`; then the inverse of pop
//   push_raw(encoder, x, m, raw, words)
//   is_escape(…, index), any_escape<kStreams, kShared>(decoders, index[]), any(m), first(n), both(m, n), select(m, a, b), select_state(m, a, b)
//   store_row / store_row_pair<Out, kClean>, load_index, load_raw
//   Weights, make_weights, store_weights, store_escaped_weights   only for decode_weight_rows
// Callers guarantee that 64 bytes can be read at `words` and written below it.
#pragma once
#include "core/row_coder.h"

namespace ans::core {
namespace ANS_TARGET {

// The tables of several streams: one for all, or one each.
template <class L, int kStreams, bool kShared>
struct Decoders {
  typename L::Decoder of[kShared ? 1 : kStreams];
  ANS_INLINE explicit Decoders(const DecodeStream* streams) {
    for (int s = 0; s < (kShared ? 1 : kStreams); ++s) of[s] = typename L::Decoder(*streams[s].table);
  }
  ANS_INLINE const typename L::Decoder& operator[](int s) const { return of[kShared ? 0 : s]; }
};

// One row of each stream. The streams take turns, which hides the latency of a step; one test finds out whether any of them met an escape.
template <class L, bool kEscape, int kStreams, bool kShared>
ANS_INLINE void decode_row(const Decoders<L, kStreams, kShared>& decoders, typename L::State (&x)[kStreams], const uint8_t* (&words)[kStreams],
                           typename L::Index (&index)[kStreams]) {
  ANS_UNROLL
  for (int s = 0; s < kStreams; ++s) {
    index[s] = L::pop(decoders[s], x[s]);
    L::refill(x[s], words[s]);
    if constexpr (kEscape) index[s] = L::clean(decoders[s], index[s]);
  }
  if constexpr (kEscape) {
    if (__builtin_expect(L::template any_escape<kStreams, kShared>(decoders.of, index), 0)) {
      ANS_UNROLL  // also here: an index that is not a constant would keep all states in memory
      for (int s = 0; s < kStreams; ++s) {
        const typename L::Mask escaped = L::is_escape(decoders[s], index[s]);
        if (!L::any(escaped)) continue;
        index[s] = L::select(escaped, L::pop_raw(decoders[s], x[s], escaped), index[s]);
        L::refill(x[s], words[s]);
      }
    }
  }
}

// Decodes `rows` full rows of each of kStreams chunks.
template <class L, class Out, int kStreams, bool kEscape, bool kShared>
ANS_NOINLINE void decode_rows(DecodeStream* streams, int64_t rows) {
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
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2) {  // two at a time: one full-width store
    decode_row<L, kEscape, kStreams, kShared>(decoders, x, words, first);
    decode_row<L, kEscape, kStreams, kShared>(decoders, x, words, second);
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      L::template store_row_pair<Out, !kEscape>(decoders[s], out[s], first[s], second[s]);
      out[s] += 2 * format::kLanes;
    }
  }
  if (row < rows) {
    decode_row<L, kEscape, kStreams, kShared>(decoders, x, words, first);
    for (int s = 0; s < kStreams; ++s) {
      L::template store_row<Out, !kEscape>(decoders[s], out[s], first[s]);
      out[s] += format::kLanes;
    }
  }
  for (int s = 0; s < kStreams; ++s) {
    L::store(streams[s].state, x[s]);
    streams[s].words = words[s];
    streams[s].out = out[s];
  }
}

// Rows straight to 16-bit floats T: within a row of the matrix a weight is a look-up by index. An escaped symbol first becomes some weight; its own is written
// over it, out of the way of all others.
template <class L, class T, int kStreams, bool kEscape, bool kShared>
ANS_NOINLINE void decode_weight_rows(DecodeStream* streams, WeightRow* places, int64_t rows) {
  const Decoders<L, kStreams, kShared> decoders(streams);
  typename L::State x[kStreams];
  typename L::Weights weights[kStreams];
  const uint8_t* words[kStreams];
  T* out[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    x[s] = L::load(streams[s].state);
    words[s] = streams[s].words;
    out[s] = static_cast<T*>(streams[s].out);
    weights[s] = L::template make_weights<T>(streams[s].table->first_value, *places[s].scale);
  }
  while (rows > 0) {
    int64_t n = rows;  // until a matrix row ends
    for (int s = 0; s < kStreams; ++s) n = places[s].left < n ? places[s].left : n;
    for (int64_t row = 0; row < n; ++row) {
      typename L::Index index[kStreams];
      ANS_UNROLL
      for (int s = 0; s < kStreams; ++s) {
        index[s] = L::pop(decoders[s], x[s]);
        L::refill(x[s], words[s]);
        L::store_weights(out[s] + row * format::kLanes, weights[s], index[s]);
        __builtin_prefetch(out[s] + row * format::kLanes + 1024, 1);
        if constexpr (kEscape) index[s] = L::clean(decoders[s], index[s]);
      }
      if constexpr (kEscape) {
        if (__builtin_expect(L::template any_escape<kStreams, kShared>(decoders.of, index), 0)) {
          ANS_UNROLL
          for (int s = 0; s < kStreams; ++s) {
            const typename L::Mask escaped = L::is_escape(decoders[s], index[s]);
            if (!L::any(escaped)) continue;
            L::store_escaped_weights(out[s] + row * format::kLanes, escaped, L::pop_raw(decoders[s], x[s], escaped), streams[s].table->first_value, *places[s].scale);
            L::refill(x[s], words[s]);
          }
        }
      }
    }
    rows -= n;
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      out[s] += n * format::kLanes;
      if ((places[s].left -= n) > 0) continue;
      places[s].left = places[s].length;
      ++places[s].scale;
      if (rows > 0) weights[s] = L::template make_weights<T>(streams[s].table->first_value, *places[s].scale);
    }
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
  const DecodeTable& table = *stream->table;
  const typename L::Decoder decoder(table);
  const typename L::State before = L::load(stream->state);
  typename L::State x = before;
  const typename L::Mask on = L::first(active);
  typename L::Index index = L::clean(decoder, L::pop(decoder, x));
  x = L::select_state(on, x, before);
  L::refill(x, stream->words);
  if (table.escape_index >= 0) {
    const typename L::Mask escaped = L::both(on, L::is_escape(decoder, index));
    if (L::any(escaped)) {
      index = L::select(escaped, L::pop_raw(decoder, x, escaped), index);
      L::refill(x, stream->words);
    }
  }
  L::template store_row<Out, false>(decoder, static_cast<Out*>(stream->out), index);
  L::store(stream->state, x);
}

// One row of each stream; on: the lanes that have a symbol in it.
template <class L, bool kEscape, bool kPartial, int kStreams>
ANS_INLINE void encode_row(const typename L::Encoder& encoder, typename L::State (&x)[kStreams], const EncodeStream* streams, int64_t row, const typename L::Mask& on,
                           uint8_t* (&words)[kStreams]) {
  typename L::Index index[kStreams];
  ANS_UNROLL
  for (int s = 0; s < kStreams; ++s) index[s] = L::load_index(streams[s].index + row * format::kLanes);
  if constexpr (kEscape) {
    ANS_UNROLL
    for (int s = 0; s < kStreams; ++s) {
      typename L::Mask escaped = L::is_escape(encoder, index[s]);
      if constexpr (kPartial) escaped = L::both(on, escaped);
      if (__builtin_expect(L::any(escaped), 0)) L::push_raw(encoder, x[s], escaped, L::load_raw(streams[s].raw + row * format::kLanes), words[s]);
    }
  }
  L::template push<kPartial, kStreams>(encoder, x, index, on, words);
}

// Encodes `rows` full rows of each stream, the last first.
template <class L, int kStreams, bool kEscape>
ANS_NOINLINE void encode_rows(const EncodeTable& table, EncodeStream* streams, int64_t rows) {
  const typename L::Encoder encoder(table);
  typename L::State x[kStreams];
  uint8_t* words[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    x[s] = L::load(streams[s].state);
    words[s] = streams[s].words;
  }
  const typename L::Mask all = L::first(format::kLanes);
  for (int64_t row = rows; row-- > 0;) encode_row<L, kEscape, false, kStreams>(encoder, x, streams, row, all, words);
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
  if (table.escape_index >= 0) encode_row<L, true, true, 1>(encoder, x, stream, 0, L::first(active), words);
  else encode_row<L, false, true, 1>(encoder, x, stream, 0, L::first(active), words);
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

template <class L, bool kEscape>
void encode_rows_of(const EncodeTable& table, EncodeStream* streams, int count, int64_t rows) {
  switch (count) {
    case 1: return encode_rows<L, 1, kEscape>(table, streams, rows);
    case 2: return encode_rows<L, 2, kEscape>(table, streams, rows);
    case 3: if constexpr (L::kEncodeStreams >= 3) return encode_rows<L, 3, kEscape>(table, streams, rows); break;
    case 4: if constexpr (L::kEncodeStreams >= 4) return encode_rows<L, 4, kEscape>(table, streams, rows); break;
  }
}

template <class L>
void encode_rows_any(const EncodeTable& table, EncodeStream* streams, int count, int64_t rows) {
  if (table.escape_index >= 0) encode_rows_of<L, true>(table, streams, count, rows);
  else encode_rows_of<L, false>(table, streams, count, rows);
}

}  // namespace ANS_TARGET
}  // namespace ans::core
