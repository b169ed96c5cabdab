// How a wide chunk begins and ends: which symbols go to the tail, and which states the lanes start from.
//
// 32 lanes cost bytes twice: a lane starts from a state of at least 16 bits that mean nothing, and its last state is written in 32 bits whatever its size.
// Both are avoided. The start state is 2^e + e bits of payload, and the payload is the chunk's own last symbols, coded by one more, single coder. And e is
// chosen such that the state which is written lands just below 2^32; the decoder reads e off the state that it ends with.
// About 8 bytes per chunk remain of 96, for any kind of symbols, and nothing outside the chunk is needed to decode it.
#pragma once
#include <cstdint>

#include "core/host_device.h"
#include "core/tail_encoder.h"

namespace ans::core {

// Costs and exponents are bits * 4096 in 16 bits: what counts is a lane's size modulo the 16 bits of a word.
constexpr int kCostFraction = 12;

// Room left below 2^32 for what the estimate gets wrong after this many rows: too much of it costs bits, an overflow a word. Rounding in the coder makes a
// lane longer by 1/65536 bit per row, and a random walk with a deviation of 0.0066 bits per square root of rows (measured on int6 weights) shifts it; the best
// room is where an overflow has a probability of one in 16 at the upper edge, 1.53 deviations.
ANS_HD uint16_t seed_margin(int64_t rows) {
  int64_t root = 0;
  while ((root + 1) * (root + 1) <= rows) ++root;
  return uint16_t(41 * root + rows / 16);
}

// The e in 16 … 31 for a lane whose symbols cost `cost`: e + cost is (mod 16) the whole bits below 15 less the margin; the payload adds up to one more.
ANS_HD int seed_exponent(uint16_t cost, uint16_t margin) {
  const uint16_t target = uint16_t((15 << kCostFraction) - margin);
  return format::kWordBits + (uint16_t(target - cost) >> kCostFraction);
}

// log2 of 1.mantissa, of kMantissaBits bits, in units of 1 / 2^kCostFraction, rounded down: [1 << kMantissaBits], from core/log2_table.h.
constexpr int kMantissaBits = format::kProbBits - 1;
struct MantissaLogs {
  const uint16_t* of;
};

struct Seeds {
  int tail;                        // symbols in the tail
  int tail_escapes;                // how many of them are escaped
  uint32_t states[format::kLanes]; // from which the lanes start encoding
};

// The tail bits, read backwards: bit 0 is the last. Before the first there are zeros.
class ReversedTail {
 public:
  ANS_HD ReversedTail(uint32_t y, const TailEncoder& tail, int words) : size_(32 - leading_zero_bits(y) + format::kWordBits * words) {
    const int used = words < kWords - 4 ? words : kWords - 4;  // never less than `words`: see fine_step()
    for (int i = 0; i < used; ++i) words_[i] = tail.word(i);  // the first word that was spilled is read last
    words_[used] = uint16_t(y);
    words_[used + 1] = uint16_t(y >> 16);
  }
  // Bits [position, position + bits), the one at `position` lowest; bits <= 32, position at most 31 per lane.
  ANS_HD uint32_t get(int position, int bits) const {
    const uint16_t* w = words_ + position / format::kWordBits;
    const uint64_t v = uint64_t(w[0]) | uint64_t(w[1]) << 16 | uint64_t(w[2]) << 32;
    return uint32_t(v >> position % format::kWordBits & ((uint64_t{1} << bits) - 1));
  }
  ANS_HD int size() const { return size_; }

