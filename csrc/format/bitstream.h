// Constants of the bitstream. BITSTREAM.md is the specification; section numbers refer to it.
#pragma once
#include <cstdint>

namespace ans::format {

// Section 1: the first byte of a stream.
enum class Model : uint8_t { kRaw = 0, kConstant = 1, kOrder0OneChunk = 2, kOrder0 = 3, kMatrix = 4 };

enum class SymbolType : uint8_t { kI8, kU8, kI16 };
constexpr int symbol_bytes(SymbolType type) { return type == SymbolType::kI16 ? 2 : 1; }
constexpr int32_t symbol_min(SymbolType type) {
  return type == SymbolType::kI8 ? -128 : type == SymbolType::kU8 ? 0 : -32768;
}
constexpr int32_t symbol_max(SymbolType type) {
  return type == SymbolType::kI8 ? 127 : type == SymbolType::kU8 ? 255 : 32767;
}
// Number of values a type has: the length of its histogram.
constexpr int symbol_values(SymbolType type) { return type == SymbolType::kI16 ? 65536 : 256; }

constexpr int64_t kMaxChunkSymbols = int64_t{1} << 22;

// Section 2.
constexpr int kMaxExpGolombZeros = 24;

// Section 3: frequencies.
constexpr int kProbBits = 12;
constexpr int kSlots = 1 << kProbBits;
constexpr int kMaxAlphabet = 256;
constexpr int kMaxFreq = kSlots - 1;  // at least two frequencies are positive
constexpr int kMaxRawBits = 16;
constexpr int kAdjustBias = 4;
constexpr int kMaxUnitShift = 7;

// Section 3.1: buckets of the alias layout.
constexpr int bucket_count(int alphabet_size) { return alphabet_size <= 64 ? 64 : alphabet_size <= 128 ? 128 : 256; }

// Section 4 and 6: states, lanes, chunks.
constexpr int kLanes = 32;
constexpr int kWordBits = 16;
constexpr uint32_t kStateLowerBound = 1u << kWordBits;
constexpr int kStateWords = 2 * kLanes;  // 16-bit words that the initial states of a wide chunk take
constexpr int kMaxTail = 1024;
constexpr int kTailBits = 11;  // of the only entry of a directory

// Section 5: no chunk is longer (two words for a symbol that is escaped with 16 raw bits).
constexpr int64_t max_chunk_words(int64_t symbols) { return kStateWords + 2 * symbols; }

}  // namespace ans::format
