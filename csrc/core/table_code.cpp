#include "core/table_code.h"

#include <algorithm>

#include "core/bit_io.h"

namespace ans::core {
namespace {

using format::kAdjustBias;
using format::kSlots;

// Frequencies of trained weights rise and fall like those of a bell: geometric extrapolation from the last two,
// and a residual whose size goes with the square root of the value (counting noise).
int predict(int a, int b) { return std::min(2 * a, std::max(a >> 1, a * a / std::max(1, b))); }
int residual_order(int prediction, int adjust) { return std::max(0, bit_length(uint32_t(prediction)) / 2 + adjust); }
uint32_t fold_around(int v, int prediction) {
  return v > 2 * prediction ? uint32_t(v) : fold_sign(v - prediction);
}
int64_t unfold_around(uint64_t z, int prediction) {
  return z > 2 * uint64_t(prediction) ? int64_t(z) : prediction + unfold_sign(z);
}

// How the frequencies of one table are predicted.
struct Prediction {
  int adjust = 0;
  bool mirrored = false;  // from the symbol of opposite sign, where that is known: weights are symmetric
  int mirror_adjust = 0;
};

struct Predicted {
  int value, order;
};

// The prediction of freq[i] from those before it.
Predicted predict_at(const Prediction& p, const FrequencyTable& table, int i) {
  const int64_t opposite = -2 * int64_t(table.first_value) - i;
  if (p.mirrored && opposite >= 0 && opposite < i) {
    const int value = table.freq[size_t(opposite)];
    return {value, residual_order(value, p.mirror_adjust)};
  }
  const int value = predict(i > 0 ? table.freq[size_t(i - 1)] : 0, i > 1 ? table.freq[size_t(i - 2)] : 0);
  return {value, residual_order(value, p.adjust)};
}

// Calls visit(z, order) for every predicted frequency.
template <class Visit>
void visit_residuals(const FrequencyTable& table, const Prediction& prediction, Visit visit) {
  for (int i = 0; i + 1 < table.core_size; ++i) {
    const Predicted p = predict_at(prediction, table, i);
    visit(fold_around(table.freq[size_t(i)], p.value), p.order);
  }
}

// The cheapest prediction, and the bits of all residuals and of its own fields. The two adjustments act on different symbols: each is chosen for itself.
Prediction best_prediction(const FrequencyTable& table, int* bits) {
  constexpr int kAdjustments = 2 * kAdjustBias;
  int direct_all[kAdjustments] = {}, direct_rest[kAdjustments] = {}, mirrored[kAdjustments] = {};
  for (int i = 0; i + 1 < table.core_size; ++i) {
    auto cost = [&](int value, int k) { return exp_golomb_bits(fold_around(table.freq[size_t(i)], value), residual_order(value, k - kAdjustBias)); };
    const int64_t opposite = -2 * int64_t(table.first_value) - i;
    const bool has_opposite = opposite >= 0 && opposite < i;
    const int value = predict(i > 0 ? table.freq[size_t(i - 1)] : 0, i > 1 ? table.freq[size_t(i - 2)] : 0);
    for (int k = 0; k < kAdjustments; ++k) {
      const int bits = cost(value, k);
      direct_all[k] += bits;
      direct_rest[k] += has_opposite ? 0 : bits;
    }
    if (!has_opposite) continue;
    for (int k = 0; k < kAdjustments; ++k) mirrored[k] += cost(table.freq[size_t(opposite)], k);
  }
  auto best = [](const int* b) { return int(std::min_element(b, b + kAdjustments) - b); };
  const int all = best(direct_all), rest = best(direct_rest), mirror = best(mirrored);
  const int plain_bits = direct_all[all] + 4, mirrored_bits = direct_rest[rest] + mirrored[mirror] + 7;
  *bits = std::min(plain_bits, mirrored_bits);
  if (plain_bits <= mirrored_bits) return {all - kAdjustBias, false, 0};
  return {rest - kAdjustBias, true, mirror - kAdjustBias};
}

// The coarsest unit of which all frequencies are multiples; the table in that unit.
int unit_shift(const FrequencyTable& table) {
  uint32_t bits = 1u << format::kMaxUnitShift;
  for (int i = 0; i < table.alphabet_size(); ++i) bits |= table.freq[size_t(i)];
  return __builtin_ctz(bits);
}
FrequencyTable in_units(FrequencyTable table, int shift) {
  for (uint16_t& f : table.freq) f = uint16_t(f >> shift);
  return table;
}

bool is_symmetric(const FrequencyTable& table) { return table.core_size == 1 - 2 * int64_t(table.first_value); }

bool in_range(int64_t value, format::SymbolType type) {
  return value >= format::symbol_min(type) && value <= format::symbol_max(type);
}

}  // namespace

int32_t default_raw_min(format::SymbolType type, int raw_bits) { return type == format::SymbolType::kU8 ? 0 : -(1 << (raw_bits - 1)); }

int table_bits(const FrequencyTable& table, format::SymbolType type) {
  int bits;
  const FrequencyTable units = in_units(table, unit_shift(table));
  best_prediction(units, &bits);
  bits += exp_golomb_bits(fold_sign(table.first_value), 4) + 1 + (is_symmetric(table) ? 0 : 8) + 1 + 3;
  if (table.has_escape)
    bits += 5 + (table.raw_min == default_raw_min(type, table.raw_bits) ? 0 : exp_golomb_bits(fold_sign(table.raw_min), 4)) + exp_golomb_bits(units.freq[size_t(table.core_size)], 4);
  return bits;
}

std::vector<uint8_t> write_table(const FrequencyTable& table, format::SymbolType type) {
  BitWriter out;
  out.signed_exp_golomb(table.first_value, 4);
  out.put(is_symmetric(table), 1);
  if (!is_symmetric(table)) out.put(uint32_t(table.core_size - 1), 8);
  out.put(table.has_escape, 1);
  if (table.has_escape) {
    out.put(uint32_t(table.raw_bits - 1), 4);
    const bool sent = table.raw_min != default_raw_min(type, table.raw_bits);
    out.put(sent, 1);
    if (sent) out.signed_exp_golomb(table.raw_min, 4);
  }
  int bits;
  const int shift = unit_shift(table);
  const FrequencyTable units = in_units(table, shift);
  const Prediction prediction = best_prediction(units, &bits);
  out.put(uint32_t(shift), 3);
  out.put(uint32_t(prediction.adjust + kAdjustBias), 3);
  out.put(prediction.mirrored, 1);
  if (prediction.mirrored) out.put(uint32_t(prediction.mirror_adjust + kAdjustBias), 3);
  if (table.has_escape) out.exp_golomb(units.freq[size_t(table.core_size)], 4);
  visit_residuals(units, prediction, [&](uint32_t z, int order) { out.exp_golomb(z, order); });
  return out.bytes();
}

Status read_table(const uint8_t* data, int64_t size, format::SymbolType type, FrequencyTable* table, int64_t* consumed) {
  BitReader in(data, size, Status::kTableTruncated);
  *table = FrequencyTable{};
  const int64_t first_value = in.signed_exp_golomb(4);
  const bool symmetric = in.get(1) != 0;
  if (in.status() != Status::kOk) return in.status();
  if (symmetric && (first_value > 0 || first_value <= -format::kMaxAlphabet)) return Status::kAlphabetTooLarge;
  table->core_size = symmetric ? int(1 - 2 * first_value) : int(in.get(8)) + 1;
  table->has_escape = in.get(1) != 0;
  int64_t raw_min = 0;
  if (table->has_escape) {
    table->raw_bits = int(in.get(4)) + 1;
    raw_min = in.get(1) != 0 ? in.signed_exp_golomb(4) : default_raw_min(type, table->raw_bits);
  }
  const int shift = int(in.get(3));
  Prediction prediction;
  prediction.adjust = int(in.get(3)) - kAdjustBias;
  prediction.mirrored = in.get(1) != 0;
  if (prediction.mirrored) prediction.mirror_adjust = int(in.get(3)) - kAdjustBias;
  if (in.status() != Status::kOk) return in.status();
  if (table->alphabet_size() > format::kMaxAlphabet) return Status::kAlphabetTooLarge;

  int64_t rest = kSlots >> shift;
  if (table->has_escape) {
    const uint64_t f = in.exp_golomb(4);
    if (in.status() != Status::kOk) return in.status();
    if (f > uint64_t(rest)) return Status::kFrequencySumTooLarge;
    table->freq[size_t(table->core_size)] = uint16_t(f);
    rest -= int64_t(f);
  }
  if (!in_range(first_value, type) || !in_range(first_value + table->core_size - 1, type)) return Status::kSymbolOutOfRange;
  table->first_value = int32_t(first_value);
  int positive = table->has_escape ? 1 : 0;
  for (int i = 0; i + 1 < table->core_size; ++i) {
    const Predicted p = predict_at(prediction, *table, i);
    const uint64_t z = in.exp_golomb(p.order);
    if (in.status() != Status::kOk) return in.status();
    const int64_t v = unfold_around(z, p.value);
    rest -= v;
    if (rest < 0) return Status::kFrequencySumTooLarge;
    table->freq[size_t(i)] = uint16_t(v);
    positive += v > 0;
  }
  table->freq[size_t(table->core_size - 1)] = uint16_t(rest);
  positive += rest > 0;
  if (positive < 2 || table->freq[0] == 0 || (table->has_escape && table->freq[size_t(table->core_size)] == 0)) return Status::kDegenerateTable;

  for (uint16_t& f : table->freq) f = uint16_t(f << shift);
  if (table->has_escape) {
    if (!in_range(raw_min, type) || !in_range(raw_min + (int64_t{1} << table->raw_bits) - 1, type)) return Status::kSymbolOutOfRange;
    table->raw_min = int32_t(raw_min);
  }
  *consumed = in.align();
  return in.status();
}

}  // namespace ans::core
