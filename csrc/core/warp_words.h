// The words of a chunk as a warp reads them: staged in a ring in shared memory, 128 at a time and one step ahead, by loads of 32 bits that all lanes make together.
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
  static constexpr int kRingWords = 256, kStagedAtOnce = 128, kRowsAtOnce = 2;

  // ring: kRingWords of this warp alone, 4-byte aligned.
  ANS_INLINE WarpWords(const uint8_t* begin, const uint8_t* end, uint16_t* ring)
      : begin_(begin), end_(end), ring_(ring), below_(W::opaque(VectorWarp<W>::lanes_below())), shift_(8 * unsigned(reinterpret_cast<uintptr_t>(begin) % 4)) {
    load_ahead();
  }

  // To be called before every kRowsAtOnce rows: then there are the words that these may take. What is overwritten is older than the last rows, which some lane
  // might still be reading.
  ANS_INLINE void prepare() {
    if (staged_ - taken() >= 32 * kRowsAtOnce) return;  // the same in all lanes
    W::sync();
    uint32_t* const ring = reinterpret_cast<uint32_t*>(ring_) + staged_ / 2 % (kRingWords / 2) + W::lane();
    ring[0] = ahead_[0];
    ring[32] = ahead_[1];
    staged_ += kStagedAtOnce;
    load_ahead();
    W::sync();
  }
  // The word for a lane, if `all` take one.
  ANS_INLINE uint32_t of_lane(uint32_t all) const {
    const uint32_t place = (taken_bytes_ + 2 * count_bits(all & below_)) % (2 * kRingWords);
    return *reinterpret_cast<const uint16_t*>(reinterpret_cast<const uint8_t*>(ring_) + place);
  }
  ANS_INLINE void advance(uint32_t words) { taken_bytes_ += 2 * words; }
  // Words taken so far; more than there are if the chunk is damaged.
  ANS_INLINE uint32_t taken() const { return taken_bytes_ / 2; }
  ANS_INLINE uint32_t lanes_below() const { return below_; }

 private:
  static_assert(kRingWords == 2 * kStagedAtOnce, "what is staged at once does not wrap around");

  ANS_INLINE void load_ahead() {
    // Past the end the offset stays: a damaged chunk may ask for more than memory has addresses.
    const int64_t size = end_ - begin_, offset = 2 * int64_t(staged_);
    const uint8_t* const p = begin_ + (offset < size ? offset : size) - shift_ / 8 + 4 * W::lane();  // aligned
    uint32_t low[2], high[2];
    if (staged_ > 0 && size - offset >= 2 * kStagedAtOnce + 4) {  // the same in all lanes: everything lies inside
      const uint32_t* const aligned = reinterpret_cast<const uint32_t*>(p);
      ANS_UNROLL
      for (int i = 0; i < 2; ++i) low[i] = aligned[32 * i], high[i] = aligned[32 * i + 1];
    } else {
      for (int i = 0; i < 2; ++i) low[i] = load_aligned_within(p + 128 * i, begin_, end_), high[i] = load_aligned_within(p + 128 * i + 4, begin_, end_);
    }
    ANS_UNROLL
    for (int i = 0; i < 2; ++i) ahead_[i] = uint32_t((uint64_t(high[i]) << 32 | low[i]) >> shift_);
  }
  const uint8_t *begin_, *end_;
  uint16_t* ring_;
  uint32_t below_;  // kept: where it is computed again, it costs more than a register
  unsigned shift_;  // bits from an aligned address to where the chunk begins
  uint32_t ahead_[2] = {}, staged_ = 0, taken_bytes_ = 0;
};

}  // namespace ANS_TARGET
}  // namespace ans::core
