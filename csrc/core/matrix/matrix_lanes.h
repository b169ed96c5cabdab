// The row of a matrix chunk: what each of the 32 lanes knows about its next symbol, and what it learns from it (BITSTREAM.md, sections 7.5 to 7.7). Written once over
// the vectors of csrc/cpu or of a warp (core/vector_warp.h); encoders and decoders walk through the same rows. A lane is a line; a row is a column of 32 lines.
#pragma once
#include "core/lanes32.h"
#include "core/matrix/matrix_coder.h"

namespace ans::core {
namespace ANS_TARGET {

// The symbol of a number that may be too large for its 8 or 16 bits.
template <class V>
ANS_INLINE typename V::U32 wrapped(const typename V::U32& v, format::SymbolType type) {
  if (type == format::SymbolType::kU8) return V::and_(v, V::set1(0xFF));
  const int unused = type == format::SymbolType::kI8 ? 24 : 16;
  return V::sar_by(V::shl_by(v, unused), unused);
}

// What references add to predictions, as a MatrixBand has it: [columns][32], in eighths, or null.
template <class V>
struct BandReferences {
  const int16_t* of;
  ANS_INLINE bool none() const { return of == nullptr; }
  ANS_INLINE typename V::U32 at(int64_t j) const { return V::load_i16(of + j * format::kLanes); }
};

template <class V, class References>
class MatrixLanes {
 public:
  using U32 = typename V::U32;

  // `pairs`: room for [rows.pairs][32]; of this object's alone.
  ANS_INLINE MatrixLanes(const MatrixRows& rows, uint32_t* pairs) : rows_(rows), pairs_(pairs) {}

  // 32 new lines. start: their averages; rest: 8 minus their factors.
  ANS_INLINE void begin(const U32& start, const U32& rest, const References& references) {
    average_[0] = average_[1] = start;
    rest_ = rest;
    references_ = references;
    reference_ = prediction_ = state_ = V::set1(0);
    in_block_ = 0;
  }

  // Instead of the state at the beginning of a line, that of the trellis after some columns; where there is nothing else that lanes learn.
  ANS_INLINE void go_on(const U32& state) { state_ = state; }

  // The contexts of column j's symbols; columns come in order.
  ANS_INLINE U32 context(int64_t j) {
    U32 scale = V::set1(uint32_t(rows_.scale[j]));
    if (rows_.weight[0] | rows_.weight[1]) {
      const U32 weighted = V::add(V::mul(V::set1(uint32_t(rows_.weight[0])), log_scale(average_[0])), V::mul(V::set1(uint32_t(rows_.weight[1])), log_scale(average_[1])));
      scale = V::add(scale, V::sar_by(V::add(weighted, V::set1(kFactorOne / 2)), 3));
    }
    scale = V::sar_by(scale, rows_.class_shift);
    const U32 k = V::min_signed(V::max_signed(scale, V::set1(0)), V::set1(uint32_t(rows_.classes - 1)));
    if (rows_.phases == 1) return k;
    if (rows_.phases == 2) return V::or_(V::add(k, k), odd());
    predict(j);
    return V::or_(V::template shl<3>(k), V::and_(coded_prediction(), V::set1(kPhases - 1)));
  }
  // In eighths; of a model that predicts.
  ANS_INLINE const U32& prediction() const { return prediction_; }
  // What residuals are relative to.
  ANS_INLINE U32 base() const { return rows_.phases == 1 ? V::set1(0) : V::sar_by(coded_prediction(), 3); }

  // What is coded is a symbol or, with a trellis, k of the symbol 2 * k + (state & 1).
  ANS_INLINE U32 coded(const U32& symbol) const { return rows_.odd == 0 ? symbol : V::sar_by(symbol, 1); }
  ANS_INLINE U32 symbol_of(const U32& coded) const { return rows_.odd == 0 ? coded : V::add(V::add(coded, coded), odd()); }
  // 1 where the machine has no such symbol next.
  ANS_INLINE U32 impossible(const U32& symbol) const { return rows_.odd == 0 ? V::set1(0) : V::and_(V::xor_(symbol, state_), V::set1(1)); }

