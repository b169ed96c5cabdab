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

// Hands out the raw values of a chunk's escapes to the lanes that have one, rows in order.
template <class W>
class WarpRaws {
 public:
  // `words`: that the chunk has behind its states.
  ANS_INLINE WarpRaws(const uint8_t* end, int64_t words, int raw_bits) : end_(end), words_(words), raw_bits_(raw_bits), below_(W::opaque(VectorWarp<W>::lanes_below())) {}

  // In the lanes that are `escaped`; what does not fit into the chunk is 0.
  ANS_INLINE uint32_t take(bool escaped) {
    const uint32_t all = W::ballot(escaped);
    const int64_t position = (count_ + count_bits(all & below_)) * raw_bits_;
    count_ += count_bits(all);
    return escaped && position + raw_bits_ <= format::kWordBits * words_ ? raw_value_at(end_, position, raw_bits_) : 0;
  }
  // Whether the chunk held just these, beside so many words.
  ANS_INLINE Status check(uint32_t words_taken) const {
    const int64_t used = words_taken + raw_words(count_, raw_bits_);
    if (used > words_) return Status::kWordsExhausted;
    if (used < words_) return Status::kWordsLeft;
    return zeros_follow(end_, count_ * raw_bits_) ? Status::kOk : Status::kNonzeroPadding;
  }

 private:
  const uint8_t* end_;
  int64_t words_, count_ = 0;
  int raw_bits_;
  uint32_t below_;
};

// Decodes the symbols of the lanes: sink(i, symbol) takes number i of them, in the lane that has it. state[32] receives the final states, whose payloads are the tail
// bits. Nothing outside the chunk is read, whatever it holds. The status is the same in all lanes; all sinks have been called if it is kOk.
template <class W, bool kEscape, class Sink>
ANS_INLINE Status decode_chunk_rows(const WarpTable& table, const WarpChunk& chunk, uint16_t* ring, uint32_t* state, Sink sink) {
  using V = VectorWarp<W>;
  using L = Lanes32<V>;
  const typename L::Decoder decoders[1] = {{table.slots, table.first_value, table.escape_index}};
  const int lane = int(W::lane());
  const uint8_t* own = chunk.begin + 4 * lane;
  typename L::State x[1] = {uint32_t(own[0]) | uint32_t(own[1]) << 8 | uint32_t(own[2]) << 16 | uint32_t(own[3]) << 24};
  if (W::ballot(x[0] < format::kStateLowerBound) != 0) return Status::kStateOutOfRange;

  const uint8_t* const first_word = chunk.begin + 2 * format::kStateWords;
  const int64_t words_there = (chunk.end - first_word) / 2;
  WarpWords<W> words[1] = {{first_word, chunk.end, ring}};
  WarpRaws<W> raws(chunk.end, words_there, table.raw_bits);
  // A row of indices; lanes that are not `active` stay as they are: at least 2^16, which takes no word.
  auto pop_row = [&](bool active) -> uint32_t {
    typename L::Index index[1];
    const typename L::State before = x[0];
    L::template pop<0, 1>(decoders, x, index);
    x[0] = active ? x[0] : before;
    L::template refill<0, 1>(x, words);
    return index[0];
  };
  auto is_escape = [&](uint32_t index) { return int(index) == table.escape_index; };
  // The symbol of an index, in a row with some escape.
  auto resolve = [&](uint32_t index, bool active) -> int32_t {
    const bool escaped = active && is_escape(index);
    const uint32_t raw = raws.take(escaped);
    return escaped ? table.raw_min + int32_t(raw) : table.first_value + int32_t(index);
  };
  const int count = int(chunk.symbols), rows = count / format::kLanes;
  static_assert(WarpWords<W>::kRowsAtOnce == 2);
  int i = lane;
  for (int pairs = rows / 2; pairs > 0; --pairs, i += 2 * format::kLanes) {
    words[0].prepare();
    const uint32_t first = pop_row(true), second = pop_row(true);
    int32_t symbols[2] = {table.first_value + int32_t(first), table.first_value + int32_t(second)};
    if constexpr (kEscape) {
      if (W::ballot(is_escape(first) || is_escape(second)) != 0) {
        symbols[0] = resolve(first, true);
        symbols[1] = resolve(second, true);
      }
    }
    sink(i, symbols[0]);
    sink(i + format::kLanes, symbols[1]);
  }
  words[0].prepare();
  for (int row = rows / 2 * 2; row * format::kLanes < count; ++row, i += format::kLanes) {  // one that is left over, one that is not full
    const bool active = i < count;
    const uint32_t index = pop_row(active);
    const int32_t symbol = kEscape ? resolve(index, active) : table.first_value + int32_t(index);
    if (active) sink(i, symbol);
  }
  L::store(state, x[0]);

  return raws.check(words[0].taken());
}

}  // namespace ANS_TARGET
}  // namespace ans::core
