// Chunks of one stream, decoded with a backend's row functions, which know no bounds: the bounds are kept here. One object per thread.
#pragma once
#include <cstdint>
#include <vector>

#include "core/byte_buffer.h"
#include "core/directory.h"
#include "core/row_coder.h"
#include "core/scalar_coder.h"
#include "core/weight_target.h"

namespace ans::core {

class ChunkDecoder {
 public:
  ChunkDecoder(const RowCoder& coder, const DecodeTable& table) : coder_(coder), table_(table) {}

  // Decodes chunks [begin, end) to `out`, which receives symbol `begin * chunk_symbols` first. `payload` is the first byte of chunk `begin`; the entries (of all
  // chunks of the stream) have passed check_chunk(), and the payload holds the bytes that they announce; `payload_end` is where it ends (or later: what may be
  // read).
  Status decode(const uint8_t* payload, const uint8_t* payload_end, const ChunkEntry* entries, int64_t numel, int64_t chunk_symbols, int64_t begin, int64_t end, void* out);

  // The same straight to the weights that the symbols stand for.
  Status decode_weights(const uint8_t* payload, const uint8_t* payload_end, const ChunkEntry* entries, int64_t numel, int64_t chunk_symbols, int64_t begin, int64_t end,
                        const WeightTarget& target);

 private:
  static constexpr int kMaxStreams = 6;
  static constexpr int kSliceRows = 32;  // rows decoded from a padded copy before its end is checked
  static constexpr int64_t kLoadSlack = 64;
  static constexpr int64_t kMaxRowBytes = 4 * format::kLanes;

  struct Slot {
    uint32_t state[format::kLanes];
    const uint8_t* next;   // next word
    const uint8_t* end;    // where the words end
    bool padded;           // next and end lie in `copy`, zeros follow
    uint8_t* out;
    int64_t rows;          // full rows left
    int64_t symbols;
    int tail;
    std::vector<uint8_t> copy;
  };
  // Tails wait until there are as many as streams.
  struct PendingTail {
    TailDecoder<LanePayload> decoder;
    uint8_t* out;
    int count;
  };

  Status start(const uint8_t* bytes, const ChunkEntry& entry, int64_t symbols, uint8_t* out, Slot* slot);
  Status finish(Slot* slot);
  Status decode_slice(Slot** active, int* busy, Slot** idle, int* unused);
  int64_t safe_rows(const Slot& slot) const { return (payload_end_ - slot.next - kLoadSlack) / row_bytes(); }
  Status decode_group_of_weights(Slot** slots, int count, int64_t first_chunk, int64_t chunk_symbols, const WeightTarget& target);
  Status decode_pending_tails();
  void put_symbol(int32_t symbol, uint8_t* out, int i) const;
  void pad(Slot* slot);
  int64_t row_bytes() const { return 2 * format::kLanes * (table_.escape_index >= 0 ? 2 : 1); }

  const RowCoder& coder_;
  const DecodeTable& table_;
  const uint8_t* payload_end_ = nullptr;
  Slot slots_[kMaxStreams];
  PendingTail tails_[kMaxStreams];
  int pending_ = 0;
  ByteBuffer symbols_;         // of the chunks that become weights
  std::vector<float> scales_;  // of the rows of those chunks
};

}  // namespace ans::core
