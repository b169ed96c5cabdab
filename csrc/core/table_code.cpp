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
int unfold_around(uint32_t z, int prediction) {
  return z > 2 * uint32_t(prediction) ? int(z) : prediction + int(unfold_sign(z));
}

// Calls visit(z, order) for every predicted frequency.
template <class Visit>
void visit_residuals(const FrequencyTable& table, int adjust, Visit visit) {
  int a = 0, b = 0;
  for (int i = 0; i + 1 < table.core_size; ++i) {
    const int v = table.freq[size_t(i)], p = predict(a, b);
    visit(fold_around(v, p), residual_order(p, adjust));
    b = a;
    a = v;
  }
}

int residual_bits(const FrequencyTable& table, int adjust) {
  int bits = 0;
  visit_residuals(table, adjust, [&](uint32_t z, int order) { bits += exp_golomb_bits(z, order); });
  return bits;
}

int best_adjust(const FrequencyTable& table, int* bits) {
  int best = 0;
  *bits = residual_bits(table, best);
  for (int adjust = -kAdjustBias; adjust < kAdjustBias; ++adjust) {
    const int n = residual_bits(table, adjust);
    if (n < *bits) {
      *bits = n;
      best = adjust;
    }
  }
  return best;
}

bool in_range(int64_t value, format::SymbolType type) {
  return value >= format::symbol_min(type) && value <= format::symbol_max(type);
}

}  // namespace

int table_bits(const FrequencyTable& table) {
  int bits;
  best_adjust(table, &bits);
  bits += exp_golomb_bits(fold_sign(table.first_value), 4) + 8 + 1 + 3;
  if (table.has_escape)
    bits += 4 + exp_golomb_bits(fold_sign(table.raw_min), 4) + exp_golomb_bits(table.freq[size_t(table.core_size)], 4);
  return bits;
}

std::vector<uint8_t> write_table(const FrequencyTable& table) {
  BitWriter out;
  out.signed_exp_golomb(table.first_value, 4);
  out.put(uint32_t(table.core_size - 1), 8);
  out.put(table.has_escape, 1);
  if (table.has_escape) {
    out.put(uint32_t(table.raw_bits - 1), 4);
    out.signed_exp_golomb(table.raw_min, 4);
  }
  int bits;
  const int adjust = best_adjust(table, &bits);
  out.put(uint32_t(adjust + kAdjustBias), 3);
  if (table.has_escape) out.exp_golomb(table.freq[size_t(table.core_size)], 4);
  visit_residuals(table, adjust, [&](uint32_t z, int order) { out.exp_golomb(z, order); });
  return out.bytes();
}

Status read_table(const uint8_t* data, int64_t size, format::SymbolType type, FrequencyTable* table, int64_t* consumed) {
  BitReader in(data, size, Status::kTableTruncated);
  *table = FrequencyTable{};
  const int64_t first_value = in.signed_exp_golomb(4);
  table->core_size = int(in.get(8)) + 1;
  table->has_escape = in.get(1) != 0;
  int64_t raw_min = 0;
  if (table->has_escape) {
    table->raw_bits = int(in.get(4)) + 1;
    raw_min = in.signed_exp_golomb(4);
  }
  const int adjust = int(in.get(3)) - kAdjustBias;
  if (in.status() != Status::kOk) return in.status();
  if (table->alphabet_size() > format::kMaxAlphabet) return Status::kAlphabetTooLarge;

  int64_t rest = kSlots;
  if (table->has_escape) {
    const uint32_t f = in.exp_golomb(4);
    if (in.status() != Status::kOk) return in.status();
    if (f > uint32_t(kSlots)) return Status::kFrequencySumTooLarge;
    table->freq[size_t(table->core_size)] = uint16_t(f);
    rest -= f;
  }
  int a = 0, b = 0, positive = table->has_escape ? 1 : 0;
  for (int i = 0; i + 1 < table->core_size; ++i) {
    const int p = predict(a, b);
    const uint32_t z = in.exp_golomb(residual_order(p, adjust));
    if (in.status() != Status::kOk) return in.status();
    if (z > 2u * kSlots) return Status::kFrequencySumTooLarge;
    const int v = unfold_around(z, p);
    rest -= v;
    if (rest < 0) return Status::kFrequencySumTooLarge;
    table->freq[size_t(i)] = uint16_t(v);
    positive += v > 0;
    b = a;
    a = v;
  }
  table->freq[size_t(table->core_size - 1)] = uint16_t(rest);
  positive += rest > 0;
  if (positive < 2 || table->freq[0] == 0 || (table->has_escape && table->freq[size_t(table->core_size)] == 0)) return Status::kDegenerateTable;

  if (!in_range(first_value, type) || !in_range(first_value + table->core_size - 1, type)) return Status::kSymbolOutOfRange;
  table->first_value = int32_t(first_value);
  if (table->has_escape) {
    if (!in_range(raw_min, type) || !in_range(raw_min + (int64_t{1} << table->raw_bits) - 1, type)) return Status::kSymbolOutOfRange;
    table->raw_min = int32_t(raw_min);
  }
  *consumed = in.align();
  return in.status();
}

}  // namespace ans::core
