// Chunks of a matrix stream, encoded. One object per thread.
#pragma once
#include <vector>

#include "core/chunk_encoder.h"
#include "core/matrix/matrix_coder.h"
#include "core/matrix/placed_symbols.h"

namespace ans::core {

class MatrixEncoder {
 public:
  MatrixEncoder(const MatrixCoder& coder, const MatrixLines& lines, const MatrixTables& rows, const ContextEncodeTables& tables, int raw_bits, int32_t raw_min)
      : coder_(coder), lines_(lines), rows_(rows), tables_(tables), raw_bits_(raw_bits), raw_min_(raw_min), band_(rows, lines.type) {}

  // The chunk of `count` lines of a part, from `position` of the order on. kSymbolNotInTable if an escaped symbol is none of the raw values, kNoTrellisPath.
  Status encode(int part, int64_t position, int64_t count, EncodedChunk* chunk);

 private:
  Status find_symbols(int part, int64_t position, const ChunkShape& shape);

  const MatrixCoder& coder_;
  const MatrixLines& lines_;
  const MatrixTables& rows_;
  const ContextEncodeTables& tables_;
  int raw_bits_;
  int32_t raw_min_;
  MatrixBand band_;
  std::vector<uint32_t> symbols_;
  std::vector<uint16_t> raw_;
  uint16_t cost_[format::kLanes];
  uint16_t narrow_words_[kNarrowWords], tail_words_[kSeedTailWords];
};

}  // namespace ans::core
