// The single coder of a chunk's tail (BITSTREAM.md, section 6), encoding: one state, symbol after symbol.
#pragma once
#include <cstdint>

#include "core/bit_io.h"
#include "core/coder_tables.h"

namespace ans::core {

// No branch depends on the data (but for an escape): spills are as good as random, and every chunk passes through here symbol by symbol.
class TailEncoder {
 public:
  void reset(const EncodeTable& table) {
    table_ = &table;
    y_ = 1;
    count_ = 0;
  }
  void push(uint8_t index, uint16_t raw) {  // at most kMaxTail times
    if (__builtin_expect(int(index) == table_->escape_index, 0)) {
      spill(y_ >= 1u << (32 - table_->raw_bits));
      y_ = y_ << table_->raw_bits | raw;
    }
    const uint32_t freq = table_->freq[index];
    spill(y_ >= freq << 20);
    uint32_t quotient = uint32_t(uint64_t(y_) * table_->reciprocal[index] >> 32) >> table_->shift[index];
    uint32_t bias = y_ - quotient * freq;
    const uint32_t low = bias >= freq;  // the rounded-down reciprocal gives the quotient or one less
    quotient += low;
    bias -= low ? freq : 0;
    y_ = quotient << format::kProbBits | table_->slot_of[table_->start[index] + bias];
  }
  uint32_t state() const { return y_; }
  int word_count() const { return count_; }
  uint16_t word(int i) const { return words_[i]; }  // in the order in which they were spilled
  int bits() const { return bit_length(y_) + format::kWordBits * count_; }

 private:
  void spill(bool full) {
    words_[count_] = uint16_t(y_);
    count_ += full;
    y_ = full ? y_ >> format::kWordBits : y_;
  }
  const EncodeTable* table_ = nullptr;
  uint32_t y_ = 1;
  int count_ = 0;
  uint16_t words_[2 * format::kMaxTail + 1];
};

}  // namespace ans::core
