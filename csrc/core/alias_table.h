// Which index owns which slot (BITSTREAM.md, section 3.1).
#pragma once
#include <array>
#include <cstdint>

#include "core/frequency_table.h"

namespace ans::core {

// Vose's alias method over 4096 slots: bucket b belongs to index b below divider[b], to alias[b] from there on.
struct AliasTable {
  int buckets = 0;
  int width = 0;                                              // slots per bucket
  std::array<uint16_t, format::kMaxAlphabet> divider{};       // 0 … width
  std::array<uint16_t, format::kMaxAlphabet> alias{};         // == b where the whole bucket is its own
  std::array<uint16_t, format::kMaxAlphabet> alias_offset{};  // bias = position + alias_offset[b] (mod 2^16) in the alias part
  std::array<uint16_t, format::kMaxAlphabet> freq{};
};

struct Slot {
  uint32_t index, freq, bias;
};

// `buckets`: at least bucket_count(), which is what 0 stands for.
AliasTable make_alias_table(const FrequencyTable& table, int buckets = 0);

inline Slot find_slot(const AliasTable& t, uint32_t slot) {
  const uint32_t bucket = slot / uint32_t(t.width), position = slot % uint32_t(t.width);
  if (position < t.divider[bucket]) return {bucket, t.freq[bucket], position};
  return {t.alias[bucket], t.freq[t.alias[bucket]], uint16_t(position + t.alias_offset[bucket])};
}

// Calls visit(first slot, count, index, first bias) for every run of slots that one index owns in a bucket.
template <class Visit>
void visit_runs(const AliasTable& t, Visit visit) {
  for (uint32_t b = 0; b < uint32_t(t.buckets); ++b) {
    const uint32_t first = b * uint32_t(t.width), own = t.divider[b], width = uint32_t(t.width);
    if (own > 0) visit(first, own, b, 0u);
    if (own < width) visit(first + own, width - own, uint32_t(t.alias[b]), uint32_t(uint16_t(own + t.alias_offset[b])));
  }
}

// The inverse: slot_of[start[index] + bias] = slot; start[index] is the sum of the frequencies before it.
struct SlotOrder {
  std::array<uint16_t, format::kSlots> slot_of;
  std::array<uint16_t, format::kMaxAlphabet + 1> start;
};
SlotOrder make_slot_order(const AliasTable& t);

}  // namespace ans::core
