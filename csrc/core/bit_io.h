// Bit strings, most significant bit first, and Exp-Golomb codes (BITSTREAM.md, section 2).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/status.h"
#include "format/bitstream.h"

namespace ans::core {

inline int bit_length(uint32_t v) { return v == 0 ? 0 : 32 - __builtin_clz(v); }

inline uint32_t fold_sign(int32_t e) { return e > 0 ? 2u * uint32_t(e) - 1 : 2u * (0u - uint32_t(e)); }
inline int64_t unfold_sign(uint64_t z) { return (z & 1) ? int64_t(z / 2) + 1 : -int64_t(z / 2); }

// Bits that exp_golomb(v, order) takes.
inline int exp_golomb_bits(uint32_t v, int order) { return 2 * bit_length((v >> order) + 1) - 1 + order; }

class BitWriter {
 public:
  void put(uint32_t value, int bits) {  // bits <= 32, value < 2^bits
    for (int i = bits - 1; i >= 0; --i) {
      if (used_ % 8 == 0) bytes_.push_back(0);
      uint8_t& byte = bytes_[used_ / 8];
      byte = uint8_t(byte | ((value >> i & 1u) << (7 - used_ % 8)));
      ++used_;
    }
  }
  void exp_golomb(uint32_t v, int order) {
    const uint32_t u = (v >> order) + 1;
    const int length = bit_length(u);
    put(0, length - 1);
    put(u, length);
    put(v & ((1u << order) - 1), order);
  }
  void signed_exp_golomb(int32_t e, int order) { exp_golomb(fold_sign(e), order); }
  // Padded with zeros to whole bytes.
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
  size_t used_ = 0;  // bits
};

// Reads never go past the end: they return 0 and set a status that the caller checks once.
class BitReader {
 public:
  BitReader(const uint8_t* data, int64_t size, Status truncated) : data_(data), size_(size), truncated_(truncated) {}

  uint32_t get(int bits) {
    if (position_ + bits > 8 * size_) {
      fail(truncated_);
      position_ = 8 * size_;
      return 0;
    }
    uint32_t v = 0;
    for (int i = 0; i < bits; ++i, ++position_) v = v << 1 | (data_[position_ >> 3] >> (7 - (position_ & 7)) & 1u);
    return v;
  }
  uint64_t exp_golomb(int order) {  // below 2^56: at most 24 leading zeros, order below 32
    int zeros = 0;
    while (status_ == Status::kOk && get(1) == 0) {
      if (++zeros > format::kMaxExpGolombZeros) fail(Status::kBadExpGolomb);
    }
    if (status_ != Status::kOk) return 0;
    const uint64_t u = (uint64_t{1} << zeros) | get(zeros);
    const uint64_t v = ((u - 1) << order) | get(order);
    return status_ == Status::kOk ? v : 0;
  }
  int64_t signed_exp_golomb(int order) { return unfold_sign(exp_golomb(order)); }

  // Skips to the next byte; the bits in between must be zero. Returns the bytes consumed so far.
  int64_t align() {
    while (position_ & 7) {
      if (get(1) != 0) fail(Status::kNonzeroPadding);
    }
    return position_ >> 3;
  }
  void fail(Status status) {
    if (status_ == Status::kOk) status_ = status;
  }
  Status status() const { return status_; }

 private:
  const uint8_t* data_;
  int64_t size_;
  int64_t position_ = 0;  // in bits
  Status truncated_;
  Status status_ = Status::kOk;
};

}  // namespace ans::core
