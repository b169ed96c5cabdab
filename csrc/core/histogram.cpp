#include "core/histogram.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace ans::core {
namespace {

// Two bytes are one number: one counter for a pair halves the stores, which are the limit. Its table (256 KiB, of which trained
// weights touch a few) pays only for long inputs.
constexpr int64_t kPairedFrom = int64_t{1} << 18;

void count_words(const uint8_t* bytes, int64_t words, uint32_t* pairs) {
  int64_t i = 0;
  for (; i + 4 <= words; i += 4) {
    uint64_t w;
    std::memcpy(&w, bytes + 2 * i, 8);
    ++pairs[w & 0xFFFF];
    ++pairs[w >> 16 & 0xFFFF];
    ++pairs[w >> 32 & 0xFFFF];
    ++pairs[w >> 48];
  }
  for (; i < words; ++i) {
    uint16_t w;
    std::memcpy(&w, bytes + 2 * i, 2);
    ++pairs[w];
  }
}

void count_any_bytes(const uint8_t* bytes, int64_t n, uint64_t* by_pattern) {
  if (n < kPairedFrom) {
    uint32_t tables[4][256] = {};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
      for (int k = 0; k < 4; ++k) ++tables[k][bytes[i + k]];
    for (; i < n; ++i) ++tables[0][bytes[i]];
    for (int v = 0; v < 256; ++v) by_pattern[v] += uint64_t{tables[0][v]} + tables[1][v] + tables[2][v] + tables[3][v];
    return;
  }
  const auto pairs = std::make_unique<uint32_t[]>(65536);
  count_words(bytes, n / 2, pairs.get());
  for (int high = 0; high < 256; ++high)
    for (int low = 0; low < 256; ++low) {
      const uint32_t c = pairs[size_t(high * 256 + low)];
      by_pattern[low] += c;
      by_pattern[high] += c;
    }
  if (n & 1) ++by_pattern[bytes[n - 1]];
}

// Bytes that all lie in -32 … 31 (int6 and less): six bits of each say everything, and the table of pairs is small. False, with nothing counted, if one does not.
bool count_six_bits(const uint8_t* bytes, int64_t n, uint64_t* by_pattern) {
  uint64_t seen = 0;
  for (int64_t i = 0; i + 8 <= n; i += 8) {
    uint64_t w;
    std::memcpy(&w, bytes + i, 8);
    seen |= w ^ (w << 1);  // bits 7, 6, 5 of a byte are equal
  }
  if ((seen & 0xC0C0C0C0C0C0C0C0u) != 0) return false;
  for (int64_t i = n / 8 * 8; i < n; ++i)
    if (uint8_t(bytes[i] + 32) > 63) return false;
  uint32_t pairs[4096] = {};
  const int64_t words = n / 2;
  for (int64_t i = 0; i < words; ++i) {
    uint16_t w;
    std::memcpy(&w, bytes + 2 * i, 2);
    ++pairs[(w & 0x3F) | (w >> 2 & 0xFC0)];
  }
  uint64_t by_six_bits[64] = {};
  for (uint32_t p = 0; p < 4096; ++p) {
    by_six_bits[p & 63] += pairs[p];
    by_six_bits[p >> 6] += pairs[p];
  }
  if (n & 1) ++by_six_bits[bytes[n - 1] & 63];
  for (uint32_t v = 0; v < 64; ++v) by_pattern[uint8_t((v ^ 32) - 32)] += by_six_bits[v];
  return true;
}

// counts by bit pattern; n below 2^32
void count_bytes(const uint8_t* bytes, int64_t n, uint64_t* by_pattern) {
  constexpr int64_t kBlock = 1 << 16;  // stays in the cache between the look and the count
  if (n > 4096 && n < kPairedFrom) {
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t size = std::min(kBlock, n - begin);
      if (!count_six_bits(bytes + begin, size, by_pattern)) count_any_bytes(bytes + begin, size, by_pattern);
    }
    return;
  }
  count_any_bytes(bytes, n, by_pattern);
}

// Index of a bit pattern in counts: signed values start in the middle.
int value_index(int pattern, format::SymbolType type) {
  return type == format::SymbolType::kU8 ? pattern : pattern ^ (format::symbol_values(type) / 2);
}

}  // namespace

void histogram(const void* symbols, format::SymbolType type, int64_t n, uint64_t* counts) {
  const uint8_t* bytes = static_cast<const uint8_t*>(symbols);
  const int width = format::symbol_bytes(type), values = format::symbol_values(type);
  const auto by_pattern = std::make_unique<uint64_t[]>(size_t(values));
  constexpr int64_t kBlock = int64_t{1} << 31;  // 32-bit counters
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t size = std::min(kBlock, n - begin);
    if (width == 1) {
      count_bytes(bytes + begin, size, by_pattern.get());
    } else {
      const auto words = std::make_unique<uint32_t[]>(65536);
      count_words(bytes + 2 * begin, size, words.get());
      for (int v = 0; v < 65536; ++v) by_pattern[size_t(v)] += words[size_t(v)];
    }
  }
  for (int pattern = 0; pattern < values; ++pattern) counts[value_index(pattern, type)] += by_pattern[size_t(pattern)];
}

bool histogram_by_context(const void* symbols, format::SymbolType type, const uint8_t* contexts, int64_t n, int64_t num_contexts, uint64_t* counts) {
  const uint8_t* bytes = static_cast<const uint8_t*>(symbols);
  const int values = format::symbol_values(type);
  for (int64_t i = 0; i < n; ++i) {
    if (contexts[i] >= num_contexts) return false;
    int pattern = 0;
    if (format::symbol_bytes(type) == 1) {
      pattern = bytes[i];
    } else {
      uint16_t w;
      std::memcpy(&w, bytes + 2 * i, 2);
      pattern = w;
    }
    ++counts[int64_t{contexts[i]} * values + value_index(pattern, type)];
  }
  return true;
}

}  // namespace ans::core
