#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/alias_table.h"
#include "core/coder_tables.h"
#include "core/log2_table.h"
#include "core/normalize.h"
#include "core/table_code.h"

namespace ans::core {
namespace {

using format::SymbolType;

std::vector<uint64_t> random_counts(std::mt19937& rng, int values) {
  std::vector<uint64_t> counts(size_t(values), 0);
  const int present = 1 + int(rng() % 200), first = int(rng() % unsigned(values - std::min(values - 1, present)));
  const double width = 1 + rng() % 60;
  for (int i = 0; i < present && first + i < values; ++i)
    counts[size_t(first + i)] = uint64_t(1e6 * std::exp(-std::pow((i - present / 2) / width, 2))) + (rng() % 7 == 0 ? rng() % 3 : 0);
  counts[size_t(first)] += 1;
  return counts;
}

TEST(Log2Table, MatchesFloatingPoint) {
  for (uint32_t v = 1; v <= 4096; ++v) EXPECT_NEAR(double(log2_fixed(v)) / 4294967296.0, std::log2(double(v)), 1e-8) << v;
}

TEST(Normalize, SumsTo4096AndNoExchangeHelps) {
  std::mt19937 rng(2);
  for (int trial = 0; trial < 300; ++trial) {
    const int n = 2 + int(rng() % 255);
    std::vector<uint64_t> counts;
    for (int i = 0; i < n; ++i) counts.push_back(1 + (rng() % 3 == 0 ? rng() % 1000000 : rng() % 50));
    std::vector<uint16_t> freq(static_cast<size_t>(n));
    normalize(counts.data(), n, freq.data());
    int sum = 0;
    double best_gain = 0, least_loss = 1e300;
    for (int i = 0; i < n; ++i) {
      ASSERT_GE(freq[size_t(i)], 1);
      sum += freq[size_t(i)];
      best_gain = std::max(best_gain, double(counts[size_t(i)]) * std::log2((freq[size_t(i)] + 1.0) / freq[size_t(i)]));
      if (freq[size_t(i)] > 1) least_loss = std::min(least_loss, double(counts[size_t(i)]) * std::log2(freq[size_t(i)] / (freq[size_t(i)] - 1.0)));
    }
    ASSERT_EQ(sum, 4096) << trial;
    ASSERT_LE(best_gain, least_loss * (1 + 1e-9)) << trial;
  }
}

TEST(TableCode, TablesRoundTripAndTheirSizeIsForeseen) {
  std::mt19937 rng(3);
  for (int trial = 0; trial < 400; ++trial) {
    const SymbolType type = SymbolType(trial % 3);
    const auto counts = random_counts(rng, format::symbol_values(type));
    const FrequencyTable table = build_table(counts.data(), type);
    const std::vector<uint8_t> coded = write_table(table, type);
    ASSERT_EQ(int64_t(coded.size()), (table_bits(table, type) + 7) / 8);
    FrequencyTable back;
    int64_t consumed = 0;
    ASSERT_EQ(read_table(coded.data(), int64_t(coded.size()), type, &back, &consumed), Status::kOk) << trial;
    ASSERT_EQ(consumed, int64_t(coded.size()));
    ASSERT_EQ(back.freq, table.freq) << trial;
    ASSERT_EQ(back.first_value, table.first_value);
    ASSERT_EQ(back.core_size, table.core_size);
    ASSERT_EQ(back.has_escape, table.has_escape);
    if (table.has_escape) {
      ASSERT_EQ(back.raw_bits, table.raw_bits);
      ASSERT_EQ(back.raw_min, table.raw_min);
    }
    ASSERT_NE(coded_bits(counts.data(), type, table), ~uint64_t{0}) << "a symbol with a count cannot be coded, trial " << trial;
  }
}

// The claim of inverse_below(), with the rounding towards zero, up and to the nearest of each of its two operations.
TEST(EncodeTable, TheFloatingPointQuotientIsTheQuotientOrOneLess) {
  std::mt19937 rng(12);
  for (uint32_t freq = 1; freq <= uint32_t(format::kMaxFreq); ++freq) {
    const float inverse = inverse_below(freq);
    for (int trial = 0; trial < 300; ++trial) {
      const uint32_t quotient = trial < 100 ? (1u << 20) - 1 - uint32_t(trial) : uint32_t(rng() % (1u << (1 + rng() % 20)));
      for (const uint32_t rest : {0u, freq - 1, uint32_t(rng() % freq)}) {
        const uint32_t x = quotient * freq + rest;
        float as_float = float(x);
        for (const float y : {as_float, std::nextafter(as_float, 0.0f), std::nextafter(as_float, 1e10f)}) {
          const float product = y * inverse;
          for (const float p : {product, std::nextafter(product, 0.0f), std::nextafter(product, 1e10f)}) {
            const uint32_t found = uint32_t(p);
            ASSERT_TRUE(found == quotient || found + 1 == quotient) << x << " / " << freq << " gave " << found;
          }
        }
      }
    }
  }
}

TEST(AliasTable, EverySlotHasOneOwnerAndTheEncoderFindsIt) {
  std::mt19937 rng(4);
  for (int trial = 0; trial < 200; ++trial) {
    const auto counts = random_counts(rng, 256);
    const FrequencyTable table = build_table(counts.data(), SymbolType::kI8);
    const AliasTable alias = make_alias_table(table);
    const SlotOrder order = make_slot_order(alias);
    EncodeTable encode;
    DecodeTable decode;
    make_encode_table(table, SymbolType::kI8, &encode);
    make_decode_table(table, SymbolType::kI8, true, &decode);
    std::vector<int> seen(format::kMaxAlphabet, 0);
    for (uint32_t s = 0; s < uint32_t(format::kSlots); ++s) {
      const Slot slot = find_slot(alias, s);
      ASSERT_LT(slot.bias, slot.freq);
      ASSERT_EQ(order.slot_of[order.start[slot.index] + slot.bias], s);
      ASSERT_EQ(decode.slots[s], slot.freq << 20 | slot.bias << 8 | slot.index);
      ++seen[slot.index];
      if (alias.buckets != 64) continue;
      // The part search of the 16-bit encoder.
      const uint32_t position = (slot.bias + encode.excess[slot.index]) & 0xFFFF;
      uint32_t part = encode.part_guess[position >> encode.window_shift & (kPieceWindows - 1)] & 63u;
      ASSERT_LE(encode.part_steps, 6);  // for which part_end has room
      for (int i = encode.part_steps - 1; i >= 0; --i) part += position >= encode.part_end[(part & 63) + (1u << i) - 1] ? 1u << i : 0;
      const uint32_t found = slot.bias < encode.own[slot.index] ? slot.index << 6 | slot.bias : (position + encode.part_slot[part & 63]) & 0xFFFF;
      ASSERT_EQ(found, s) << "trial " << trial;
    }
    for (int i = 0; i < table.alphabet_size(); ++i) ASSERT_EQ(seen[size_t(i)], table.freq[size_t(i)]);
  }
}

}  // namespace
}  // namespace ans::core
