// The tail bits of a chunk (BITSTREAM.md, section 6) as its single coder takes them: in order, and once.
#pragma once
#include <cstdint>

#include "core/host_device.h"
#include "core/status.h"
#include "format/bitstream.h"

namespace ans::core {

// What the bits are made of, piece by piece: the payloads of the lanes' final states, or the words of a narrow chunk.
struct StatePieces {
  const uint32_t* state;  // [32], all of at least 2^16
  ANS_HD int count() const { return format::kLanes; }
  ANS_HD int bits(int i) const { return 31 - leading_zero_bits(state[i]); }
  ANS_HD uint32_t value(int i) const { return state[i] - (1u << bits(i)); }
};
struct WordPieces {
  const uint8_t* bytes;
  int words;
  ANS_HD int count() const { return words; }
  ANS_HD int bits(int) const { return format::kWordBits; }
  ANS_HD uint32_t value(int i) const { return uint32_t(bytes[2 * i]) | uint32_t(bytes[2 * i + 1]) << 8; }
};

template <class Pieces>
class TailBits {
 public:
  ANS_HD explicit TailBits(const Pieces& pieces) : pieces_(pieces) {
    for (int i = 0; i < pieces.count(); ++i) left_ += pieces.bits(i);
  }
  // Skips zeros up to the first one bit and reads the coder's state; `words` is what remains: take() gives them. kTailEmpty if there is no one bit.
  ANS_HD Status start(uint32_t* state, int* words) {
    while (unread() == 0) {
      left_ -= open_bits_;
      open_bits_ = 0;
      if (left_ == 0) return Status::kTailEmpty;
      open_piece();
    }
    const int zeros = open_bits_ - (64 - leading_zero_bits(unread()));
    left_ -= zeros;
    open_bits_ -= zeros;
    *words = left_ <= 32 ? 0 : (left_ - 17) / format::kWordBits;
    *state = take(left_ - format::kWordBits * *words);
    return Status::kOk;
  }
  ANS_HD uint32_t take(int bits) {  // 1 … 32 of those that are left
    while (open_bits_ < bits) open_piece();
    open_bits_ -= bits;
    left_ -= bits;
    return uint32_t(open_ >> open_bits_) & (~0u >> (32 - bits));
  }

 private:
  ANS_HD uint64_t unread() const { return open_bits_ == 0 ? 0 : open_ << (64 - open_bits_) >> (64 - open_bits_); }
  ANS_HD void open_piece() {  // fewer than 32 bits are open, a piece has fewer than 32
    open_ = open_ << pieces_.bits(next_) | pieces_.value(next_);
    open_bits_ += pieces_.bits(next_);
    ++next_;
  }
  Pieces pieces_;
  uint64_t open_ = 0;  // its low open_bits_ bits are next
  int open_bits_ = 0, next_ = 0, left_ = 0;
};

}  // namespace ans::core
