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

AliasTable make_alias_table(const FrequencyTable& table);

inline Slot find_slot(const AliasTable& t, uint32_t slot) {
  const uint32_t bucket = slot / uint32_t(t.width), position = slot % uint32_t(t.width);
  if (position < t.divider[bucket]) return {bucket, t.freq[bucket], position};
  return {t.alias[bucket], t.freq[t.alias[bucket]], uint16_t(position + t.alias_offset[bucket])};
}

// The inverse: slot_of[start[index] + bias] = slot; start[index] is the sum of the frequencies before it.
struct SlotOrder {
  std::array<uint16_t, format::kSlots> slot_of;
  std::array<uint16_t, format::kMaxAlphabet + 1> start;
};
SlotOrder make_slot_order(const AliasTable& t);

}  // namespace ans::core
