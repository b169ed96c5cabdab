#include "core/histogram.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace ans::core {
namespace {

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

// Counts bytes in pairs: one counter for two bytes halves the stores, which are the limit. The counters of all pairs take 256 KiB, but those of trained weights,
// which are close to zero, a fraction of it: only the range of values that was seen is ever cleared, counted and added up.
class PairCounter {
 public:
  // `by_pattern` receives the counts when the counter ends.
  explicit PairCounter(uint64_t* by_pattern) : by_pattern_(by_pattern), pairs_(new uint32_t[65536]) {}
  ~PairCounter() { add_up(); }
  PairCounter(const PairCounter&) = delete;
  PairCounter& operator=(const PairCounter&) = delete;

  void count(const uint8_t* bytes, int64_t n) {
    constexpr int64_t kBlock = 1 << 16;  // still in the cache after its range has been found
    for (int64_t begin = 0; begin < n; begin += kBlock) count_block(bytes + begin, std::min(kBlock, n - begin));
  }

 private:
  // Bytes are taken as signed ones plus 128, so that small weights of either sign are neighbours.
  static constexpr uint8_t kSign = 128;

  void count_block(const uint8_t* bytes, int64_t n) {
    uint8_t low[64], high[64];
    std::memset(low, 255, sizeof low);
    std::memset(high, 0, sizeof high);
    auto look = [&](int64_t at, int l) {
      const uint8_t v = bytes[at + l] ^ kSign;
      low[l] = std::min(low[l], v);
      high[l] = std::max(high[l], v);
    };
    int64_t begin = 0;
    for (; begin + 64 <= n; begin += 64) {
      __builtin_prefetch(bytes + begin + 2048);
      for (int l = 0; l < 64; ++l) look(begin, l);
    }
    for (; begin < n; ++begin) look(begin, 0);
    const uint8_t lowest = *std::min_element(low, low + 64), highest = *std::max_element(high, high + 64);
    if (lowest < low_ || highest > high_) {
      add_up();
      low_ = std::min(lowest, low_);
      high_ = std::max(highest, high_);
      std::memset(pairs_.get(), 0, size_t(high_ - low_ + 1) * 256 * sizeof(uint32_t));
    }
    constexpr uint64_t kEach = 0x0101010101010101u;
    uint32_t* pairs = pairs_.get();
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
      uint64_t w;
      std::memcpy(&w, bytes + i, 8);
      w = (w ^ kEach * kSign) - kEach * low_;  // no byte borrows
      ++pairs[w & 0xFFFF];
      ++pairs[w >> 16 & 0xFFFF];
      ++pairs[w >> 32 & 0xFFFF];
      ++pairs[w >> 48];
    }
    for (; i < n; ++i) ++by_pattern_[bytes[i]];
  }

  void add_up() {
    const int values = high_ - low_ + 1;
    if (values <= 0) return;
    uint64_t sums[256] = {};
    for (int a = 0; a < values; ++a) {
      const uint32_t* row = pairs_.get() + 256 * a;
      uint64_t sum = 0;
      for (int b = 0; b < values; ++b) {
        sum += row[b];
        sums[b] += row[b];
      }
      sums[a] += sum;
    }
    for (int v = 0; v < values; ++v) by_pattern_[uint8_t(low_ + v) ^ kSign] += sums[v];
  }

  uint64_t* by_pattern_;
  std::unique_ptr<uint32_t[]> pairs_;
  uint8_t low_ = 255, high_ = 0;
};

// Counts by bit pattern; n below 2^32.
void count_bytes(const uint8_t* bytes, int64_t n, uint64_t* by_pattern) {
  constexpr int64_t kPairedFrom = 8192;
  if (n >= kPairedFrom) return PairCounter(by_pattern).count(bytes, n);
  uint32_t tables[4][256] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; ++k) ++tables[k][bytes[i + k]];
  for (; i < n; ++i) ++tables[0][bytes[i]];
  for (int v = 0; v < 256; ++v) by_pattern[v] += uint64_t{tables[0][v]} + tables[1][v] + tables[2][v] + tables[3][v];
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