 private:
  static constexpr int kWords = 2 * format::kLanes + 8;
  uint16_t words_[kWords] = {};
  int size_;
};

// Deals the tail bits to the lanes, the last lane first. Each lane takes one bit more than seed_exponent() says where its payload turns out small enough: that is
// half a bit a lane on average. False if the lanes have no room for all bits.
ANS_HD bool deal_tail_bits(const ReversedTail& bits, const uint16_t* cost, uint16_t margin, MantissaLogs logs, uint32_t* states) {
  int position = 0;
  for (int lane = format::kLanes - 1; lane >= 0; --lane) {
    int e = seed_exponent(cost[lane], margin);
    const uint32_t payload = bits.get(position, e + 1);
    // Room in bits * 4096 that e + 1 leaves for log2 of 1.payload; the look-up rounds down by less than 1/1000 bit.
    const int room = (16 << kCostFraction) - margin - int(uint16_t(cost[lane] + ((e + 1) << kCostFraction)));
    const int log2_mantissa = logs.of[payload >> (e + 1 - kMantissaBits) & ((1u << kMantissaBits) - 1)];
    e += int(log2_mantissa < room) & int(e < 31);  // no branch: it would be as good as random
    states[lane] = 1u << e | bits.get(position, e);
    position += e;
  }
  return position >= bits.size();
}

// What deal_tail_bits() gains over the plain exponents, less a little: 16 bits on average, 3 either way.
constexpr int kExpectedGain = 12;

// Exponents are 16 … 31, 752 in all on average and 26 around it: there is always room for about this many bits.
constexpr int kCertainPayload = 620;

// More than the words of any tail that is tried: it ends at 31 bits for every lane.
constexpr int kSeedTailWords = 2 * format::kLanes + 8;

// Chooses the tail of a chunk and the states. Symbol after symbol moves from the lanes to the tail; one such step waits long for the one before it, so that
// several choosers do well to take turns. `Symbols` is as push_backwards() wants it, and gives the lane(i) that a symbol belongs to.
template <class Symbols>
class SeedChooser {
 public:
  // For n symbols in so many rows; cost[lane] is the cost of all of them and is changed. tail_words: room for kSeedTailWords.
  ANS_HD void begin(const Symbols& symbols, int64_t n, int64_t rows, uint16_t* cost, MantissaLogs logs, uint16_t* tail_words) {
    symbols_ = symbols, n_ = n, cost_ = cost, logs_ = logs;
    margin_ = seed_margin(rows);
    limit_ = int(n - 1 < format::kMaxTail ? n - 1 : format::kMaxTail);
    moved_ = 0;
    tail_.reset(tail_words + kSeedTailWords);
    sum_exponents();
    keep(certain_, payload_);
    keep(likely_, payload_ + kExpectedGain);
  }
  // One symbol more. False when the tail is so long that it may be the best; no shorter one is.
  ANS_HD bool coarse_step() {
    if (moved_ == limit_ || tail_.bits() >= kCertainPayload) return false;
    move_to_tail();
    return true;
  }
  ANS_HD void between_steps() {
    sum_exponents();
    if (payload_ < tail_.bits()) return;  // of use where the symbols are too few, or too short, to fill more
    keep(certain_, payload_ - tail_.bits());
    keep(likely_, payload_ - tail_.bits() + kExpectedGain);
  }
  // One symbol more. False when no longer tail can be better.
  ANS_HD bool fine_step() {
    if (moved_ == limit_) return false;
    payload_ -= seed_exponent(lane_cost(1), margin_);
    move_to_tail();
    payload_ += seed_exponent(lane_cost(), margin_);
    const int waste = payload_ - tail_.bits();
    if (tail_.bits() > 31 * format::kLanes) return false;
    if (waste >= 0 && waste < certain_.waste) keep(certain_, waste);
    if (waste + kExpectedGain >= 0 && waste + kExpectedGain < likely_.waste) keep(likely_, waste + kExpectedGain);
    return certain_.waste != 0 || likely_.waste != 0;
  }
  ANS_HD Seeds seeds() {
    Seeds seeds;
    for (int which = 0; which < 2; ++which) {
      const Best& best = which == 0 ? likely_ : certain_;  // their symbols, and no others, move
      for (; moved_ > best.symbols; --moved_) lane_cost() = uint16_t(lane_cost() + cost_of(n_ - moved_));
      for (; moved_ < best.symbols; ++moved_) lane_cost(1) = uint16_t(lane_cost(1) - cost_of(n_ - moved_ - 1));
      seeds.tail = best.symbols;
      if (deal_tail_bits(ReversedTail(best.y, tail_, best.words), cost_, margin_, logs_, seeds.states)) break;
    }
    seeds.tail_escapes = 0;
    for (int64_t i = n_ - seeds.tail; i < n_; ++i) seeds.tail_escapes += int(symbols_.index(i)) == symbols_.table(i).escape_index;
    return seeds;
  }

 private:
  struct Best {
    int symbols, waste;
    uint32_t y;
    int words;
  };
  ANS_HD void sum_exponents() {
    payload_ = 0;
    for (int lane = 0; lane < format::kLanes; ++lane) payload_ += seed_exponent(cost_[lane], margin_);
  }
  ANS_HD void keep(Best& best, int waste) {
    best.symbols = moved_, best.waste = waste, best.y = tail_.state(), best.words = tail_.word_count();
  }
  // Cost of the lane of the symbol that was moved last, or that is `next` symbols before it.
  ANS_HD uint16_t& lane_cost(int next = 0) { return cost_[symbols_.lane(n_ - moved_ - next)]; }
  ANS_HD uint16_t cost_of(int64_t i) const { return symbols_.table(i).cost[symbols_.index(i)]; }
  ANS_HD void move_to_tail() {
    const int64_t i = n_ - ++moved_;
    const EncodeTable& table = symbols_.table(i);
    const uint8_t index = symbols_.index(i);
    tail_.push(table, index, __builtin_expect(int(index) == table.escape_index, 0) ? symbols_.take_raw(i) : uint16_t(0));
    lane_cost() = uint16_t(lane_cost() - table.cost[index]);
  }

  Symbols symbols_;
  int64_t n_;
  uint16_t* cost_;
  MantissaLogs logs_;
  uint16_t margin_;
  int limit_, moved_, payload_;
  TailEncoder tail_;
  Best certain_, likely_;  // fits anyway; fits if the lanes gain as expected
};

// Seeds of `count` chunks whose choosers have begun.
template <class Symbols>
ANS_HD void choose_seeds(SeedChooser<Symbols>* const* choosers, int count, Seeds* seeds) {
  const uint32_t all = (1u << count) - 1;
  for (uint32_t going = all; going != 0;)
    for (int s = 0; s < count; ++s)
      if ((going >> s & 1) != 0 && !choosers[s]->coarse_step()) going &= ~(1u << s);
  for (int s = 0; s < count; ++s) choosers[s]->between_steps();
  for (uint32_t going = all; going != 0;)
    for (int s = 0; s < count; ++s)
      if ((going >> s & 1) != 0 && !choosers[s]->fine_step()) going &= ~(1u << s);
  for (int s = 0; s < count; ++s) seeds[s] = choosers[s]->seeds();
}

}  // namespace ans::core
