// Everything that the steps of the coder look up, derived from one FrequencyTable.
#pragma once
#include <cstdint>

#include "core/alias_table.h"
#include "core/frequency_table.h"
#include "core/host_device.h"

namespace ans::core {

// Decoding. The alias form fits registers (or a sliver of shared memory); the slot form is for machines that gather.
struct alignas(64) DecodeTable {
  // Alias form, per bucket: divider and alias packed so that one comparison answers "is this position the alias's" and one select yields the index.
  uint16_t divider_alias[format::kMaxAlphabet];  // divider << (16 - position bits) | alias; a bucket that is all its own has divider 0 and itself as alias
  uint16_t alias_offset[format::kMaxAlphabet];
  uint16_t freq16[format::kMaxAlphabet];         // freq << 4, by index
  // For one state at a time: where a position in a bucket is below the divider, steps[2 * bucket] applies, otherwise the next one. Small enough to stay in the cache.
  struct Step {
    uint16_t freq, bias;  // bias is that of position 0 (mod 2^16)
    uint16_t symbol;      // mod 2^16
    uint16_t is_escape;
  };
  Step steps[2 * format::kMaxAlphabet];
  uint16_t divider[format::kMaxAlphabet];

  int buckets;
  int symbol_bytes;
  int32_t first_value;
  int escape_index;    // -1: none
  int raw_bits;
  int32_t raw_offset;  // raw value + raw_offset = symbol - first_value

  uint32_t slots[format::kSlots];  // slot form: freq << 20 | bias << 8 | index; only made for backends that use it
};

// Of the slot form, from the others.
ANS_HD uint32_t slot_entry(const DecodeTable& t, uint32_t slot) {
  const int position_bits = t.buckets == 64 ? 6 : t.buckets == 128 ? 5 : 4;
  const uint32_t bucket = slot >> position_bits, position = slot & ((1u << position_bits) - 1);
  const bool own = position < t.divider[bucket];
  const uint32_t whose = own ? bucket : t.divider_alias[bucket] & uint32_t(t.buckets - 1);
  const uint32_t bias = own ? position : (position + t.alias_offset[bucket]) & uint32_t(format::kSlots - 1);
  return uint32_t(t.freq16[whose] >> 4) << 20 | bias << 8 | whose;
}

constexpr int kPieceWindows = 128;

// Encoding. Symbols first become indices (index_of), then steps work on indices.
struct alignas(64) EncodeTable {
  // By u = symbol - first_value (mod 256).
  uint8_t index_of[256];
  // By index.
  uint16_t cost[format::kMaxAlphabet];          // bits * 4096 mod 2^16, without the raw bits of an escape
  uint32_t freq[format::kMaxAlphabet];
  uint32_t reciprocal[format::kMaxAlphabet];    // floor(2^(32 + shift) / freq), at most 2^32 - 1
  uint32_t shift[format::kMaxAlphabet];         // floor(log2 freq)
  uint32_t start[format::kMaxAlphabet];
  uint32_t packed[format::kMaxAlphabet];        // freq | start << 12 | shift << 24: one gather instead of three
  uint16_t slot_of[format::kSlots + 32];        // by start + bias; padded, since a gather reads 32 bits

  // The same for alphabets of up to 64 and 16-bit arithmetic. A bias at or above own[index] lies at position E = bias + excess[index] of the concatenation of all
  // alias parts, ordered by index, then bucket; part p ends at part_end[p], and its slots are E + part_slot[p]. The part is the guess for E >> window_shift or one
  // of the next 2^part_steps - 1: a binary search.
  uint16_t freq16[64];         // freq << 4
  uint16_t inverse_low[64];    // halves of inverse_below(freq)
  uint16_t inverse_high[64];
  uint16_t excess[64];         // mod 2^16
  uint8_t own[64];             // divider
  uint16_t part_end[64 + 32];  // 2^16 - 1 behind the last
  uint16_t part_slot[64];
  uint8_t part_guess[kPieceWindows];
  int part_steps;
  int window_shift;

  int buckets;
  int symbol_bytes;
  int32_t first_value;
  int core_size;
  int escape_index;      // -1: none
  int raw_bits;
  int32_t raw_min;
  bool dense;            // every core symbol has a slot: index_of[u] is u below core_size
  uint32_t mean_cost;    // bits * 4096 that a symbol takes on average, raw bits included, if symbols occur as often as the table says
  int invalid_index;     // what index_of gives for a symbol that the table can not code; -1: there is none

  // Bytes of n symbols, with a little room.
  int64_t expected_bytes(int64_t n) const { return n / 8 * (int64_t(mean_cost) + 4096 / 8) / 4096; }
};

// Everything about a symbol in one look-up: its index (0 for one that can not be coded), marks, its cost << 16. By u = symbol - first_value (mod 256), and in [kOtherSymbol] for
// 16-bit symbols that no index stands for.
constexpr int kOtherSymbol = 256;
constexpr uint32_t kEscapedMark = 1u << 8, kInvalidMark = 1u << 9;
ANS_HD uint32_t symbol_entry(const EncodeTable& t, uint32_t u) {
  const int index = u < kOtherSymbol ? t.index_of[u] : t.escape_index;
  if (index < 0 || index == t.invalid_index) return kInvalidMark;
  return uint32_t(index) | (index == t.escape_index ? kEscapedMark : 0) | uint32_t(t.cost[index]) << 16;
}

// A float a little below 1 / freq: for x < freq * 2^20, the product of x as a float with it, rounded down, is x / freq rounded down or one less. Rounding, whichever
// way, makes the product larger or smaller by less than 3 * 2^-23 of itself, so it is below x / freq, and by less than 2^20 * (2^-21 + 3 * 2^-23) < 1.
inline float inverse_below(uint32_t freq) { return (1.0f - 0x1p-21f) / float(freq); }

void make_decode_table(const FrequencyTable& table, format::SymbolType type, bool with_slots, DecodeTable* out);
// `buckets`: as for make_alias_table().
void make_encode_table(const FrequencyTable& table, format::SymbolType type, EncodeTable* out, int buckets = 0);

}  // namespace ans::core
