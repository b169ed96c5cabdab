// Chunks of matrix streams over a vector of csrc/cpu: compiled once per target.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

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

// A chunk while it is decoded, band after band.
template <class V>
class ChunkReader {
 public:
  using U32 = typename V::U32;

  ANS_INLINE ChunkReader() { tail_.use(tail_words_); }
  Status start(const MatrixDecodeJob& job, MatrixBand* band) {
    job_ = &job;
    band_ = band;
    shape_ = {job.count, job.rows->columns};
    main_ = shape_.symbols() - job.entry.tail;
    words_ = job.bytes + (main_ > 0 ? 2 * format::kStateWords : 0);
    end_ = job.bytes + 2 * int64_t(job.entry.words);
    readable_end_ = job.readable_end;
    if (main_ == 0) return tail_.start(WordPieces{job.bytes, job.entry.words});
    std::memcpy(state_, job.bytes, sizeof state_);
    for (uint32_t s : state_)
      if (s < format::kStateLowerBound) return Status::kStateOutOfRange;
    raws_ = RawReader(words_, end_, job.raw_bits);
    return Status::kOk;
  }
  int64_t bands() const { return shape_.bands(); }

  // Columns of the next band, up to so many, that decode_steady_rows() can decode; not the last symbol before the tail.
  int64_t steady_columns(int64_t most) {
    if (next_band_ >= bands()) return 0;
    const int64_t columns = std::min(most, std::max<int64_t>(0, main_ - 1) / shape_.band_width(next_band_));
    if (columns > 0) make_readable();
    // Whole lines of the cache: what is stored does not cross them.
    const int64_t readable = (readable_end_ - words_) / (2 * format::kLanes);
    return readable >= columns ? columns : readable > kCacheLine ? readable - readable % kCacheLine : readable;
  }
  // For these columns, from the one after those that have been decoded.
  SteadyCursor steady_cursor() {
    const MatrixLines& lines = *job_->lines;
    if (next_column_ == 0) std::fill_n(walk_, format::kLanes, 0u);
    const int width = shape_.band_width(next_band_);
    for (int64_t i = 0; i < format::kLanes; ++i)
      next_symbol_[i] = i >= width ? next_symbol_[0] : lines.line(lines.line_at(job_->position + next_band_ * format::kLanes + i)) + next_column_ * format::symbol_bytes(lines.type);
    return {state_, walk_, words_, &raws_, next_symbol_, width};
  }
  Status take_steady(const SteadyCursor& cursor, int64_t columns) {
    words_ = cursor.words;
    main_ -= columns * cursor.width;
    next_column_ += columns;
    return words_ > end_ ? Status::kWordsExhausted : Status::kOk;
  }

  // What is left of the next band.
  Status decode_band() {
    const MatrixDecodeJob& job = *job_;
    const MatrixLines& lines = *job.lines;
    const MatrixRows& rows = *job.rows;
    alignas(64) uint32_t row[format::kLanes], contexts[format::kLanes], bases[format::kLanes];
    if (next_column_ == rows.columns) {
      next_column_ = 0;
      ++next_band_;
      return Status::kOk;
    }
    const int width = shape_.band_width(next_band_);
    band_->open(lines, job.position + next_band_ * format::kLanes, width);
    const MatrixBand::View view = band_->view();
    MatrixLanes<V, BandReferences<V>> lanes(rows, view.pairs);
    lanes.begin(V::load(view.start), V::load(view.rest), {view.references});
    if (next_column_ > 0) lanes.go_on(V::load(walk_));
    const int64_t first_column = next_column_;
    U32 x = V::load(state_);
    for (int64_t j = first_column; j < rows.columns; ++j) {
      const U32 context = lanes.context(j), base = lanes.base();
      U32 coded = V::set1(0);
      const int by_lanes = main_ < width ? int(main_) : width;
      if (by_lanes > 0) {
        make_readable();
        const U32 before = x;
        const U32 residual = pop_context<V>(job.tables, x, context);
        const auto on = V::first(by_lanes);
        if (by_lanes < format::kLanes) x = V::select(on, x, before);
        V::refill(x, words_);
        coded = V::add(base, V::sub(residual, V::set1(kResidualBias)));
        const uint32_t escaped = ~V::bits(V::ge(residual, V::set1(1))) & V::bits(on);
        if (escaped != 0) {
          V::store(row, coded);
          for (uint32_t m = escaped; m != 0; m &= m - 1) row[__builtin_ctz(m)] = raws_.next() + uint32_t(job.raw_min);
          coded = V::load(row);
        }
        if (words_ > end_) return Status::kWordsExhausted;
        if (by_lanes < format::kLanes) coded = V::select(on, coded, V::set1(0));
        main_ -= by_lanes;
        if (main_ == 0) {
          V::store(state_, x);
          if (const Status s = end_of_lanes(); s != Status::kOk) return s;
        }
      }
      if (by_lanes < width) {
        V::store(contexts, context);
        V::store(bases, base);
        V::store(row, coded);
        for (int lane = by_lanes; lane < width; ++lane) {
          const int32_t v = tail_.next(job.tables, contexts[lane], job.raw_bits);
          row[lane] = v >= 0 ? bases[lane] + uint32_t(v - kResidualBias) : uint32_t(job.raw_min - 1 - v);
        }
        coded = V::load(row);
      }
      const U32 symbol = wrapped<V>(lanes.symbol_of(coded), lines.type);
      lanes.learn(j, symbol);
      store_row<V>(view, j, symbol);
    }
    V::store(state_, x);
    band_->save(lines, first_column);
    next_column_ = 0;
    ++next_band_;
    return Status::kOk;
  }
  bool at_end() const { return next_band_ == bands(); }
  Status finish() const { return tail_.at_end() ? Status::kOk : Status::kTailStateMismatch; }

