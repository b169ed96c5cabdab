// A chunk encoded by a warp, in three steps: what the symbols cost (a warp), where the lanes start and the tail (a thread: every step waits for the one before
// it), the rows (a warp). The steps of the coder are those of lane_coder.h, a register in every thread; what is decided is decided by seeding.h.
//
// Symbols may change in memory between the steps, if a caller overwrites them: then the result is anything, but nothing outside the chunk's room is written.
#pragma once
#include <cstdint>

#include "core/lanes32.h"
#include "core/raw_values.h"
#include "core/seeding.h"
#include "core/status.h"
#include "core/vector_warp.h"

namespace ans::core {
namespace ANS_TARGET {

// Of a table, what a warp needs; in shared memory.
struct WarpEncodeTable {
  const uint32_t* entry;  // symbol_entry(), [kOtherSymbol + 1]
  const uint32_t *packed, *reciprocal;
  const uint16_t* slot_of;
  int32_t first_value, raw_min;
  int raw_bits;
  bool has_escape;
};

// In: uint8_t or uint16_t, whatever the sign.
template <class In>
ANS_INLINE uint32_t entry_of(const WarpEncodeTable& t, In symbol) {
  const uint32_t u = In(symbol - In(t.first_value));
  return t.entry[sizeof(In) == 1 || u < kOtherSymbol ? u : kOtherSymbol];
}
template <class In>
ANS_INLINE uint32_t raw_value(const WarpEncodeTable& t, In symbol) { return In(symbol - In(t.raw_min)); }

template <class W>
ANS_INLINE uint64_t sum_of_lanes(uint64_t v) {
  for (unsigned off = 16; off > 0; off /= 2) {
    const uint64_t low = W::shuffle(uint32_t(v), W::lane() ^ off), high = W::shuffle(uint32_t(v >> 32), W::lane() ^ off);
    v += high << 32 | low;
  }
  return v;
}

struct ChunkCosts {
  uint64_t bits;    // * 4096, without raw values
  int64_t escapes;
  bool invalid;     // some symbol is not in the table
};

// Costs of n symbols: the sum, the same in all lanes, and per lane mod 2^16.
template <class W, class In>
ANS_INLINE ChunkCosts sum_costs(const WarpEncodeTable& table, const In* symbols, int64_t n, uint16_t* cost) {
  uint64_t own = 0;
  uint32_t escapes = 0, marks = 0;
  for (int64_t i = W::lane(); i < n; i += format::kLanes) {
    const In symbol = symbols[i];
    const uint32_t e = entry_of(table, symbol), escaped = (e & kEscapedMark) != 0;
    own += e >> 16;
    escapes += escaped;
    marks |= e | (escaped != 0 && raw_value(table, symbol) >> table.raw_bits != 0 ? kInvalidMark : 0u);
  }
  cost[W::lane()] = uint16_t(own);
  return {sum_of_lanes<W>(own), int64_t(sum_of_lanes<W>(escapes)), W::ballot((marks & kInvalidMark) != 0) != 0};
}

// Room, in words, that chunks take together, before they are encoded: not less than what is written. A push makes a state larger by its cost, of which the table
// of costs has 1/8192 bit less at most, and by log2(17/16) = 0.0875 bits where it rounds (a quotient is 16 or more once words have been spilled); starting and ending
// a lane takes 32 bits beside that.
ANS_HD int64_t room_words(uint64_t cost_bits, int64_t symbols, int64_t escapes, int raw_bits, int64_t chunks) {
  const int64_t bits = int64_t(cost_bits >> kCostFraction) + symbols / 32 * 3 + escapes * raw_bits;
  constexpr int64_t kPerChunk = 6 * format::kLanes + 32;  // states, a word a lane that is not full, the partial rows above, and for the last row's check
  return bits / format::kWordBits + kPerChunk * chunks;
}

// A chunk's own part of that: even, so that what lies behind it is aligned to 4 bytes as it is.
ANS_HD int64_t chunk_room_words(uint64_t cost_bits, int64_t symbols, int64_t escapes, int raw_bits) {
  return room_words(cost_bits, symbols, escapes, raw_bits, 1) & ~int64_t{1};
}

// Symbols in memory as the coder of a tail takes them.
struct StoredSymbols {
  const EncodeTable* table;
  const void* symbols;

