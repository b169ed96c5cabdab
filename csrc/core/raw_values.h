// The raw values of a wide chunk's escapes (BITSTREAM.md, section 6): a string of bits that begins at the end of the chunk and grows towards its words.
// Kept apart from the lanes, so that a row is the same work for every symbol and escaped ones are filled in afterwards.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/host_device.h"
#include "format/bitstream.h"

namespace ans::core {

// 16-bit words that `count` raw values take.
ANS_HD int64_t raw_words(int64_t count, int raw_bits) { return (count * raw_bits + format::kWordBits - 1) / format::kWordBits; }

// The `bits` bits (1 … 16) behind the first `position` of the string that ends the chunk at `end`. Reads up to 4 bytes, the lowest 2 more than needed.
ANS_HD uint32_t raw_value_at(const uint8_t* end, int64_t position, int bits) {
  uint32_t two_words;
  memcpy(&two_words, end - 2 * (position / format::kWordBits) - 4, sizeof two_words);  // little-endian, as all hosts here: the first word is the higher half
  return two_words << position % format::kWordBits >> (32 - bits);
}

// Whether zeros fill the rest of the word in which a string of `size` bits ends.
ANS_HD bool zeros_follow(const uint8_t* end, int64_t size) {
  const int rest = int(-size & (format::kWordBits - 1));
  return rest == 0 || raw_value_at(end, size, rest) == 0;
}

// Hands out raw values in order. One that does not fit between `begin` and `end` is 0, and bytes() says so. 2 bytes before `begin` must be readable.
class RawReader {
 public:
  RawReader() = default;
  RawReader(const uint8_t* begin, const uint8_t* end, int raw_bits) : end_(end), size_(8 * (end - begin)), raw_bits_(raw_bits) {}

  uint32_t next() {
    const int64_t position = position_;
    position_ += raw_bits_;
    return position_ <= size_ ? raw_value_at(end_, position, raw_bits_) : 0;
  }
  // What the values so far take; more than there is if one did not fit.
  int64_t bytes() const { return (position_ + format::kWordBits - 1) / format::kWordBits * 2; }
  // Whether the bits behind the last value, up to a whole word, are 0; to be asked only if all values fitted.
  bool zero_padding() const { return zeros_follow(end_, position_); }

 private:
  const uint8_t* end_ = nullptr;
  int64_t size_ = 0, position_ = 0;  // bits
  int raw_bits_ = 0;
};

// Writes raw values so that they end at `end`; returns where they begin.
ANS_HD uint8_t* write_raw_values(const uint16_t* raw, int64_t count, int raw_bits, uint8_t* end) {
  uint32_t open = 0;  // its highest bits are the last word, not yet full
  int filled = 0;
  auto put_word = [&] {
    const uint16_t word = uint16_t(open >> format::kWordBits);
    end -= sizeof word;
    memcpy(end, &word, sizeof word);
  };
  for (int64_t i = 0; i < count; ++i) {
    open |= uint32_t(raw[i]) << (32 - raw_bits - filled);
    filled += raw_bits;
    if (filled < format::kWordBits) continue;
    put_word();
    open <<= format::kWordBits;
    filled -= format::kWordBits;
  }
  if (filled > 0) put_word();
  return end;
}

}  // namespace ans::core