 private:
  static constexpr int64_t kLookAhead = 192, kSlack = 64 * 64 + kLookAhead, kCacheLine = 64;

  // Rows know no bounds. Where memory ends they run on a copy, behind which there are zeros for more than a row and what a backend may load.
  ANS_INLINE void make_readable() {
    if (readable_end_ - words_ >= kLookAhead) return;
    copy_rest();
  }
  void copy_rest() {
    const int64_t size = std::max<int64_t>(0, end_ - words_);
    words_ = band_->copy_of(words_, size, kSlack);
    end_ = words_ + size;
    readable_end_ = end_ + kSlack;
  }
  Status end_of_lanes() {
    const int64_t left = end_ - words_ - raws_.bytes();
    if (left != 0) return left < 0 ? Status::kWordsExhausted : Status::kWordsLeft;
    if (!raws_.zero_padding()) return Status::kNonzeroPadding;
    return tail_.start(StatePieces{state_});
  }

  const MatrixDecodeJob* job_;
  MatrixBand* band_;
  ChunkShape shape_;
  int64_t main_, next_band_ = 0, next_column_ = 0;  // main: symbols of the lanes that are still to come
  const uint8_t *words_, *end_, *readable_end_;
  alignas(64) uint32_t state_[format::kLanes] = {}, walk_[format::kLanes];
  uint8_t* next_symbol_[format::kLanes];
  RawReader raws_;
  uint16_t tail_words_[kContextTailWords];
  ContextTail tail_;
};

// Chunks of one part, up to kSteadyStreams of them; those whose rows are steady go side by side through decode_steady_rows(rows, cursors, count), if that is there.
template <class V, class SteadyFunction>
Status decode_matrix_chunks(const MatrixDecodeJob* jobs, int count, MatrixBand* const* bands, SteadyFunction decode_steady_rows) {
  ChunkReader<V> readers[kSteadyStreams];
  for (int i = 0; i < count; ++i)
    if (const Status s = readers[i].start(jobs[i], bands[i]); s != Status::kOk) return s;
  for (bool more = true; more;) {
    if constexpr (!std::is_same_v<SteadyFunction, std::nullptr_t>) {
      for (int64_t column = 0; jobs[0].steady != nullptr;) {
        SteadyRows rows = *jobs[0].steady;
        rows.columns -= column;
        rows.class_of += column;
        ChunkReader<V>* ready[kSteadyStreams];
        SteadyCursor cursors[kSteadyStreams];
        int n = 0;
        for (int i = 0; i < count; ++i) {
          const int64_t columns = readers[i].steady_columns(rows.columns);
          if (columns == 0) continue;
          rows.columns = columns;
          ready[n++] = &readers[i];
        }
        if (n == 0 || rows.columns == 0) break;
        for (int i = 0; i < n; ++i) cursors[i] = ready[i]->steady_cursor();
        decode_steady_rows(rows, cursors, n);
        for (int i = 0; i < n; ++i)
          if (const Status s = ready[i]->take_steady(cursors[i], rows.columns); s != Status::kOk) return s;
        column += rows.columns;
        if (column == jobs[0].steady->columns) break;
      }
    }
    more = false;
    for (int i = 0; i < count; ++i) {
      if (readers[i].at_end()) continue;
      if (const Status s = readers[i].decode_band(); s != Status::kOk) return s;
      more |= !readers[i].at_end();
    }
  }
  for (int i = 0; i < count; ++i)
    if (const Status s = readers[i].finish(); s != Status::kOk) return s;
  return Status::kOk;
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