  ANS_HD uint32_t minus(int64_t i, int32_t value) const {
    return table->symbol_bytes == 1 ? uint8_t(static_cast<const uint8_t*>(symbols)[i] - uint8_t(value)) : uint16_t(static_cast<const uint16_t*>(symbols)[i] - uint16_t(value));
  }
  ANS_HD uint8_t index(int64_t i) const {
    const uint32_t u = minus(i, table->first_value);
    return uint8_t(symbol_entry(*table, u < kOtherSymbol ? u : uint32_t(kOtherSymbol)));
  }
  ANS_HD uint16_t take_raw(int64_t i) const { return uint16_t(minus(i, table->raw_min) & ((1u << table->raw_bits) - 1)); }
};

// A narrow chunk, written so that it ends at `end`; by one thread. Returns its words.
ANS_HD int encode_narrow(const EncodeTable& table, const void* symbols, int64_t n, uint8_t* end) {
  StoredSymbols source{&table, symbols};
  TailEncoder tail;
  tail.reset(table, reinterpret_cast<uint16_t*>(end));
  push_backwards(tail, source, n, table.escape_index);
  return tail.finish();
}

// Tail and states of a wide chunk, by one thread. cost[32] is changed; tail_words: room for kSeedTailWords.
ANS_HD Seeds choose_seeds_of(const EncodeTable& table, const void* symbols, int64_t n, uint16_t* cost, MantissaLogs logs, uint16_t* tail_words) {
  SeedChooser<StoredSymbols> chooser;
  chooser.begin(table, StoredSymbols{&table, symbols}, n, cost, logs, tail_words);
  SeedChooser<StoredSymbols>* choosers[1] = {&chooser};
  Seeds seeds;
  choose_seeds(choosers, 1, &seeds);
  return seeds;
}

// Writes the rows of a wide chunk, its raw values and its states, so that they end at `end`, which is 4-byte aligned; nothing below `begin`. symbols: those of the lanes, of which
// `escapes` are escaped; start[32]: from which the lanes start. Returns the words that the chunk has, or 0 if it does not fit.
template <class W, class In>
ANS_INLINE int64_t encode_chunk_rows(const WarpEncodeTable& table, const In* symbols, int64_t count, int64_t escapes, const uint32_t* start, uint8_t* begin, uint8_t* end) {
  using V = VectorWarp<W>;
  using L = Lanes32<V>;
  constexpr int64_t kStateBytes = 2 * format::kStateWords;
  const unsigned lane = W::lane();
  const int64_t raw_bytes = 2 * raw_words(escapes, table.raw_bits);
  if (end - begin < raw_bytes + 2 + kRowBytes + kStateBytes) return 0;
  // The string of raw values in pieces of 32 bits, the first at the end.
  uint32_t* const raw_end = reinterpret_cast<uint32_t*>(end);
  for (int64_t i = lane; i < (raw_bytes + 3) / 4; i += format::kLanes) raw_end[-1 - i] = 0;
  W::sync();

  const typename L::Encoder encoder(table.packed, table.reciprocal, table.slot_of);
  typename L::State x[1] = {L::load(start)};
  uint8_t* words[1] = {end - raw_bytes};
  bool fits = true;
  auto escape = [&](In symbol, uint32_t e, bool on) {
    const bool escaped = on && (e & kEscapedMark) != 0;
    const uint32_t all = W::ballot(escaped);
    if (all == 0) return;
    escapes -= count_bits(all);
    W::sync();  // a word of the lanes may lie beside the last of these
    if (escaped && escapes >= 0) {
      const int64_t position = (escapes + count_bits(all & V::lanes_below())) * table.raw_bits;
      // In the piece that it begins in, and in the next one.
      const uint64_t bits = uint64_t(raw_value(table, symbol) & ((1u << table.raw_bits) - 1)) << (64 - table.raw_bits) >> position % 32;
      uint32_t* const piece = raw_end - 1 - position / 32;
      if (position + table.raw_bits <= 8 * raw_bytes) {
        W::set_bits(piece, uint32_t(bits >> 32));
        if (uint32_t(bits) != 0) W::set_bits(piece - 1, uint32_t(bits));
      }
    }
    W::sync();
  };
  const int64_t rows = count / format::kLanes;
  if (const int active = int(count % format::kLanes); active > 0) {
    const bool on = int(lane) < active;
    const In symbol = symbols[on ? rows * format::kLanes + lane : 0];
    const uint32_t e = entry_of(table, symbol);
    if (table.has_escape) escape(symbol, e, on);
    const typename L::Index index[1] = {e & 0xFF};
    L::template push<true, 1>(encoder, x, index, on, words);
  }
  In next = rows > 0 ? symbols[(rows - 1) * format::kLanes + lane] : In(0);
  for (int64_t row = rows; row-- > 0;) {
    const In symbol = next;
    if (row > 0) next = symbols[(row - 1) * format::kLanes + lane];  // ahead of its use
    const uint32_t e = entry_of(table, symbol);
    if (table.has_escape) escape(symbol, e, true);
    const typename L::Index index[1] = {e & 0xFF};
    L::template push<false, 1>(encoder, x, index, true, words);
    if (words[0] - begin < kRowBytes + kStateBytes) {  // the same in all lanes
      fits = false;
      break;
    }
  }
  if (!fits) return 0;
  words[0] -= kStateBytes;
  uint16_t* const state = reinterpret_cast<uint16_t*>(words[0]) + 2 * lane;
  state[0] = uint16_t(x[0]);
  state[1] = uint16_t(x[0] >> 16);
  return (end - words[0]) / 2;
}

}  // namespace ANS_TARGET
}  // namespace ans::core
