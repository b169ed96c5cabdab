// The words of a chunk as a warp reads them: staged in a ring in shared memory, 64 at a time and one step ahead, by loads of 32 bits that all lanes make together.
// A chunk may begin at any byte; nothing outside [begin, end) is read, and behind the end there are zeros.
#pragma once
#include <cstdint>

#include "core/vector_warp.h"

namespace ans::core {
namespace ANS_TARGET {

// The 4 bytes at `p`, which is 4-byte aligned, zeros for those outside [begin, end).
ANS_INLINE uint32_t load_aligned_within(const uint8_t* p, const uint8_t* begin, const uint8_t* end) {
  if (p >= begin && end - p >= 4) return *reinterpret_cast<const uint32_t*>(p);
  uint32_t v = 0;
  for (int k = 0; k < 4; ++k)
    if (p + k >= begin && p + k < end) v |= uint32_t(p[k]) << 8 * k;
  return v;
}

template <class W>
class WarpWords {
 public:
  static constexpr int kRingWords = 256, kStagedAtOnce = 64;

  // ring: kRingWords of this warp alone, 4-byte aligned.
  ANS_INLINE WarpWords(const uint8_t* begin, const uint8_t* end, uint16_t* ring) : begin_(begin), end_(end), ring_(ring) { load_ahead(); }

  // To be called before every row: then there are the 32 words that it may take.
  ANS_INLINE void prepare() {
    if (staged_ - taken_ >= 32) return;  // the same in all lanes
    reinterpret_cast<uint32_t*>(ring_)[(staged_ / 2 + W::lane()) % (kRingWords / 2)] = ahead_;
    staged_ += kStagedAtOnce;
    load_ahead();
    W::sync();
  }
  ANS_INLINE uint32_t at(uint32_t rank) const { return ring_[(taken_ + rank) % kRingWords]; }
  ANS_INLINE void advance(uint32_t words) { taken_ += words; }
  // Words taken so far; more than there are if the chunk is damaged.
  ANS_INLINE uint32_t taken() const { return taken_; }

 private:
  ANS_INLINE void load_ahead() {
    // Past the end the offset stays: a damaged chunk may ask for more than memory has addresses.
    const int64_t size = end_ - begin_, offset = 2 * int64_t(staged_) + 4 * int64_t(W::lane());
    const uint8_t* p = begin_ + (offset < size ? offset : size);
    const unsigned shift = unsigned(reinterpret_cast<uintptr_t>(p) % 4);
    const uint32_t low = load_aligned_within(p - shift, begin_, end_), high = load_aligned_within(p - shift + 4, begin_, end_);
    ahead_ = shift == 0 ? low : low >> 8 * shift | high << (32 - 8 * shift);
  }
  const uint8_t *begin_, *end_;
  uint16_t* ring_;
  uint32_t ahead_ = 0, staged_ = 0, taken_ = 0;
};

}  // namespace ANS_TARGET
}  // namespace ans::core
