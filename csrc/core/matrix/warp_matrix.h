// A chunk of a matrix stream decoded by a warp: the rows are those of matrix_lanes.h, a line in every thread. What differs from the host: lines are read and written where
// they lie, words come through shared memory, and all lanes run the coder of the tail together, since each of its symbols needs the context of another lane.
#pragma once
#include <cstdint>

#include "core/matrix/context_tail.h"
#include "core/matrix/matrix_band.h"
#include "core/matrix/matrix_jobs.h"
#include "core/matrix/matrix_lanes.h"
#include "core/matrix/placed_symbols.h"
#include "core/warp_decoder.h"
#include "core/warp_words.h"

namespace ans::core {
namespace ANS_TARGET {

// Memory of a warp: [kMatrixScratchBytes] and [pairs][32] numbers.
struct MatrixScratch {
  uint32_t* state;       // [32]
  uint16_t* tail_words;  // [kContextTailWords]
  uint32_t* pairs;
};
constexpr int kMatrixScratchBytes = 4 * format::kLanes + 2 * kContextTailWords;
static_assert(kMatrixScratchBytes % 128 == 0, "rows of pairs are aligned");
ANS_INLINE MatrixScratch matrix_scratch(uint8_t* memory) {
  uint32_t* const state = reinterpret_cast<uint32_t*>(memory);
  return {state, reinterpret_cast<uint16_t*>(state + format::kLanes), reinterpret_cast<uint32_t*>(memory + kMatrixScratchBytes)};
}

ANS_INLINE int32_t load_symbol(const uint8_t* p, format::SymbolType type) {
  if (type == format::SymbolType::kU8) return *p;
  return type == format::SymbolType::kI8 ? int32_t(int8_t(*p)) : int32_t(*reinterpret_cast<const int16_t*>(p));
}
ANS_INLINE void store_symbol(uint8_t* p, format::SymbolType type, uint32_t symbol) {
  if (type == format::SymbolType::kI16) *reinterpret_cast<int16_t*>(p) = int16_t(symbol);
  else *p = uint8_t(symbol);
}

// What references add to a lane's predictions, read where they lie.
struct LineReferences {
  const uint8_t *given, *own;
  int64_t given_step, own_step;
  int32_t given_factor, own_factor, own_odd_factor;
  format::SymbolType type;
  bool any;  // of the warp's lanes

