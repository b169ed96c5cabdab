// Tails of chunks (BITSTREAM.md, section 6), decoded: one state each, symbol after symbol.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/coder_tables.h"
#include "core/status.h"

namespace ans::core {

// A string of bits, most significant first: appended piece by piece, then read from the front. Never more than a narrow chunk holds.
class TailBits {
 public:
  static constexpr int kCapacityBits = format::kWordBits * int(format::max_chunk_words(format::kMaxTail));

  void clear() { bytes_in_ = open_bits_ = 0; }
  void append(uint32_t value, int bits) {  // bits <= 32, value < 2^bits
    if (bits == 0) return;
    open_ = open_ << bits | value;
    open_bits_ += bits;
    put(bytes_ + bytes_in_, open_ << (64 - open_bits_));
    bytes_in_ += open_bits_ >> 3;
    open_bits_ &= 7;
  }
  int size() const { return 8 * bytes_in_ + open_bits_; }
  int leading_zeros() const {  // size() if there is no one bit
    for (int byte = 0; 8 * byte < size(); byte += 8)  // what is read behind the end may be of an earlier string
      if (const uint64_t v = get(bytes_ + byte); v != 0) return std::min(size(), 8 * byte + __builtin_clzll(v));
    return size();
  }
  uint32_t at(int position, int bits) const { return uint32_t(get(bytes_ + (position >> 3)) << (position & 7) >> (64 - bits)); }  // 0 < bits <= 32

 private:
  static void put(uint8_t* p, uint64_t v) {
    v = __builtin_bswap64(v);
    std::memcpy(p, &v, 8);
  }
  static uint64_t get(const uint8_t* p) {
    uint64_t v;
    std::memcpy(&v, p, 8);
    return __builtin_bswap64(v);
  }
  uint8_t bytes_[kCapacityBits / 8 + 16] = {};
  uint64_t open_ = 0;  // its low open_bits_ bits are the string's last
  int bytes_in_ = 0, open_bits_ = 0;
};

struct Tail {
  const DecodeTable* table;
  uint8_t* out;  // of table->symbol_bytes a symbol, not aligned
  int count;     // symbols

  // The state, and the words that it will take.
  uint32_t state;
  int next, words;
  uint16_t word[format::max_chunk_words(format::kMaxTail) + 1];

  // Reads state and words.
  Status start(const TailBits& bits);
};

constexpr int kMaxTailsAtOnce = 6;

// Decodes `n` tails, whose tables have the same number of buckets and bytes per symbol, side by side: a step waits long for the one before it. The order of
// `tails` is changed.
Status decode_tails(Tail** tails, int n);

}  // namespace ans::core
