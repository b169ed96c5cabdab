// A chunk encoded by a warp, in three steps: what the symbols cost (a warp), where the lanes start and the tail (a thread: every step waits for the one before
// it), the rows (a warp). The steps of the coder are those of lane_coder.h, a register in every thread; what is decided is decided by seeding.h.
//
// Symbols may change in memory between the steps, if a caller overwrites them: then the result is anything, but nothing outside the chunk's room is written.
#pragma once
#include <cstdint>
#include <type_traits>

#include "core/lanes32.h"
#include "core/raw_values.h"
#include "core/seeding.h"
#include "core/status.h"
#include "core/vector_warp.h"

namespace ans::core {
namespace ANS_TARGET {

// Of a table, what warps look up by symbol, in shared memory. An 8-bit symbol is its own place, whatever its sign; a 16-bit one's is its distance from first_value, and
// kOtherSymbol is that of all which are too far.
constexpr int kPlaces = kOtherSymbol + 1;
template <class In>
ANS_INLINE uint32_t place_of(int32_t first_value, In symbol) {
  if constexpr (sizeof(In) == 1) return symbol;
  const uint32_t u = In(symbol - In(first_value));
  return u < kOtherSymbol ? u : uint32_t(kOtherSymbol);
}
// symbol_entry() of the symbols at a place.
ANS_HD uint32_t entry_at(const EncodeTable& t, uint32_t place) {
  if (t.symbol_bytes == 1) return symbol_entry(t, place == kOtherSymbol ? uint32_t(kOtherSymbol) : uint8_t(place - uint32_t(t.first_value)));
  return symbol_entry(t, place);
}

// For costs.
struct WarpCostTable {
  const uint32_t* entry;  // entry_at(), [kPlaces]
  int32_t first_value, raw_min;
  int raw_bits;
};
// For rows.
struct WarpEncodeTable {
  const uint32_t* steps;    // [kPlaces][2]: EncodeTable's packed and reciprocal of the index
  const uint16_t* slot_of;
  uint32_t escape;          // packed of the escape; 0: there is none
  int32_t first_value, raw_min;
  int raw_bits;
};

template <class In>
ANS_INLINE uint32_t raw_value(int32_t raw_min, In symbol) { return In(symbol - In(raw_min)); }

// Takes the words of a warp, downwards from the end of [begin, begin + at).
template <class W>
class WarpSpill {
 public:
  ANS_INLINE WarpSpill(uint8_t* begin, int at) : begin_(begin), at_(at), below_(W::opaque(VectorWarp<W>::lanes_below())) {}
  // In the lanes that are `full`, which `all` tells, the low half of x.
  ANS_INLINE void put(bool full, uint32_t all, uint32_t x) {
    at_ -= 2 * int(count_bits(all));
    if (full) *reinterpret_cast<uint16_t*>(begin_ + at_ + 2 * int(count_bits(all & below_))) = uint16_t(x);
  }
  ANS_INLINE int at() const { return at_; }  // bytes below the words
  ANS_INLINE uint32_t lanes_below() const { return below_; }