  // The symbols of column j, whose contexts were the last.
  ANS_INLINE void learn(int64_t j, const U32& actual) {
    if (rows_.odd != 0) {
      const U32 from = V::mul(odd(), V::set1(rows_.odd)), by = V::mul(V::and_(V::template shr<1>(actual), V::set1(1)), V::set1(rows_.parity));
      state_ = V::xor_(V::template shr<1>(state_), V::xor_(from, by));
    }
    U32 symbol = actual;
    if (rows_.limited) symbol = V::max_signed(V::min_signed(symbol, V::set1(uint32_t(rows_.highest / kPhases))), V::set1(uint32_t(rows_.lowest / kPhases)));
    const U32 eighths = V::template shl<3>(symbol);
    if (rows_.rate[0] | rows_.rate[1]) {
      const U32 distance = rows_.phases == 1 ? eighths : V::sub(eighths, prediction_);
      const U32 magnitude = V::max_signed(distance, V::sub(V::set1(0), distance));
      const U32 seen = V::min_signed(V::template shr<3>(V::mul(magnitude, V::set1(rows_.inverse[j]))), V::set1(uint32_t(kMaxAverage)));
      ANS_UNROLL
      for (int i = 0; i < 2; ++i) {
        if (rows_.rate[i] == 0) continue;
        const U32 step = V::sar_by(V::add(V::sub(seen, average_[i]), V::set1(1u << (rows_.rate[i] - 1))), rows_.rate[i]);
        average_[i] = V::max_signed(V::add(average_[i], step), V::set1(uint32_t(kMinAverage)));
      }
    }
    if (rows_.period == 0) return;
    const U32 own = references_.none() ? eighths : V::sub(eighths, reference_);
    uint32_t* const pair = pairs_ + in_block_ / 2 * format::kLanes;
    const U32 low16 = V::set1(0xFFFF);
    V::store(pair, in_block_ % 2 == 0 ? V::and_(own, low16) : V::or_(V::and_(V::load(pair), low16), V::template shl<16>(own)));
    if (++in_block_ == rows_.period) in_block_ = 0;
  }

 private:
  ANS_INLINE U32 odd() const { return V::and_(state_, V::set1(1)); }
  // Of what is coded, in eighths.
  ANS_INLINE U32 coded_prediction() const { return rows_.odd == 0 ? prediction_ : V::sub(V::sar_by(prediction_, 1), V::template shl<2>(odd())); }

  // log2(average / 2^14) in sixteenths, linear between powers of two: the exponent of a float and the first 4 bits of its mantissa.
  ANS_INLINE static U32 log_scale(const U32& average) { return V::sub(V::template shr<19>(V::float_bits(average)), V::set1(kOctave * (127 + kAverageBits))); }

  ANS_INLINE void predict(int64_t j) {
    U32 t = V::set1(0);
    if (rows_.period != 0) t = V::sar_by(V::add(dot(), V::set1(1u << (rows_.shift - 1))), rows_.shift);
    if (!references_.none()) {
      reference_ = references_.at(j);
      t = V::add(t, reference_);
    }
    if (rows_.mean != nullptr) t = V::add(t, V::sar_by(V::add(V::mul(rest_, V::set1(uint32_t(rows_.mean[j]))), V::set1(kFactorOne / 2)), 3));
    prediction_ = V::max_signed(V::min_signed(t, V::set1(uint32_t(rows_.highest))), V::set1(uint32_t(rows_.lowest)));
  }

