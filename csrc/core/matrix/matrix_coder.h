// What a compiled backend offers for the chunks of matrix streams.
#pragma once
#include <cstdint>

#include "core/directory.h"
#include "core/matrix/matrix_band.h"
#include "core/status.h"

namespace ans::core {

// A symbol as a row leaves it for those who count or encode: context << 8 | residual + 128, where 0 and 255 stand for all residuals that are too far.
using Place = uint32_t;
constexpr uint32_t kPlacesPerContext = 256;

struct MatrixDecodeJob {
  const MatrixLines* lines;
  const ContextDecodeTables* tables;
  int64_t position, count;  // lines of the chunk, in the order of lines
  const uint8_t* bytes;     // 2 * entry.words of them
  ChunkEntry entry;         // has passed check_chunk()
  int raw_bits;
  int32_t raw_min;
};

struct MatrixCoder {
  // All symbols of a chunk. Reads nothing outside it, whatever it holds.
  Status (*decode_chunk)(const MatrixDecodeJob& job, MatrixBand* band);
  // Places of all symbols of `count` lines, [rows][32]; those of idle lanes mean nothing.
  void (*find_places)(const MatrixLines& lines, int64_t position, int64_t count, MatrixBand* band, Place* places);
  // Pushes rows [first, end) of a chunk, the last one first, of which the lanes below width(row) count. A symbol is context << 8 | index. 64 bytes below the words may be overwritten.
  void (*push_rows)(const EncodeTable* tables, const uint32_t* symbols, int64_t rows, int width, uint32_t* state, uint8_t** words);
};

}  // namespace ans::core
