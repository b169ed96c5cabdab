// The single coder of a chunk's tail (BITSTREAM.md, section 6): one state, symbol after symbol.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/bit_io.h"
#include "core/coder_tables.h"

namespace ans::core {

// No branch depends on the data (but for an escape): spills are as good as random, and every chunk passes through here symbol by symbol.
class TailEncoder {
 public:
  explicit TailEncoder(const EncodeTable& table) : table_(table) {}

  void push(uint8_t index, uint16_t raw) {  // at most kMaxTail times
    if (__builtin_expect(int(index) == table_.escape_index, 0)) {
      spill(y_ >= 1u << (32 - table_.raw_bits));
      y_ = y_ << table_.raw_bits | raw;
    }
    const uint32_t freq = table_.freq[index];
    spill(y_ >= freq << 20);
    uint32_t quotient = uint32_t(uint64_t(y_) * table_.reciprocal[index] >> 32) >> table_.shift[index];
    uint32_t bias = y_ - quotient * freq;
    const uint32_t low = bias >= freq;  // the rounded-down reciprocal gives the quotient or one less
    quotient += low;
    bias -= low ? freq : 0;
    y_ = quotient << format::kProbBits | table_.slot_of[table_.start[index] + bias];
  }
  uint32_t state() const { return y_; }
  int word_count() const { return count_; }
  uint16_t word(int i) const { return words_[i]; }  // in the order in which they were spilled
  int bits() const { return bit_length(y_) + format::kWordBits * count_; }
  void reset() {
    y_ = 1;
    count_ = 0;
  }

 private:
  void spill(bool full) {
    words_[count_] = uint16_t(y_);
    count_ += full;
    y_ = full ? y_ >> format::kWordBits : y_;
  }
  const EncodeTable& table_;
  uint32_t y_ = 1;
  int count_ = 0;
  uint16_t words_[2 * format::kMaxTail + 1];
};

// A string of bits, most significant first, filled and read from the front; never more than a tail can have.
template <int kCapacityBits>
class TailBits {
 public:
  void append(uint32_t value, int bits) {  // bits <= 32, value < 2^bits
    if (bits == 0) return;
    uint8_t* p = bytes_ + (size_ >> 3);
    const int used = size_ & 7;
    const uint64_t kept = used == 0 ? 0 : uint64_t(*p) << 56;
    put(p, kept | uint64_t(value) << (64 - used - bits));
    size_ += bits;
  }
  uint32_t take(int bits) {  // bits <= 32, not more than left()
    if (bits == 0) return 0;
    const uint64_t v = get(bytes_ + (position_ >> 3)) << (position_ & 7) >> (64 - bits);
    position_ += bits;
    return uint32_t(v);
  }
  bool skip_zeros() {  // to the first one bit; false if there is none
    while (position_ < size_) {
      const uint64_t v = get(bytes_ + (position_ >> 3)) << (position_ & 7);
      if (v != 0) {
        position_ += __builtin_clzll(v);
        return position_ < size_;
      }
      position_ += 64 - (position_ & 7);
    }
    return false;
  }
  int left() const { return size_ - position_; }
  void clear() { size_ = position_ = 0; }
  uint32_t peek_word() const { return uint32_t(get(bytes_ + (position_ >> 3)) << (position_ & 7) >> 48); }  // also at the end: zeros
  void skip(int bits) { position_ += bits; }

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
  // append() writes eight bytes, of which those after the string are zeros: what get() reads behind the end is defined. (clear() need not reset them.)
  uint8_t bytes_[kCapacityBits / 8 + 16] = {};
  int size_ = 0, position_ = 0;
};

using LanePayload = TailBits<31 * format::kLanes>;                                                                 // of a wide chunk
using NarrowBits = TailBits<format::kWordBits * int(format::max_chunk_words(format::kMaxTail))>;  // a narrow chunk

// A tail while it is decoded. One step waits long for the next: a caller with several tails lets them take turns.
template <class Bits>
struct TailDecoder {
  Bits bits;
  uint32_t y = 0;

  // After all bits have been appended.
  Status start() {
    if (!bits.skip_zeros()) return Status::kTailEmpty;
    const int total = bits.left();
    const int words = total <= 32 ? 0 : (total - 17) / format::kWordBits;
    y = bits.take(total - format::kWordBits * words);
    return Status::kOk;
  }
  // The next symbol.
  int32_t step(const DecodeTable& table) {
    const uint32_t entry = table.slots[y & (format::kSlots - 1)];
    y = (entry >> 12 & 0xFFF) * (y >> format::kProbBits) + (entry & 0xFFF);
    refill();
    int32_t offset = int32_t(entry >> 24);
    if (__builtin_expect(offset == table.escape_index, 0)) {
      offset = int32_t(y & ((1u << table.raw_bits) - 1)) + table.raw_offset;
      y >>= table.raw_bits;
      refill();
    }
    return offset + table.first_value;
  }
  Status finish() const { return y == 1 && bits.left() == 0 ? Status::kOk : Status::kTailStateMismatch; }

 private:
  void refill() {  // without a branch: it would be as good as random
    const bool low = y < format::kStateLowerBound && bits.left() > 0;
    const uint32_t refilled = y << format::kWordBits | bits.peek_word();
    y = low ? refilled : y;
    bits.skip(low ? format::kWordBits : 0);
  }
};

}  // namespace ans::core
