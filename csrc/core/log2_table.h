// log2 of 1 … 4096 in fixed point, by integer arithmetic alone: code lengths must not differ between machines.
#pragma once
#include <array>
#include <cstdint>

#include "format/bitstream.h"

namespace ans::core {

constexpr int kLog2FractionBits = 32;

// log2(v) * 2^32, rounded down, by repeated squaring of the mantissa (v in 1 … 2^20).
constexpr uint64_t log2_fixed(uint32_t v) {
  int exponent = 0;
  while ((v >> exponent) > 1) ++exponent;
  uint64_t mantissa = uint64_t(v) << (31 - exponent);  // in [2^31, 2^32)
  uint64_t result = uint64_t(exponent);
  for (int i = 0; i < kLog2FractionBits; ++i) {
    mantissa = mantissa * mantissa >> 31;  // in [2^31, 2^33)
    result <<= 1;
    if (mantissa >> 32) {
      result |= 1;
      mantissa >>= 1;
    }
  }
  return result;
}

// kTable[f] = log2(f) * 2^32 for f in 1 … 4096 ([0] is unused).
inline const std::array<uint64_t, format::kSlots + 1>& log2_table() {
  static const std::array<uint64_t, format::kSlots + 1> table = [] {
    std::array<uint64_t, format::kSlots + 1> t{};
    for (uint32_t f = 1; f <= format::kSlots; ++f) t[f] = log2_fixed(f);
    return t;
  }();
  return table;
}

// Length in bits * 2^32 of a symbol with frequency f (1 … 4096).
inline uint64_t code_length(int freq) {
  return (uint64_t(format::kProbBits) << kLog2FractionBits) - log2_table()[size_t(freq)];
}

// log2(1 + m / 2048) * 4096, rounded down, for m in 0 … 2047; for core/seeding.h.
inline const std::array<uint16_t, format::kSlots / 2>& mantissa_logs() {
  static const std::array<uint16_t, format::kSlots / 2> logs = [] {
    constexpr int kFractionBits = 12;
    std::array<uint16_t, format::kSlots / 2> t{};
    for (size_t m = 0; m < t.size(); ++m) t[m] = uint16_t((log2_table()[t.size() + m] >> (kLog2FractionBits - kFractionBits)) - ((format::kProbBits - 1) << kFractionBits));
    return t;
  }();
  return logs;
}

}  // namespace ans::core
