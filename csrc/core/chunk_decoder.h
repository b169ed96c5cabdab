// Chunks, of one stream or of many, decoded with a backend's row functions, which know no bounds: the bounds are kept here. One object per thread.
#pragma once
#include <cstdint>
#include <vector>

#include "core/directory.h"
#include "core/row_coder.h"
#include "core/tail_decoder.h"
#include "core/weight_target.h"

namespace ans::core {

// A chunk to decode, and where to. The entry has passed check_chunk().
struct ChunkJob {
  const DecodeTable* table;
  const uint8_t* bytes;         // where the chunk begins
  const uint8_t* readable_end;  // up to here may be read: the end of the chunk or later
  ChunkEntry entry;
  int64_t symbols;
  uint8_t* out;                 // its first symbol; not for weights
  const WeightTarget* weights;  // null: symbols are wanted
  int64_t first_element;        // in the matrix of weights
};

class ChunkDecoder {
 public:
  explicit ChunkDecoder(const RowCoder& coder) : coder_(coder) {}

  // All chunks, to symbols or to weights. Chunks of equal tables are best neighbours; those of an equal number of buckets and bytes per symbol are good ones.
  Status decode(const ChunkJob* jobs, int64_t count);

 private:
  static constexpr int kMaxStreams = 6;
  static constexpr int kSliceRows = 32;    // rows decoded from a padded copy before its end is checked
  static constexpr int kWeightRows = 128;  // rows decoded before they become weights: they are still in the nearest cache
  static constexpr int64_t kLoadSlack = 64;

  // A chunk that is being decoded.
  struct Slot {
    const ChunkJob* job;
    uint32_t state[format::kLanes];
    const uint8_t* next;   // next word
    const uint8_t* end;    // where the chunk ends: the words, or the raw values of the escapes behind them
    RawReader raws;
    bool padded;           // next and end lie in `copy`, zeros follow
    uint8_t* out;          // next row; not for weights
    int64_t rows;          // full rows left
    int64_t element;       // of the weights: the first of the next row
    std::vector<float> scales;  // of the matrix rows that the chunk touches, if its rows can go straight to weights; otherwise empty
    std::vector<uint8_t> copy;
    alignas(64) uint8_t symbols[kWeightRows * format::kLanes * 2];  // that are to become weights

    // Rows that can not run past what may be read, whatever the words say.
    int64_t safe_rows() const { return padded ? kSliceRows : (job->readable_end - next - kLoadSlack) / kRowBytes; }
    void pad();
  };
  // Tails wait until there are as many as streams.
  struct PendingTail : Tail {
    const ChunkJob* job;
    int row_symbols;                                           // of the partial row, in front of the tail's
    uint8_t symbols[2 * (format::kLanes + format::kMaxTail)];  // all these, if they are to become weights
  };

  void start(const ChunkJob& job, Slot* slot);
  Status start_narrow(const ChunkJob& job);
  Status finish(Slot* slot);
  Status decode_slice(bool to_row_end);
  Status decode_pending_tails();
  void prepare_scales(Slot* slot);

  const RowCoder& coder_;
  Slot slots_[kMaxStreams];
  Slot* active_[kMaxStreams];
  Slot* idle_[kMaxStreams];
  int busy_ = 0, unused_ = 0;
  PendingTail tails_[kMaxStreams];
  int pending_ = 0;
};

}  // namespace ans::core