 private:
  uint8_t* begin_;
  int at_;
  uint32_t below_;
};

template <class W>
ANS_INLINE uint64_t sum_of_lanes(uint64_t v) {
  for (unsigned off = 16; off > 0; off /= 2) v += shuffle_wide<W>(v, W::lane() ^ off);
  return v;
}

struct ChunkCosts {
  uint64_t bits;    // * 4096, without raw values
  int64_t escapes;
  bool invalid;     // some symbol is not in the table
};

// Costs of n symbols: the sum, the same in all lanes, and per lane mod 2^16.
template <class W, class In>
ANS_INLINE ChunkCosts sum_costs(const WarpCostTable& table, const In* symbols, int64_t n, uint16_t* cost) {
  uint64_t own = 0;
  uint32_t escapes = 0, marks = 0;
  for (int64_t i = W::lane(); i < n; i += format::kLanes) {
    const In symbol = symbols[i];
    const uint32_t e = table.entry[place_of(table.first_value, symbol)], escaped = (e & kEscapedMark) != 0;
    own += e >> 16;
    escapes += escaped;
    marks |= e | (escaped != 0 && raw_value(table.raw_min, symbol) >> table.raw_bits != 0 ? kInvalidMark : 0u);
  }
  cost[W::lane()] = uint16_t(own);
  return {sum_of_lanes<W>(own), int64_t(sum_of_lanes<W>(escapes)), W::ballot((marks & kInvalidMark) != 0) != 0};
}

// Room, in words, that chunks take together, before they are encoded: not less than what is written. A push makes a state larger by its cost, of which the table
// of costs has 1/8192 bit less at most, and by log2(17/16) = 0.0875 bits where it rounds (a quotient is 16 or more once words have been spilled); starting and ending
// a lane takes 32 bits beside that.
ANS_HD int64_t room_words(uint64_t cost_bits, int64_t symbols, int64_t escapes, int raw_bits, int64_t chunks) {
  const int64_t bits = int64_t(cost_bits >> kCostFraction) + symbols / 32 * 3 + escapes * raw_bits;
  constexpr int64_t kPerChunk = 8 * format::kLanes;  // states, a word for every lane, and two rows more for the check of the last ones
  return bits / format::kWordBits + kPerChunk * chunks;
}

// A chunk's own part of that: even, so that what lies behind it is aligned to 4 bytes as it is.
ANS_HD int64_t chunk_room_words(uint64_t cost_bits, int64_t symbols, int64_t escapes, int raw_bits) {
  return room_words(cost_bits, symbols, escapes, raw_bits, 1) & ~int64_t{1};
}

// Symbols in memory as the coder of a tail takes them.
struct StoredSymbols {
  const EncodeTable* stream_table;
  const void* symbols;

  ANS_HD const EncodeTable& table(int64_t) const { return *stream_table; }
  static ANS_HD int lane(int64_t i) { return int(i % format::kLanes); }

