// How a wide chunk begins and ends: which symbols go to the tail, and which states the lanes start from.
//
// 32 lanes cost bytes twice: a lane starts from a state of at least 16 bits that mean nothing, and its last state is written in 32 bits whatever its size.
// Both are avoided. The start state is 2^e + e bits of payload, and the payload is the chunk's own last symbols, coded by one more, single coder. And e is
// chosen such that the state which is written lands just below 2^32; the decoder reads e off the state that it ends with.
// About 8 bytes per chunk remain of 96, for any kind of symbols, and nothing outside the chunk is needed to decode it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/log2_table.h"
#include "core/tail_encoder.h"

namespace ans::core {

// Costs and exponents are bits * 4096 in 16 bits: what counts is a lane's size modulo the 16 bits of a word.
constexpr int kCostFraction = 12;

// Room left below 2^32 for what the estimate gets wrong after this many rows: too much of it costs bits, an overflow a word. Rounding in the coder makes a
// lane longer by 1/65536 bit per row, and a random walk with a deviation of 0.0066 bits per square root of rows (measured on int6 weights) shifts it; the best
// room is where an overflow has a probability of one in 16 at the upper edge, 1.53 deviations.
inline uint16_t seed_margin(int64_t rows) {
  int64_t root = 0;
  while ((root + 1) * (root + 1) <= rows) ++root;
  return uint16_t(41 * root + rows / 16);
}

// The e in 16 … 31 for a lane whose symbols cost `cost`: e + cost is (mod 16) the whole bits below 15 less the margin; the payload adds up to one more.
inline int seed_exponent(uint16_t cost, uint16_t margin) {
  const uint16_t target = uint16_t((15 << kCostFraction) - margin);
  return format::kWordBits + (uint16_t(target - cost) >> kCostFraction);
}

struct Seeds {
  int tail;                        // symbols in the tail
  uint32_t states[format::kLanes]; // from which the lanes start encoding
};

// The tail bits, read backwards: bit 0 is the last. Before the first there are zeros.
class ReversedTail {
 public:
  ReversedTail(uint32_t y, const TailEncoder& tail, int words) : size_(bit_length(y) + format::kWordBits * words) {
    for (int i = 0; i < words; ++i) words_[i] = tail.word(i);  // the first word that was spilled is read last
    words_[words] = uint16_t(y);
    words_[words + 1] = uint16_t(y >> 16);
    words_[words + 2] = words_[words + 3] = 0;
    end_ = words + 2;
  }
  // Bits [position, position + bits), the one at `position` lowest; bits <= 32.
  uint32_t get(int position, int bits) const {
    const int word = position / format::kWordBits;
    if (word >= end_) return 0;
    uint64_t v = 0;
    for (int k = 0; k < 3 && word + k < end_; ++k) v |= uint64_t{words_[word + k]} << (format::kWordBits * k);
    return uint32_t(v >> position % format::kWordBits & ((uint64_t{1} << bits) - 1));
  }
  int size() const { return size_; }

 private:
  uint16_t words_[2 * format::kLanes + 8];
  int size_, end_;
};

// Deals the tail bits to the lanes, the last lane first. Each lane takes one bit more than seed_exponent() says where its payload turns out small enough: that is
// half a bit a lane on average. False if the lanes have no room for all bits.
inline bool deal_tail_bits(const ReversedTail& bits, const uint16_t* cost, uint16_t margin, uint32_t* states) {
  int position = 0;
  for (int lane = format::kLanes - 1; lane >= 0; --lane) {
    int e = seed_exponent(cost[lane], margin);
    if (e < 31) {
      const uint32_t payload = bits.get(position, e + 1);
      // Room in bits * 4096 that e + 1 leaves for log2 of 1.payload; the look-up rounds down by less than 1/1000 bit.
      const int room = (16 << kCostFraction) - margin - int(uint16_t(cost[lane] + ((e + 1) << kCostFraction)));
      const uint32_t mantissa = (1u << (format::kProbBits - 1)) | payload >> (e + 1 - (format::kProbBits - 1));
      const int log2_mantissa = int(log2_table()[mantissa] >> (kLog2FractionBits - kCostFraction)) - ((format::kProbBits - 1) << kCostFraction);
      if (log2_mantissa < room) ++e;
    }
    states[lane] = 1u << e | bits.get(position, e);
    position += e;
  }
  return position >= bits.size();
}

// What deal_tail_bits() gains over the plain exponents, less a little: 16 bits on average, 3 either way.
constexpr int kExpectedGain = 12;

// Exponents are 16 … 31, 752 in all on average and 26 around it: there is always room for about this many bits.
constexpr int kCertainPayload = 620;

// Chooses the tail of a chunk of n symbols and the states. `cost[lane]` is the cost of all n symbols and is changed; raw may be null without an escape.
inline Seeds choose_seeds(const EncodeTable& table, const uint8_t* index, const uint16_t* raw, int64_t n, uint16_t* cost, TailEncoder& tail) {
  const uint16_t margin = seed_margin(n / format::kLanes);
  int payload = 0;
  auto sum_exponents = [&] {
    payload = 0;
    for (int lane = 0; lane < format::kLanes; ++lane) payload += seed_exponent(cost[lane], margin);
  };
  tail.reset();
  sum_exponents();
  struct Best {
    int symbols, waste;
    uint32_t y;
    int words;
    uint16_t cost[format::kLanes];
  } certain, likely;  // fits anyway; fits if the lanes gain as expected
  auto keep = [&](Best& best, int symbols, int waste) {
    best.symbols = symbols, best.waste = waste, best.y = tail.state(), best.words = tail.word_count();
    std::memcpy(best.cost, cost, sizeof best.cost);
  };
  keep(certain, 0, payload - tail.bits());
  keep(likely, 0, payload - tail.bits() + kExpectedGain);
  const int limit = int(std::min<int64_t>(n - 1, format::kMaxTail));
  auto move_to_tail = [&](int64_t i) -> uint16_t& {
    tail.push(index[i], raw != nullptr ? raw[i] : uint16_t(0));
    uint16_t& lane_cost = cost[i % format::kLanes];
    lane_cost = uint16_t(lane_cost - table.cost[index[i]]);
    return lane_cost;
  };
  int k = 1;
  for (; k <= limit && tail.bits() < kCertainPayload; ++k) move_to_tail(n - k);  // no tail that short can be the best
  sum_exponents();
  if (payload >= tail.bits()) {  // of use where the symbols are too few, or too short, to fill more
    keep(certain, k - 1, payload - tail.bits());
    keep(likely, k - 1, payload - tail.bits() + kExpectedGain);
  }
  for (; k <= limit; ++k) {
    const int64_t i = n - k;
    payload -= seed_exponent(cost[i % format::kLanes], margin);
    payload += seed_exponent(move_to_tail(i), margin);
    const int waste = payload - tail.bits();
    if (tail.bits() > 31 * format::kLanes) break;
    if (waste >= 0 && waste < certain.waste) keep(certain, k, waste);
    if (waste + kExpectedGain >= 0 && waste + kExpectedGain < likely.waste) keep(likely, k, waste + kExpectedGain);
    if (certain.waste == 0 && likely.waste == 0) break;
  }
  Seeds seeds;
  for (const Best* best : {&likely, &certain}) {
    seeds.tail = best->symbols;
    if (deal_tail_bits(ReversedTail(best->y, tail, best->words), best->cost, margin, seeds.states)) break;
  }
  return seeds;
}

}  // namespace ans::core
