// The single coder of a chunk's tail (BITSTREAM.md, section 6), encoding: one state, symbol after symbol.
#pragma once
#include <cstdint>

#include "core/coder_tables.h"
#include "core/host_device.h"

namespace ans::core {

// No branch depends on the data (but for an escape): spills are as good as random, and every chunk passes through here symbol by symbol.
class TailEncoder {
 public:
  // Words are written downwards from `end`, which is how a chunk wants them; one more than there are may be overwritten.
  ANS_HD void reset(uint16_t* end) {
    end_ = end;
    y_ = 1;
    count_ = 0;
  }
  ANS_HD void push(const EncodeTable& table, uint8_t index, uint16_t raw) {
    if (__builtin_expect(int(index) == table.escape_index, 0)) {
      spill(y_ >= 1u << (32 - table.raw_bits));
      y_ = y_ << table.raw_bits | raw;
    }
    const uint32_t freq = table.freq[index];
    spill(y_ >= freq << 20);
    uint32_t quotient = uint32_t(uint64_t(y_) * table.reciprocal[index] >> 32) >> table.shift[index];
    uint32_t bias = y_ - quotient * freq;
    const uint32_t low = bias >= freq;  // the rounded-down reciprocal gives the quotient or one less
    quotient += low;
    bias -= low ? freq : 0;
    y_ = quotient << format::kProbBits | table.slot_of[table.start[index] + bias];
  }
  ANS_HD uint32_t state() const { return y_; }
  ANS_HD int word_count() const { return count_; }
  ANS_HD uint16_t word(int i) const { return end_[-1 - i]; }  // in the order in which they were spilled
  ANS_HD int bits() const { return 32 - leading_zero_bits(y_) + format::kWordBits * count_; }  // y is never 0
  // Puts the state before the words: then the last so many words before `end` are a narrow chunk.
  ANS_HD int finish() {
    end_[-1 - count_] = uint16_t(y_);
    ++count_;
    if (y_ >> format::kWordBits == 0) return count_;
    end_[-1 - count_] = uint16_t(y_ >> format::kWordBits);
    return ++count_;
  }

 private:
  ANS_HD void spill(bool full) {
    end_[-1 - count_] = uint16_t(y_);
    count_ += full;
    y_ = full ? y_ >> format::kWordBits : y_;
  }
  uint16_t* end_ = nullptr;
  uint32_t y_ = 1;
  int count_ = 0;
};

constexpr int kNarrowWords = 2 * format::kMaxTail + 3;  // room for any narrow chunk

// Pushes n symbols, the last first. `symbols` gives index(i) in the table(i), and take_raw(i) if that is the escape's.
template <class Symbols>
ANS_HD void push_backwards(TailEncoder& tail, Symbols& symbols, int64_t n) {
  for (int64_t i = n; i-- > 0;) {
    const EncodeTable& table = symbols.table(i);
    const uint8_t index = symbols.index(i);
    tail.push(table, index, int(index) == table.escape_index ? symbols.take_raw(i) : uint16_t(0));
  }
}

}  // namespace ans::core
