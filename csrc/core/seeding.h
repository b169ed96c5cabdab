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

#include "core/scalar_coder.h"

namespace ans::core {

// Costs and exponents are bits * 4096 in 16 bits: what counts is a lane's size modulo the 16 bits of a word.
constexpr int kCostFraction = 12;

// Room left below 2^32 for what the estimate gets wrong: an overflow costs a word, half a bit of room half a bit.
constexpr int kSeedMargin = 3 << (kCostFraction - 2);

// The e in 16 … 31 for a lane whose symbols cost `cost`: e + cost is (mod 16) the whole bits below 15 less the margin; the payload adds up to one more.
inline int seed_exponent(uint16_t cost) {
  const uint16_t target = uint16_t((15 << kCostFraction) - kSeedMargin);
  return format::kWordBits + (uint16_t(target - cost) >> kCostFraction);
}

struct Seeds {
  int tail;                        // symbols in the tail
  uint32_t states[format::kLanes]; // from which the lanes start encoding
};

// Chooses the tail of a chunk of n symbols and the states. `cost[lane]` is the cost of all n symbols and is changed; raw may be null without an escape.
inline Seeds choose_seeds(const EncodeTable& table, const uint8_t* index, const uint16_t* raw, int64_t n, uint16_t* cost, TailEncoder& tail) {
  int payload = 0;
  for (int lane = 0; lane < format::kLanes; ++lane) payload += seed_exponent(cost[lane]);

  tail.reset();
  struct Best {
    int symbols, waste;
    uint32_t y;
    int words;
    uint16_t cost[format::kLanes];
  } best;
  auto keep = [&](int symbols, int waste) {
    best.symbols = symbols, best.waste = waste, best.y = tail.state(), best.words = tail.word_count();
    std::memcpy(best.cost, cost, sizeof best.cost);
  };
  keep(0, payload - tail.bits());
  const int limit = int(std::min<int64_t>(n - 1, format::kMaxTail));
  for (int k = 1; k <= limit && best.waste > 0; ++k) {
    const int64_t i = n - k;
    uint16_t& lane_cost = cost[i % format::kLanes];
    payload -= seed_exponent(lane_cost);
    lane_cost = uint16_t(lane_cost - table.cost[index[i]]);
    payload += seed_exponent(lane_cost);
    tail.push(index[i], raw != nullptr ? raw[i] : uint16_t(0));
    const int waste = payload - tail.bits();
    if (tail.bits() > 31 * format::kLanes) break;
    if (waste >= 0 && waste < best.waste) keep(k, waste);
  }

  LanePayload bits;
  for (int zeros = best.waste; zeros > 0; zeros -= 32) bits.append(0, std::min(zeros, 32));
  bits.append(best.y, bit_length(best.y));
  for (int i = best.words; i-- > 0;) bits.append(tail.word(i), format::kWordBits);
  Seeds seeds;
  seeds.tail = best.symbols;
  for (int lane = 0; lane < format::kLanes; ++lane) {
    const int e = seed_exponent(best.cost[lane]);
    seeds.states[lane] = 1u << e | bits.take(e);
  }
  return seeds;
}

}  // namespace ans::core