  // Coefficients times the columns before this one. What the columns before a group of kDotColumns contribute to all of the group is summed up at once: their values
  // are loaded once.
  ANS_INLINE U32 dot() {
    constexpr int64_t kGroup = V::kDotColumns;
    const int64_t in_group = in_block_ % kGroup, first = in_block_ - in_group;
    if (in_group == 0) sum_before(first);
    U32 sum = V::pick(before_, int(in_group));
    const CoefficientGroup* const c = groups_of(in_block_);
    const int64_t column = in_block_ % kCoefficientGroup;
    for (int64_t p = first / 2; 2 * p < in_block_; ++p) sum = V::dot_pairs(sum, V::load(pairs_ + p * format::kLanes), c[p].of[column]);
    return sum;
  }
  ANS_INLINE const CoefficientGroup* groups_of(int64_t column) const { return rows_.coefficients + column / kCoefficientGroup * rows_.pairs; }
  ANS_INLINE void sum_before(int64_t first) {
    constexpr int kGroup = V::kDotColumns;
    const int64_t begin = first > rows_.window ? (first - rows_.window) / 2 : 0;
    static_assert(kCoefficientGroup % kGroup == 0, "");
    U32 sum[kGroup];
    ANS_UNROLL
    for (int g = 0; g < kGroup; ++g) sum[g] = V::set1(0);
    const CoefficientGroup* const groups = groups_of(first);
    const int64_t column = kGroup == kCoefficientGroup ? 0 : first % kCoefficientGroup;
    for (int64_t p = begin; p < first / 2; ++p) {  // the last group may have more columns than there are
      const U32 values = V::load(pairs_ + p * format::kLanes);
      const auto& c = V::fetch(groups[p]);
      ANS_UNROLL
      for (int g = 0; g < kGroup; ++g) sum[g] = V::dot_pairs(sum[g], values, c.of[column + g]);
    }
    ANS_UNROLL
    for (int g = 0; g < kGroup; ++g) before_[g] = sum[g];
  }

  const MatrixRows& rows_;
  uint32_t* const pairs_;
  References references_{};
  int64_t in_block_ = 0;
  U32 average_[2], rest_, prediction_, reference_, state_, before_[V::kDotColumns];
};

// Pushes rows, the last one first, in which the lanes below `width` count. A symbol is context << 8 | index.
template <class V, class Words>
ANS_INLINE void push_context_rows(const EncodeTable* tables, const uint32_t* symbols, int64_t rows, int width, typename V::U32& x, Words& words) {
  using U32 = typename V::U32;
  static_assert(sizeof(EncodeTable) % sizeof(uint32_t) == 0, "");
  constexpr uint32_t kStride32 = sizeof(EncodeTable) / sizeof(uint32_t), kStride16 = sizeof(EncodeTable) / sizeof(uint16_t);
  const typename Lanes32<V>::Encoder encoder(tables->packed, tables->reciprocal, tables->slot_of);
  const auto on = V::first(width);
  for (int64_t row = rows; row-- > 0;) {
    const U32 symbol = V::load(symbols + row * format::kLanes), context = V::template shr<8>(symbol);
    const U32 index = V::add(V::mul(context, V::set1(kStride32)), V::and_(symbol, V::set1(0xFF)));
    const U32 slots = V::mul(context, V::set1(kStride16));
    auto slot_at = [&](const U32& i) __attribute__((always_inline)) { return V::add(slots, i); };
    if (width == format::kLanes) Lanes32<V>::template push_with<false>(encoder, x, index, on, words, slot_at);
    else Lanes32<V>::template push_with<true>(encoder, x, index, on, words, slot_at);
  }
}

// Advances the states; returns residual + 128, or 0 for an escape (BITSTREAM.md, section 4).
template <class V>
ANS_INLINE typename V::U32 pop_context(const ContextSlots& tables, typename V::U32& x, const typename V::U32& context) {
  using U32 = typename V::U32;
  const int position_bits = format::kProbBits - tables.bucket_bits;
  const U32 low12 = V::set1(format::kSlots - 1), slot = V::and_(x, low12);
  const U32 position = V::and_(slot, V::set1((1u << position_bits) - 1));
  const U32 place = V::add(V::shl_by(context, tables.bucket_bits), V::shr_by(slot, position_bits));
  const U32 twice = V::add(place, place);
  const U32 entry = V::gather(tables.step, V::select(V::ge(position, V::gather8(tables.divider, place)), V::add(twice, V::set1(1)), twice));
  x = V::add(V::mul(V::template shr<20>(entry), V::template shr<12>(x)), V::and_(V::add(V::template shr<8>(entry), position), low12));
  return V::and_(entry, V::set1(0xFF));
}

}  // namespace ANS_TARGET
}  // namespace ans::core