  ANS_HD uint32_t minus(int64_t i, int32_t value) const {
    return stream_table->symbol_bytes == 1 ? uint8_t(static_cast<const uint8_t*>(symbols)[i] - uint8_t(value)) : uint16_t(static_cast<const uint16_t*>(symbols)[i] - uint16_t(value));
  }
  ANS_HD uint8_t index(int64_t i) const {
    const uint32_t u = minus(i, stream_table->first_value);
    return uint8_t(symbol_entry(*stream_table, u < kOtherSymbol ? u : uint32_t(kOtherSymbol)));
  }
  ANS_HD uint16_t take_raw(int64_t i) const { return uint16_t(minus(i, stream_table->raw_min) & ((1u << stream_table->raw_bits) - 1)); }
};

// A narrow chunk, written so that it ends at `end`; by one thread. Returns its words.
ANS_HD int encode_narrow(const EncodeTable& table, const void* symbols, int64_t n, uint8_t* end) {
  StoredSymbols source{&table, symbols};
  TailEncoder tail;
  tail.reset(reinterpret_cast<uint16_t*>(end));
  push_backwards(tail, source, n);
  return tail.finish();
}

// Tail and states of a wide chunk, by one thread. cost[32] is changed; tail_words: room for kSeedTailWords.
ANS_HD Seeds choose_seeds_of(const EncodeTable& table, const void* symbols, int64_t n, uint16_t* cost, MantissaLogs logs, uint16_t* tail_words) {
  SeedChooser<StoredSymbols> chooser;
  chooser.begin(StoredSymbols{&table, symbols}, n, n / format::kLanes, cost, logs, tail_words);
  SeedChooser<StoredSymbols>* choosers[1] = {&chooser};
  Seeds seeds;
  choose_seeds(choosers, 1, &seeds);
  return seeds;
}

// Writes the rows of a wide chunk, its raw values and its states, so that they end at `end`, which is 4-byte aligned; nothing below `begin`. symbols: those of the lanes, of which
// `escapes` are escaped; start[32]: from which the lanes start. Returns the words that the chunk has, or 0 if it does not fit.
template <class W, class In>
ANS_INLINE int encode_chunk_rows(const WarpEncodeTable& table, const In* symbols, int count, int64_t escapes, const uint32_t* start, uint8_t* begin, uint8_t* end) {
  using V = VectorWarp<W>;
  using L = Lanes32<V>;
  constexpr int kStateBytes = 2 * format::kStateWords, kRowsAtOnce = 2, kNeeded = kRowsAtOnce * int(kRowBytes) + kStateBytes;
  const int lane = int(W::lane());
  const int64_t raw_bytes = 2 * raw_words(escapes, table.raw_bits);
  if (end - begin < raw_bytes + 2 + kNeeded) return 0;
  // The string of raw values in pieces of 32 bits, the first at the end.
  uint32_t* const raw_end = reinterpret_cast<uint32_t*>(end);
  for (int64_t i = lane; i < (raw_bytes + 3) / 4; i += format::kLanes) raw_end[-1 - i] = 0;
  W::sync();

  const typename L::Encoder encoder(table.steps, table.steps + 1, table.slot_of);
  typename L::State x[1] = {L::load(start)};
  WarpSpill<W> words[1] = {{begin, int(end - begin - raw_bytes)}};
  auto step_of = [&](In symbol) { return 2 * place_of(table.first_value, symbol); };
  auto is_escape = [&](uint32_t step) { return table.steps[step] == table.escape; };  // no index has the packed 0
  // Raw values of a row; from the last symbol to the first.
  auto put_raw = [&](In symbol, bool escaped) {
    const uint32_t all = W::ballot(escaped);
    escapes -= count_bits(all);
    W::sync();  // a word of the lanes may lie beside the last of these
    const int64_t position = (escapes + count_bits(all & words[0].lanes_below())) * table.raw_bits;
    if (escaped && escapes >= 0 && position + table.raw_bits <= 8 * raw_bytes) {
      // In the piece that it begins in, and in the next one.
      const uint64_t bits = uint64_t(raw_value(table.raw_min, symbol) & ((1u << table.raw_bits) - 1)) << (64 - table.raw_bits) >> position % 32;
      uint32_t* const piece = raw_end - 1 - position / 32;
      W::set_bits(piece, uint32_t(bits >> 32));
      if (uint32_t(bits) != 0) W::set_bits(piece - 1, uint32_t(bits));
    }
    W::sync();
  };
  auto push_row = [&](uint32_t step, bool on, auto partial) {
    const typename L::Index index[1] = {step};
    L::template push<decltype(partial)::value, 1>(encoder, x, index, on, words);
  };
  using Partial = std::true_type;
  using Full = std::false_type;

  const int rows = count / format::kLanes;
  if (const int active = count % format::kLanes; active > 0) {
    const bool on = lane < active;
    const In symbol = symbols[on ? rows * format::kLanes + lane : 0];
    put_raw(symbol, on && is_escape(step_of(symbol)));
    push_row(step_of(symbol), on, Partial{});
  }
  if (rows % kRowsAtOnce != 0) {
    const In symbol = symbols[(rows - 1) * format::kLanes + lane];
    put_raw(symbol, is_escape(step_of(symbol)));
    push_row(step_of(symbol), true, Full{});
  }
  // Two rows at a time; symbols are loaded ahead of their use.
  int pairs = rows / kRowsAtOnce;
  const In* next = symbols + (2 * pairs - 2) * format::kLanes + lane;
  In ahead[2] = {};
  if (pairs > 0) ahead[0] = next[0], ahead[1] = next[format::kLanes];
  for (; pairs > 0; --pairs) {
    if (words[0].at() < kNeeded) return 0;  // the same in all lanes
    const In first = ahead[0], second = ahead[1];
    next -= 2 * format::kLanes;
    if (pairs > 1) ahead[0] = next[0], ahead[1] = next[format::kLanes];
    const uint32_t first_step = step_of(first), second_step = step_of(second);
    const bool first_escaped = is_escape(first_step), second_escaped = is_escape(second_step);
    if (W::ballot(first_escaped || second_escaped) != 0) {
      put_raw(second, second_escaped);
      put_raw(first, first_escaped);
    }
    push_row(second_step, true, Full{});
    push_row(first_step, true, Full{});
  }
  if (words[0].at() < kStateBytes) return 0;
  const int at = words[0].at() - kStateBytes;
  uint16_t* const state = reinterpret_cast<uint16_t*>(begin + at) + 2 * lane;
  state[0] = uint16_t(x[0]);
  state[1] = uint16_t(x[0] >> 16);
  return int(end - begin - at) / 2;
}

}  // namespace ANS_TARGET
}  // namespace ans::core
