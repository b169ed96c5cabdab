#include "core/coder_tables.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/log2_table.h"

namespace ans::core {
namespace {

int log2_floor(uint32_t v) { return 31 - __builtin_clz(v); }

void make_alias_form(const AliasTable& alias, DecodeTable* out) {
  const int shift = 16 - log2_floor(uint32_t(alias.width));
  for (size_t b = 0; b < size_t(alias.buckets); ++b) {
    const bool whole = alias.divider[b] == alias.width;
    out->divider_alias[b] = whole ? uint16_t(b) : uint16_t(alias.divider[b] << shift | alias.alias[b]);
    out->alias_offset[b] = whole ? 0 : alias.alias_offset[b];
    out->freq16[b] = uint16_t(alias.freq[b] << 4);
  }
}

void make_steps(const AliasTable& alias, const FrequencyTable& table, DecodeTable* out) {
  auto step = [&](size_t index, uint32_t bias) {
    return DecodeTable::Step{alias.freq[index], uint16_t(bias), uint16_t(table.first_value + int(index)), uint16_t(int(index) == table.escape_index())};
  };
  for (size_t b = 0; b < size_t(alias.buckets); ++b) {
    out->divider[b] = alias.divider[b];
    out->steps[2 * b] = step(b, 0);
    out->steps[2 * b + 1] = step(alias.alias[b], alias.alias_offset[b]);
  }
}

void make_parts(const AliasTable& alias, EncodeTable* out) {
  // The buckets with an alias part, by alias, then bucket.
  uint8_t bucket_of[64], first_part[65] = {}, next_part[64];
  auto has_part = [&](size_t b) { return alias.divider[b] != alias.width; };
  for (size_t b = 0; b < 64; ++b)
    if (has_part(b)) ++first_part[alias.alias[b] + 1];
  for (size_t s = 0; s < 64; ++s) {
    first_part[s + 1] = uint8_t(first_part[s + 1] + first_part[s]);
    next_part[s] = first_part[s];
  }
  for (size_t b = 0; b < 64; ++b)
    if (has_part(b)) bucket_of[next_part[alias.alias[b]]++] = uint8_t(b);

  const int parts = first_part[64];
  uint32_t position = 0;
  uint32_t ends[64];
  for (size_t s = 0; s < 64; ++s) {
    const uint32_t freq = std::max<uint32_t>(1, alias.freq[s]);
    const float inverse = inverse_below(freq);
    uint32_t bits;
    std::memcpy(&bits, &inverse, sizeof bits);
    out->freq16[s] = uint16_t(freq << 4);
    out->inverse_low[s] = uint16_t(bits);
    out->inverse_high[s] = uint16_t(bits >> 16);
    out->own[s] = uint8_t(alias.divider[s]);
    out->excess[s] = uint16_t(position - alias.divider[s]);
    for (int p = first_part[s]; p < first_part[s + 1]; ++p) {
      const size_t b = bucket_of[p];
      out->part_slot[p] = uint16_t(b * size_t(alias.width) + alias.divider[b] - position);
      position += uint32_t(alias.width - alias.divider[b]);
      ends[p] = position;
    }
  }
  for (int p = 0; p < 64 + 32; ++p) out->part_end[p] = uint16_t(p + 1 < parts ? ends[p] : 0xFFFF);
  out->window_shift = 0;
  while ((position >> out->window_shift) >= uint32_t(kPieceWindows)) ++out->window_shift;
  const uint32_t width = 1u << out->window_shift;
  for (uint32_t w = 0, p = 0; w < uint32_t(kPieceWindows); ++w) {
    while (int(p) + 1 < parts && ends[p] <= w * width) ++p;
    out->part_guess[w] = uint8_t(p);
    int last = int(p);
    while (last + 1 < parts && ends[last] < std::min(position, (w + 1) * width)) ++last;
    while ((1 << out->part_steps) - 1 < last - int(p)) ++out->part_steps;
  }
}

}  // namespace

void make_decode_table(const FrequencyTable& table, format::SymbolType type, bool with_slots, DecodeTable* out) {
  std::memset(static_cast<void*>(out), 0, offsetof(DecodeTable, steps));
  const AliasTable alias = make_alias_table(table);
  make_alias_form(alias, out);
  make_steps(alias, table, out);
  out->buckets = alias.buckets;
  out->symbol_bytes = format::symbol_bytes(type);
  out->first_value = table.first_value;
  out->escape_index = table.escape_index();
  out->raw_bits = table.raw_bits;
  out->raw_offset = table.raw_min - table.first_value;
  if (with_slots)
    for (uint32_t slot = 0; slot < uint32_t(format::kSlots); ++slot) out->slots[slot] = slot_entry(*out, slot);
}

void make_encode_table(const FrequencyTable& table, format::SymbolType type, EncodeTable* out, int buckets) {
  std::memset(static_cast<void*>(out), 0, sizeof *out);
  const AliasTable alias = make_alias_table(table, buckets);
  const SlotOrder order = make_slot_order(alias);
  out->buckets = alias.buckets;
  out->symbol_bytes = format::symbol_bytes(type);
  out->first_value = table.first_value;
  out->core_size = table.core_size;
  out->escape_index = table.escape_index();
  out->raw_bits = table.raw_bits;
  out->raw_min = table.raw_min;

  out->invalid_index = -1;
  if (!table.has_escape) {
    if (table.core_size < format::kMaxAlphabet) out->invalid_index = format::kMaxAlphabet - 1;
    else
      for (int i = 0; i < format::kMaxAlphabet; ++i)
        if (table.freq[size_t(i)] == 0) out->invalid_index = i;
  }
  out->dense = true;
  for (int i = 0; i < table.core_size; ++i) out->dense &= table.freq[size_t(i)] > 0;
  const int missing = table.has_escape ? table.escape_index() : out->invalid_index;
  for (int u = 0; u < 256; ++u)
    out->index_of[u] = uint8_t(u < table.core_size && table.freq[size_t(u)] > 0 ? u : missing);

  uint64_t mean = 0;
  for (size_t i = 0; i < format::kMaxAlphabet; ++i) {
    out->start[i] = order.start[i];
    const uint32_t f = table.freq[i];
    if (f == 0) continue;
    const int shift = log2_floor(f);
    out->freq[i] = f;
    out->shift[i] = uint32_t(shift);
    out->packed[i] = f | out->start[i] << 12 | uint32_t(shift) << 24;
    out->reciprocal[i] = uint32_t(std::min<uint64_t>(0xFFFFFFFFu, (uint64_t{1} << (32 + shift)) / f));
    const uint64_t bits12 = (code_length(int(f)) + (1u << 19)) >> 20, raw12 = int(i) == table.escape_index() ? uint64_t(table.raw_bits) << 12 : 0;
    out->cost[i] = uint16_t(bits12);
    mean += f * (bits12 + raw12);
  }
  out->mean_cost = uint32_t(mean / format::kSlots);
  std::copy(order.slot_of.begin(), order.slot_of.end(), out->slot_of);
  if (alias.buckets == 64) make_parts(alias, out);
}

}  // namespace ans::core
