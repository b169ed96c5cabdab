// Chunks of one stream, encoded with a backend's row functions.
#pragma once
#include <cstdint>
#include <vector>

#include "core/byte_buffer.h"
#include "core/directory.h"
#include "core/row_coder.h"
#include "core/seeding.h"

namespace ans::core {

// A chunk and its entry. The bytes lie at the end of their buffer, since words are written backwards.
struct EncodedChunk {
  ByteBuffer buffer;
  ChunkEntry entry;

  int64_t bytes() const { return 2 * int64_t(entry.words); }
  const uint8_t* begin() const { return buffer.data() + buffer.capacity() - bytes(); }
};

// Memory of an encoder, one per thread; worth keeping, because fresh memory is paged in while it is written.
struct EncodeScratch {
  static constexpr int kMaxStreams = 4;

  struct Slot {
    ByteBuffer index;
    ByteBuffer raw;           // uint16_t each: raw values of the escapes
    int64_t escapes = 0;
    ByteBuffer words;         // filled from its end
    uint8_t* next = nullptr;  // first word written so far
    int64_t symbols = 0;
    uint16_t cost[format::kLanes];
    uint32_t state[format::kLanes];
    int64_t rows = 0;         // full rows that are not yet encoded
    ChunkEntry entry{};
  };
  Slot slots[kMaxStreams];
  std::vector<ByteBuffer> spare;  // for words

  int64_t bytes() const {
    int64_t sum = 0;
    for (const Slot& s : slots) sum += s.index.capacity() + s.raw.capacity() + s.words.capacity();
    for (const ByteBuffer& b : spare) sum += b.capacity();
    return sum;
  }
};

class ChunkEncoder {
 public:
  ChunkEncoder(const RowCoder& coder, const EncodeTable& table, EncodeScratch& scratch)
      : coder_(coder), table_(table), slots_(scratch.slots), spare_(scratch.spare) {}

  // Encodes chunks [begin, end) of `numel` symbols (of table.symbol_bytes each) and appends them to `chunks`.
  Status encode(const void* symbols, int64_t numel, int64_t chunk_symbols, int64_t begin, int64_t end, std::vector<EncodedChunk>* chunks);

 private:
  static constexpr int kMaxStreams = EncodeScratch::kMaxStreams;
  using Slot = EncodeScratch::Slot;

  Status index_symbols(const void* symbols, int64_t n, Slot* slot);
  void begin_rows(const Seeds& seeds, Slot* slot);
  void encode_narrow(int64_t n, Slot* slot);
  void encode_full_rows(Slot** slots, int count);
  void make_room(Slot* slot, int64_t bytes);
  static const uint16_t* raw_of(const Slot& slot) { return reinterpret_cast<const uint16_t*>(slot.raw.data()); }

  const RowCoder& coder_;
  const EncodeTable& table_;
  // Symbols as index_symbols() leaves them.
  struct Indexed {
    const EncodeTable* stream_table;
    const uint8_t* indices;
    const uint16_t* raw;  // the end of the raw values
    const EncodeTable& table(int64_t) const { return *stream_table; }
    uint8_t index(int64_t i) const { return indices[i]; }
    static int lane(int64_t i) { return int(i % format::kLanes); }
    uint16_t take_raw(int64_t) { return *--raw; }
  };
  Indexed indexed(const Slot& slot) const { return {&table_, slot.index.data(), raw_of(slot) + slot.escapes}; }

  uint16_t narrow_words_[kNarrowWords];
  uint16_t tail_words_[kMaxStreams][kSeedTailWords];
  SeedChooser<Indexed> choosers_[kMaxStreams];
  Slot* slots_;
  std::vector<ByteBuffer>& spare_;
};

}  // namespace ans::core
