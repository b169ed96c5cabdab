// Tails of chunks (BITSTREAM.md, section 6), decoded: one state each, symbol after symbol.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/coder_tables.h"
#include "core/status.h"
#include "core/tail_bits.h"

namespace ans::core {

// One step of a tail's coder: the symbol, mod 2^16. refill() takes a word if the state is below 2^16 and there is one.
template <int kBuckets, class Refill>
ANS_HD uint32_t tail_step(const DecodeTable& table, uint32_t& y, const Refill& refill) {
  constexpr uint32_t kWidth = format::kSlots / kBuckets;
  const uint32_t bucket = y % format::kSlots / kWidth, position = y % kWidth;
  const DecodeTable::Step step = table.steps[2 * bucket + uint32_t(position >= table.divider[bucket])];
  y = step.freq * (y >> format::kProbBits) + uint16_t(position + step.bias);
  refill();
  uint32_t symbol = step.symbol;
  if (__builtin_expect(step.is_escape, 0)) {
    symbol = (y & ((1u << table.raw_bits) - 1)) + uint32_t(table.raw_offset + table.first_value);
    y >>= table.raw_bits;
    refill();
  }
  return symbol;
}

// A whole tail of `count` symbols by one thread, which takes words from the bits as it goes; sink(i, symbol) takes number i, mod 2^16.
template <int kBuckets, class Pieces, class Sink>
ANS_HD Status decode_tail(const DecodeTable& table, const Pieces& pieces, int count, const Sink& sink) {
  TailBits<Pieces> bits(pieces);
  uint32_t y = 0;
  int words = 0;
  if (const Status s = bits.start(&y, &words); s != Status::kOk) return s;
  auto refill = [&] {
    if (y >= format::kStateLowerBound || words == 0) return;
    y = y << format::kWordBits | bits.take(format::kWordBits);
    --words;
  };
  for (int i = 0; i < count; ++i) sink(i, tail_step<kBuckets>(table, y, refill));
  return y == 1 && words == 0 ? Status::kOk : Status::kTailStateMismatch;
}

// Tails on the host, where several take turns.
struct Tail {
  const DecodeTable* table;
  uint8_t* out;  // of table->symbol_bytes a symbol, not aligned
  int count;     // symbols

  // The state, and the words that it will take.
  uint32_t state;
  int next, words;
  uint16_t word[format::max_chunk_words(format::kMaxTail) + 1];

  // Reads state and words.
  template <class Pieces>
  Status start(const Pieces& pieces) {
    TailBits<Pieces> bits(pieces);
    if (const Status s = bits.start(&state, &words); s != Status::kOk) return s;
    for (int i = 0; i < words; ++i) word[i] = uint16_t(bits.take(format::kWordBits));
    word[words] = 0;
    next = 0;
    return Status::kOk;
  }
};

constexpr int kMaxTailsAtOnce = 6;

// Decodes `n` tails, whose tables have the same number of buckets and bytes per symbol, side by side: a step waits long for the one before it. The order of
// `tails` is changed.
Status decode_tails(Tail** tails, int n);

}  // namespace ans::core