  ANS_INLINE bool none() const { return !any; }
  ANS_INLINE uint32_t at(int64_t j) const {
    int32_t sum = 0;
    if (given_factor != 0) sum += given_factor * value(given + j * given_step);
    if (own_factor != 0) sum += (j % 2 == 0 ? own_factor : own_odd_factor) * value(own + j * own_step);
    return uint32_t(sum);
  }
  ANS_INLINE int32_t value(const uint8_t* p) const {
    const int32_t symbol = load_symbol(p, type);
    if (type != format::SymbolType::kI16) return symbol;
    return symbol < kMinCounted ? kMinCounted : symbol > kMaxCounted ? kMaxCounted : symbol;
  }
};

// What a lane knows of its line: the one at `position` of the order, or none.
struct WarpLine {
  uint8_t* symbols;
  uint32_t start, rest;
  LineReferences references;
};
template <class W>
ANS_INLINE WarpLine open_line(const WarpMatrix& m, int64_t position, bool is_there) {
  WarpLine line{m.own.symbols, 1u << kAverageBits, uint32_t(kFactorOne), {m.given.symbols, m.own.symbols, m.given.column_step, m.own.column_step, 0, 0, 0, m.type, false}};
  if (is_there) {
    const int64_t i = m.order == nullptr ? position : m.order[position];
    line.symbols += i * m.own.line_step;
    if (m.start != nullptr) line.start = m.start[i];
    LineReferences& r = line.references;
    if (m.given.symbols != nullptr) {
      r.given_factor = m.given_factor[i];
      r.given += i * m.given.line_step;
    }
    if (m.factor != nullptr && m.factor[i] != 0) {
      r.own_factor = m.factor[i];
      r.own_odd_factor = m.alternating ? -r.own_factor : r.own_factor;
      r.own += m.reference[i] * m.own.line_step;
    }
    line.rest = uint32_t(kFactorOne - r.given_factor - r.own_factor);
  }
  line.references.any = W::ballot(line.references.given_factor != 0 || line.references.own_factor != 0) != 0;
  return line;
}

// All symbols of a chunk. Nothing outside it is read, whatever it holds. The status is the same in all lanes.
template <class W>
ANS_INLINE Status decode_matrix_chunk(const WarpMatrix& m, const MatrixRows& rows, const MatrixJob& job, const MatrixScratch& scratch, uint16_t* ring) {
  using V = VectorWarp<W>;
  const ChunkShape shape{job.lines, rows.columns};
  const int lane = int(W::lane());
  int64_t main = shape.symbols() - job.tail;
  const bool wide = main > 0;

  ContextTail tail;
  tail.use(scratch.tail_words);
  auto start_tail = [&](const auto& pieces) {
    W::sync();
    const Status s = lane == 0 ? tail.start(pieces) : Status::kOk;
    W::sync();
    const uint32_t state = W::shuffle(tail.state(), 0);
    tail.start_from(state, int(W::shuffle(uint32_t(tail.words()), 0)));
    return Status(int(W::shuffle(uint32_t(s), 0)));
  };

  uint32_t x = format::kStateLowerBound;
  if (wide) {
    const uint8_t* const own = job.begin + 4 * lane;
    x = uint32_t(own[0]) | uint32_t(own[1]) << 8 | uint32_t(own[2]) << 16 | uint32_t(own[3]) << 24;
    if (W::ballot(x < format::kStateLowerBound) != 0) return Status::kStateOutOfRange;
  } else if (const Status s = start_tail(WordPieces{job.begin, int((job.end - job.begin) / 2)}); s != Status::kOk) {
    return s;
  }
  const uint8_t* const first_word = wide ? job.begin + 2 * format::kStateWords : job.end;
  WarpWords<W> words(first_word, job.end, ring);
  WarpRaws<W> raws(job.end, (job.end - first_word) / 2, m.raw_bits);

  MatrixLanes<V, LineReferences> lanes(rows, scratch.pairs);
  for (int64_t b = 0; b < shape.bands(); ++b) {
    const int width = shape.band_width(b);
    const WarpLine line = open_line<W>(m, job.position + b * format::kLanes + lane, lane < width);
    lanes.begin(line.start, line.rest, line.references);
    for (int64_t j = 0; j < rows.columns; ++j) {
      const uint32_t context = lanes.context(j), base = lanes.base();
      uint32_t coded = 0;
      const int by_lanes = main < width ? int(main) : width;
      if (by_lanes > 0) {
        words.prepare();
        const bool on = lane < by_lanes;
        const uint32_t before = x, residual = pop_context<V>(m.tables, x, context);
        x = on ? x : before;
        V::refill(x, words);
        const bool escaped = on && residual == 0;
        if (W::ballot(escaped) != 0) {
          const uint32_t raw = raws.take(escaped);
          coded = escaped ? raw + uint32_t(m.raw_min) : base + residual - kResidualBias;
        } else {
          coded = base + residual - kResidualBias;
        }
        main -= by_lanes;
        if (main == 0) {
          if (const Status s = raws.check(words.taken()); s != Status::kOk) return s;
          V::store(scratch.state, x);
          if (const Status s = start_tail(StatePieces{scratch.state}); s != Status::kOk) return s;
        }
      }
      for (int l = by_lanes; l < width; ++l) {
        const int32_t v = tail.next(m.tables, W::shuffle(context, unsigned(l)), m.raw_bits);
        if (lane == l) coded = v >= 0 ? base + uint32_t(v - kResidualBias) : uint32_t(m.raw_min - 1 - v);
      }
      const uint32_t symbol = wrapped<V>(lanes.symbol_of(coded), m.type);
      lanes.learn(j, symbol);
      if (lane < width) store_symbol(line.symbols + j * m.own.column_step, m.type, symbol);
    }
  }
  return tail.at_end() ? Status::kOk : Status::kTailStateMismatch;
}

// Of the tables of a stream, what warps look up of a symbol: symbol_entry() for every context and residual + 128.
struct WarpPlaces {
  const uint32_t* entry;  // [contexts][256]
  int32_t raw_min;
  int raw_bits;
};

// Finds the symbols of a chunk: context << 8 | index in rows of 32 (idle lanes have what the first one has), what each lane's symbols cost (mod 2^16), and the raw values of those
// that are escaped, in order. Returns how many these are; minus a status if one of them is none that the stream can tell, or lines are none that the trellis has. The same in all lanes.
template <class W>
ANS_INLINE int64_t find_chunk_symbols(const WarpMatrix& m, const MatrixRows& rows, const MatrixEncodeJob& job, const WarpPlaces& places, const MatrixScratch& scratch, uint32_t* symbols,
                                      uint16_t* cost, uint16_t* raw) {
  using V = VectorWarp<W>;
  const ChunkShape shape{job.lines, rows.columns};
  const int lane = int(W::lane());
  const uint32_t below = V::lanes_below();
  uint32_t own_cost = 0;
  int64_t escapes = 0;
  bool invalid = false, impossible = false;
  MatrixLanes<V, LineReferences> lanes(rows, scratch.pairs);
  for (int64_t b = 0; b < shape.bands(); ++b) {
    const int width = shape.band_width(b);
    const bool on = lane < width;
    const WarpLine line = open_line<W>(m, job.position + b * format::kLanes + lane, on);
    lanes.begin(line.start, line.rest, line.references);
    for (int64_t j = 0; j < rows.columns; ++j, symbols += format::kLanes) {
      const uint32_t context = lanes.context(j);
      const uint32_t symbol = on ? uint32_t(load_symbol(line.symbols + j * m.own.column_step, m.type)) : 0, half = lanes.coded(symbol);
      impossible |= lanes.impossible(symbol) != 0;
      const uint32_t place = V::min_signed(V::max_signed(half - lanes.base() + kResidualBias, 0), kPlacesPerContext - 1);
      const uint32_t entry = places.entry[context * kPlacesPerContext + place];
      const uint32_t coded = context << 8 | (entry & 0xFF), first = W::shuffle(coded, 0);
      symbols[lane] = on ? coded : first;
      own_cost += on ? entry >> 16 : 0;
      const bool escaped = on && (entry & kEscapedMark) != 0;
      if (const uint32_t all = W::ballot(escaped); all != 0) {
        const uint32_t value = half - uint32_t(places.raw_min);
        if (escaped) {
          raw[escapes + count_bits(all & below)] = uint16_t(value);
          invalid |= value >> places.raw_bits != 0;
        }
        escapes += count_bits(all);
      }
      lanes.learn(j, symbol);
    }
  }
  cost[lane] = uint16_t(own_cost);
  if (W::ballot(impossible) != 0) return -int64_t(Status::kNoTrellisPath);
  return W::ballot(invalid) != 0 ? -int64_t(Status::kSymbolNotInTable) : escapes;
}

// Encodes the first `main` symbols of a chunk, of which so many are escaped, from these states [32] on, so that it ends at `end`; returns its words. They never take more than
// max_chunk_words().
template <class W>
ANS_INLINE int encode_chunk_symbols(const PlacedSymbols& symbols, int64_t main, const uint16_t* raw, int64_t escapes, int raw_bits, const uint32_t* start, uint8_t* end) {
  using V = VectorWarp<W>;
  if (W::lane() == 0) (void)write_raw_values(raw, escapes, raw_bits, end);
  uint32_t x = V::load(start);
  uint8_t* next = end - 2 * raw_words(escapes, raw_bits);
  for_rows_backwards(symbols.shape, main, [&](int64_t first, int64_t last, int width) {
    push_context_rows<V>(symbols.tables, symbols.symbols + first * format::kLanes, last - first, width, x, next);
  });
  next -= 2 * format::kStateWords;
  uint16_t* const state = reinterpret_cast<uint16_t*>(next) + 2 * W::lane();
  state[0] = uint16_t(x);
  state[1] = uint16_t(x >> 16);
  return int((end - next) / 2);
}

}  // namespace ANS_TARGET
}  // namespace ans::core
