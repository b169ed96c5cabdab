// A chunk decoded by a warp: the steps are those of lane_coder.h, a register in every thread. What differs from the host: words come through shared memory, escaped
// symbols are put in at once (a warp has no use for knowing them later), and the tail is another kernel's, since it would leave 31 lanes idle.
#pragma once
#include <cstdint>

#include "core/lane_coder.h"
#include "core/lanes32.h"
#include "core/raw_values.h"
#include "core/status.h"
#include "core/vector_warp.h"
#include "core/warp_words.h"

namespace ans::core {
namespace ANS_TARGET {

// Of a table, what decoding rows needs.
struct WarpTable {
  const uint32_t* slots;  // [4096], in shared memory
  int32_t first_value;
  int escape_index, raw_bits;  // -1, 0: no escape
  int32_t raw_min;
};

// A wide chunk (BITSTREAM.md, section 6); its entry has passed check_chunk().
struct WarpChunk {
  const uint8_t* begin;
  const uint8_t* end;
  int64_t symbols;  // of the lanes: without the tail
};

// Decodes the symbols of the lanes: sink(i, symbol) takes number i of them, in the lane that has it. state[32] receives the final states, whose payloads are the tail
// bits. Nothing outside the chunk is read, whatever it holds. The status is the same in all lanes; all sinks have been called if it is kOk.
template <class W, bool kEscape, class Sink>
ANS_INLINE Status decode_chunk_rows(const WarpTable& table, const WarpChunk& chunk, uint16_t* ring, uint32_t* state, Sink sink) {
  using V = VectorWarp<W>;
  using L = Lanes32<V>;
  const typename L::Decoder decoders[1] = {{table.slots, table.first_value, table.escape_index}};
  const uint8_t* own = chunk.begin + 4 * W::lane();
  typename L::State x[1] = {uint32_t(own[0]) | uint32_t(own[1]) << 8 | uint32_t(own[2]) << 16 | uint32_t(own[3]) << 24};
  if (W::ballot(x[0] < format::kStateLowerBound) != 0) return Status::kStateOutOfRange;

  const uint8_t* const first_word = chunk.begin + 2 * format::kStateWords;
  const int64_t words_there = (chunk.end - first_word) / 2;
  WarpWords<W> words[1] = {{first_word, chunk.end, ring}};
  int64_t escapes = 0;
  auto row = [&](int64_t i, bool active) {
    typename L::Index index[1];
    const typename L::State before = x[0];
    words[0].prepare();
    L::template pop<0, 1>(decoders, x, index);
    if (!active) x[0] = before;  // at least 2^16: takes no word
    L::template refill<0, 1>(x, words);
    int32_t symbol = table.first_value + int32_t(index[0]);
    if constexpr (kEscape) {
      const bool escaped = active && int(index[0]) == table.escape_index;
      const uint32_t all = W::ballot(escaped);
      if (all != 0) {
        const int64_t position = (escapes + count_bits(all & V::lanes_below())) * table.raw_bits;
        if (escaped) symbol = table.raw_min + (position + table.raw_bits <= 16 * words_there ? int32_t(raw_value_at(chunk.end, position, table.raw_bits)) : 0);
        escapes += count_bits(all);
      }
    }
    if (active) sink(i, symbol);
  };
  const int64_t full = chunk.symbols / format::kLanes * format::kLanes;
  for (int64_t begin = 0; begin < full; begin += format::kLanes) row(begin + W::lane(), true);
  if (full < chunk.symbols) row(full + W::lane(), full + W::lane() < chunk.symbols);
  L::store(state, x[0]);

  const int64_t used = words[0].taken() + raw_words(escapes, table.raw_bits);
  if (used > words_there) return Status::kWordsExhausted;
  if (used < words_there) return Status::kWordsLeft;
  return zeros_follow(chunk.end, escapes * table.raw_bits) ? Status::kOk : Status::kNonzeroPadding;
}

}  // namespace ANS_TARGET
}  // namespace ans::core
