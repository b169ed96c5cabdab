// Chunks of matrix streams over a vector of csrc/cpu: compiled once per target.
#pragma once
#include <cstring>

#include "core/matrix/context_tail.h"
#include "core/matrix/matrix_lanes.h"
#include "core/raw_values.h"

namespace ans::core {
namespace ANS_TARGET {

// Rows of a band's symbols.
template <class V>
ANS_INLINE typename V::U32 load_row(const MatrixBand::View& view, int64_t j, format::SymbolType type) {
  if (view.wide != nullptr) return V::load_i16(view.wide + j * format::kLanes);
  const uint8_t* const row = view.bytes + j * format::kLanes;
  return type == format::SymbolType::kU8 ? V::load_u8(row) : V::load_i8(row);
}
template <class V>
ANS_INLINE void store_row(const MatrixBand::View& view, int64_t j, const typename V::U32& symbol) {
  if (view.wide != nullptr) V::store_low(reinterpret_cast<uint16_t*>(view.wide) + j * format::kLanes, symbol);
  else V::store_low(view.bytes + j * format::kLanes, symbol);
}

template <class V>
Status decode_matrix_chunk(const MatrixDecodeJob& job, MatrixBand* band) {
  using U32 = typename V::U32;
  const MatrixLines& lines = *job.lines;
  const MatrixRows& rows = *job.rows;
  const ChunkShape shape{job.count, rows.columns};
  const ContextSlots& steps = job.tables;
  int64_t main = shape.symbols() - job.entry.tail;
  const bool wide = main > 0;

  // Rows know no bounds: they run on a copy, behind which there are zeros for more than a row and what a backend may load.
  const int64_t size = 2 * int64_t(job.entry.words), state_bytes = wide ? 2 * format::kStateWords : 0;
  constexpr int64_t kSlack = 192;
  const uint8_t* const copy = band->copy_of(job.bytes, size, kSlack);
  const uint8_t *words = copy + state_bytes, *const end = copy + size;
  alignas(64) uint32_t state[format::kLanes], row[format::kLanes], contexts[format::kLanes], bases[format::kLanes];
  uint16_t tail_words[kContextTailWords];
  ContextTail tail(tail_words);
  RawReader raws;
  U32 x = V::set1(0);
  if (wide) {
    std::memcpy(state, copy, sizeof state);
    for (uint32_t s : state)
      if (s < format::kStateLowerBound) return Status::kStateOutOfRange;
    x = V::load(state);
    raws = RawReader(words, end, job.raw_bits);
  } else if (const Status s = tail.start(WordPieces{copy, job.entry.words}); s != Status::kOk) {
    return s;
  }

  MatrixLanes<V, BandReferences<V>> lanes(rows, band->view().pairs);
  for (int64_t b = 0; b < shape.bands(); ++b) {
    const int width = shape.band_width(b);
    band->open(lines, job.position + b * format::kLanes, width);
    const MatrixBand::View view = band->view();
    lanes.begin(V::load(view.start), V::load(view.rest), {view.references});
    for (int64_t j = 0; j < rows.columns; ++j) {
      const U32 context = lanes.context(j), base = lanes.base();
      U32 coded = V::set1(0);
      const int by_lanes = main < width ? int(main) : width;
      if (by_lanes > 0) {
        const U32 before = x;
        const U32 residual = pop_context<V>(steps, x, context);
        const auto on = V::first(by_lanes);
        if (by_lanes < format::kLanes) x = V::select(on, x, before);
        V::refill(x, words);
        coded = V::add(base, V::sub(residual, V::set1(kResidualBias)));
        const uint32_t escaped = ~V::bits(V::ge(residual, V::set1(1))) & V::bits(on);
        if (escaped != 0) {
          V::store(row, coded);
          for (uint32_t m = escaped; m != 0; m &= m - 1) row[__builtin_ctz(m)] = raws.next() + uint32_t(job.raw_min);
          coded = V::load(row);
        }
        if (words > end) return Status::kWordsExhausted;
        if (by_lanes < format::kLanes) coded = V::select(on, coded, V::set1(0));
        main -= by_lanes;
        if (main == 0) {
          const int64_t left = end - words - raws.bytes();
          if (left != 0) return left < 0 ? Status::kWordsExhausted : Status::kWordsLeft;
          if (!raws.zero_padding()) return Status::kNonzeroPadding;
          V::store(state, x);
          if (const Status s = tail.start(StatePieces{state}); s != Status::kOk) return s;
        }
      }
      if (by_lanes < width) {
        V::store(contexts, context);
        V::store(bases, base);
        V::store(row, coded);
        for (int lane = by_lanes; lane < width; ++lane) {
          const int32_t v = tail.next(steps, contexts[lane], job.raw_bits);
          row[lane] = v >= 0 ? bases[lane] + uint32_t(v - kResidualBias) : uint32_t(job.raw_min - 1 - v);
        }
        coded = V::load(row);
      }
      const U32 symbol = wrapped<V>(lanes.symbol_of(coded), lines.type);
      lanes.learn(j, symbol);
      store_row<V>(view, j, symbol);
    }
    band->save(lines);
  }
  return tail.at_end() ? Status::kOk : Status::kTailStateMismatch;
}

template <class V>
bool find_matrix_places(const MatrixLines& lines, const MatrixRows& rows, int64_t position, int64_t count, MatrixBand* band, Place* places) {
  using U32 = typename V::U32;
  const ChunkShape shape{count, rows.columns};
  MatrixLanes<V, BandReferences<V>> lanes(rows, band->view().pairs);
  U32 impossible = V::set1(0);
  for (int64_t b = 0; b < shape.bands(); ++b) {
    band->open(lines, position + b * format::kLanes, shape.band_width(b));
    band->load(lines);
    const MatrixBand::View view = band->view();
    lanes.begin(V::load(view.start), V::load(view.rest), {view.references});
    for (int64_t j = 0; j < rows.columns; ++j, places += format::kLanes) {
      const U32 context = lanes.context(j);
      const U32 symbol = load_row<V>(view, j, lines.type), residual = V::add(V::sub(lanes.coded(symbol), lanes.base()), V::set1(kResidualBias));
      impossible = V::or_(impossible, lanes.impossible(symbol));
      V::store(places, V::or_(V::template shl<8>(context), V::min_signed(V::max_signed(residual, V::set1(0)), V::set1(kPlacesPerContext - 1))));
      lanes.learn(j, symbol);
    }
  }
  return !V::any_ge(impossible, V::set1(1));
}

template <class V>
void find_matrix_predictions(const MatrixLines& lines, const MatrixRows& rows, int64_t position, int64_t count, MatrixBand* band, int16_t* predictions) {
  const ChunkShape shape{count, rows.columns};
  MatrixLanes<V, BandReferences<V>> lanes(rows, band->view().pairs);
  alignas(64) uint32_t row[format::kLanes];
  for (int64_t b = 0; b < shape.bands(); ++b, predictions += format::kLanes * rows.columns) {
    band->open(lines, position + b * format::kLanes, shape.band_width(b));
    band->load(lines);
    const MatrixBand::View view = band->view();
    lanes.begin(V::load(view.start), V::load(view.rest), {view.references});
    for (int64_t j = 0; j < rows.columns; ++j) {
      (void)lanes.context(j);
      V::store(row, lanes.prediction());
      for (int lane = 0; lane < view.width; ++lane) predictions[lane * rows.columns + j] = int16_t(row[lane]);
      lanes.learn(j, load_row<V>(view, j, lines.type));
    }
  }
}

// sums[g][lane] = sum of products of 16-bit numbers: lanes[p] holds two of each of 32 vectors, rows[g * stride + p] two of another one's.
template <class V>
void dot_rows(const uint32_t* lanes, const uint32_t* rows, int64_t stride, int64_t pairs, int32_t* sums) {
  using U32 = typename V::U32;
  constexpr int kGroup = V::kDotColumns;
  static_assert(kDotRows % kGroup == 0, "");
  for (int first = 0; first < kDotRows; first += kGroup) {
    U32 sum[kGroup];
    ANS_UNROLL
    for (int g = 0; g < kGroup; ++g) sum[g] = V::set1(0);
    for (int64_t p = 0; p < pairs; ++p) {
      const U32 values = V::load(lanes + p * format::kLanes);
      ANS_UNROLL
      for (int g = 0; g < kGroup; ++g) sum[g] = V::dot_pairs(sum[g], values, rows[(first + g) * stride + p]);
    }
    ANS_UNROLL
    for (int g = 0; g < kGroup; ++g) V::store(reinterpret_cast<uint32_t*>(sums) + (first + g) * format::kLanes, sum[g]);
  }
}

template <class V>
void find_beyond(const int32_t* sums, uint32_t threshold, uint32_t* masks) {
  for (int r = 0; r < kDotRows; ++r) {
    const typename V::U32 shifted = V::add(V::load(reinterpret_cast<const uint32_t*>(sums) + r * format::kLanes), V::set1(threshold));
    masks[r] = V::bits(V::ge(shifted, V::set1(2 * threshold + 1)));
  }
}

// Compiled for each target: wider registers, the same numbers.
template <class V>
void add_multiple(double a, const double* __restrict x, double* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

template <class V>
void push_matrix_rows(const EncodeTable* tables, const uint32_t* symbols, int64_t rows, int width, uint32_t* state, uint8_t** words) {
  typename V::U32 x = V::load(state);
  uint8_t* at = *words;
  push_context_rows<V>(tables, symbols, rows, width, x, at);
  V::store(state, x);
  *words = at;
}

}  // namespace ANS_TARGET
}  // namespace ans::core
