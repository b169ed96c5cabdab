#include "core/matrix/matrix_tables.h"

#include <algorithm>

#include "core/alias_table.h"

namespace ans::core {
namespace {

// round(2^15 * 2^(i / 8))
constexpr uint32_t kPowers[8] = {32768, 35734, 38968, 42495, 46341, 50535, 55109, 60097};

// factor * 2^(eighths / 8), rounded down in the way that BITSTREAM.md, section 9.5, says.
uint32_t times_power(uint32_t factor, int eighths) {
  const int whole = eighths >> 3;  // floor
  const uint64_t product = uint64_t(factor) * kPowers[eighths & 7];
  return uint32_t(whole <= 15 ? product >> (15 - whole) : product << (whole - 15));
}

// A residual of r eighths where a scale of 1 is expected counts as kNeutral * r / 8: on average that is 2^14, the mean of a normal variable's magnitude being sqrt(2 / pi).
constexpr uint32_t kNeutral = 20534;

FrequencyTable table_of(const MatrixModel& m, int context) {
  const int k = context / m.phases();
  FrequencyTable table = class_table(m.class_log_scale(k), int(m.classes[size_t(k)].shape), context % m.phases(), m.buckets);
  table.raw_bits = m.raw_bits;
  table.raw_min = m.raw_min;
  return table;
}

}  // namespace

MatrixTables::MatrixTables(const MatrixModel& m, format::SymbolType type, const int8_t* given) : mean_(m.mean) {
  for (int32_t s : m.column_scale) {
    scale_.push_back(kScaleStep * s - m.class_origin);
    inverse_.push_back(times_power(kNeutral, -s));
  }
  for (int32_t s : m.line_start) start_.push_back(times_power(1u << kAverageBits, s));
  const size_t period = size_t(m.period), pairs = (period + 1) / 2;
  if (m.predictor != PredictorKind::kNone) {
    coefficients_.assign(period * pairs, 0);
    size_t next = 0;
    for (size_t j = 0; j < period; ++j) {
      for (size_t k = j - std::min(j, size_t(m.window)); k < j; ++k, ++next) {
        const int32_t c = m.predictor == PredictorKind::kStationary ? m.coefficients[j - k - 1] : given != nullptr ? given[next] : m.coefficients[next];
        coefficients_[j * pairs + k / 2] |= uint32_t(uint16_t(c)) << (k % 2 * 16);
      }
    }
  }
  rows_ = {};
  rows_.columns = m.columns;
  rows_.lowest = kPhases * format::symbol_min(type);
  rows_.highest = kPhases * format::symbol_max(type);
  rows_.scale = scale_.data();
  rows_.inverse = inverse_.data();
  rows_.start = start_.empty() ? nullptr : start_.data();
  for (int i = 0; i < 2; ++i) {
    rows_.weight[i] = m.adaptation[i].rate == 0 ? 0 : m.adaptation[i].weight;
    rows_.rate[i] = m.adaptation[i].rate == kHeld ? 0 : m.adaptation[i].rate;
  }
  rows_.class_shift = m.class_shift;
  rows_.classes = int(m.classes.size());
  rows_.phases = m.phases();
  rows_.period = m.predictor == PredictorKind::kNone ? 0 : m.period;
  rows_.pairs = int64_t(pairs);
  rows_.window = m.window;
  rows_.shift = m.shift;
  rows_.coefficients = coefficients_.data();
  rows_.mean = mean_.empty() ? nullptr : mean_.data();
}

ContextDecodeTables make_context_decode_tables(const MatrixModel& m) {
  ContextDecodeTables t;
  t.buckets = m.buckets;
  const size_t buckets = size_t(m.buckets);
  t.divider.resize(size_t(m.contexts()) * buckets + 4);  // a gather reads 32 bits
  t.step.resize(size_t(m.contexts()) * 2 * buckets);
  for (int context = 0; context < m.contexts(); ++context) {
    const FrequencyTable table = table_of(m, context);
    const AliasTable alias = make_alias_table(table, m.buckets);
    auto step = [&](size_t index, uint32_t bias) {
      const uint32_t residual = int(index) == table.escape_index() ? 0 : uint32_t(table.first_value + int(index) + kResidualBias);
      return uint32_t(alias.freq[index]) << 20 | (bias & uint32_t(format::kSlots - 1)) << 8 | residual;
    };
    for (size_t b = 0; b < buckets; ++b) {
      const size_t at = size_t(context) * buckets + b;
      t.divider[at] = uint8_t(alias.divider[b]);
      t.step[2 * at] = step(b, 0);
      t.step[2 * at + 1] = step(alias.alias[b], alias.alias_offset[b]);
    }
  }
  return t;
}

ContextEncodeTables make_context_encode_tables(const MatrixModel& m, format::SymbolType type, const uint8_t* used) {
  ContextEncodeTables t;
  t.contexts = m.contexts();
  t.table.reset(new EncodeTable[size_t(t.contexts)]);  // not initialised
  t.index_of.resize(size_t(t.contexts) * 256 + 4);     // a gather reads 32 bits
  for (int context = 0; context < t.contexts; ++context) {
    if (!used[context]) continue;
    const FrequencyTable table = table_of(m, context);
    make_encode_table(table, type, &t.table[size_t(context)], m.buckets);
    uint8_t* index_of = t.index_of.data() + size_t(context) * 256;
    std::fill_n(index_of, 256, uint8_t(table.escape_index()));
    for (int i = 0; i < table.core_size; ++i)
      if (table.freq[size_t(i)] > 0) index_of[table.first_value + i + kResidualBias] = uint8_t(i);
  }
  return t;
}

}  // namespace ans::core
