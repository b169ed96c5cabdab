// Chunks of one stream, encoded with a backend's row functions. One object per thread: it owns the scratch memory.
#pragma once
#include <cstdint>
#include <vector>

#include "core/byte_buffer.h"
#include "core/directory.h"
#include "core/row_coder.h"
#include "core/scalar_coder.h"

namespace ans::core {

class ChunkEncoder {
 public:
  ChunkEncoder(const RowCoder& coder, const EncodeTable& table) : coder_(coder), table_(table), tail_(table) {}

  // Encodes chunks [begin, end) of `numel` symbols (of table.symbol_bytes each); appends their bytes to `out` and their entries to `entries`.
  Status encode(const void* symbols, int64_t numel, int64_t chunk_symbols, int64_t begin, int64_t end, ByteBuffer* out, std::vector<ChunkEntry>* entries);

 private:
  static constexpr int kMaxStreams = 4;

  struct Slot {
    ByteBuffer index, raw;
    ByteBuffer words;       // filled from its end
    uint8_t* next = nullptr;  // first word written so far
    uint32_t state[format::kLanes];
    int64_t rows = 0;       // full rows that are not yet encoded
    ChunkEntry entry{};
  };

  Status prepare(const void* symbols, int64_t n, Slot* slot);
  void encode_narrow(int64_t n, Slot* slot);
  void encode_full_rows(Slot** slots, int count);
  void make_room(Slot* slot, int64_t bytes);
  int64_t row_bytes() const { return 2 * format::kLanes * (table_.escape_index >= 0 ? 2 : 1); }

  const RowCoder& coder_;
  const EncodeTable& table_;
  TailEncoder tail_;
  Slot slots_[kMaxStreams];
};

}  // namespace ans::core
