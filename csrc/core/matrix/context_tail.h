// The single coder of a matrix chunk's tail, whose symbols have contexts (BITSTREAM.md, sections 6 and 7.7).
#pragma once
#include "core/matrix/matrix_tables.h"
#include "core/tail_bits.h"

namespace ans::core {
namespace ANS_TARGET {

// Words that it takes at most.
constexpr int kContextTailWords = int(format::max_chunk_words(format::kMaxTail));

class ContextTail {
 public:
  ANS_INLINE ContextTail() {}
  // words: room for kContextTailWords, of this object's alone.
  ANS_INLINE void use(uint16_t* words) { word_ = words; }

  template <class Pieces>
  ANS_INLINE Status start(const Pieces& pieces) {
    TailBits<Pieces> bits(pieces);
    if (const Status s = bits.start(&y_, &words_); s != Status::kOk) return s;
    for (int i = 0; i < words_; ++i) word_[i] = uint16_t(bits.take(format::kWordBits));
    return Status::kOk;
  }
  // What another object has read, whose words are the same ones.
  ANS_INLINE void start_from(uint32_t state, int words) { y_ = state, words_ = words; }
  ANS_INLINE uint32_t state() const { return y_; }
  ANS_INLINE int words() const { return words_; }

  // residual + 128, or -1 - raw value.
  ANS_INLINE int32_t next(const ContextSlots& tables, uint32_t context, int raw_bits) {
    const int position_bits = format::kProbBits - tables.bucket_bits;
    const uint32_t slot = y_ % format::kSlots, position = slot & ((1u << position_bits) - 1), place = (context << tables.bucket_bits) + (slot >> position_bits);
    const uint32_t entry = tables.step[2 * place + uint32_t(position >= tables.divider[place])];
    y_ = (entry >> 20) * (y_ >> format::kProbBits) + (((entry >> 8) + position) & (format::kSlots - 1));
    refill();
    if ((entry & 0xFF) != 0) return int32_t(entry & 0xFF);
    const int32_t raw = int32_t(y_ & ((1u << raw_bits) - 1));
    y_ >>= raw_bits;
    refill();
    return -1 - raw;
  }
  ANS_INLINE bool at_end() const { return y_ == 1 && next_ == words_; }

 private:
  ANS_INLINE void refill() {
    if (y_ >= format::kStateLowerBound || next_ == words_) return;
    y_ = y_ << format::kWordBits | word_[next_++];
  }
  uint16_t* word_ = nullptr;
  uint32_t y_ = 0;
  int next_ = 0, words_ = 0;
};

}  // namespace ANS_TARGET
}  // namespace ans::core
