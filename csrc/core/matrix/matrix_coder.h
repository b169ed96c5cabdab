// What a compiled backend offers for the chunks of matrix streams.
#pragma once
#include <cstdint>

#include "core/directory.h"
#include "core/matrix/matrix_band.h"
#include "core/matrix/steady_rows.h"
#include "core/status.h"

namespace ans::core {

// A symbol as a row leaves it for those who count or encode: context << 8 | residual + 128, where 0 and 255 stand for all residuals that are too far.
using Place = uint32_t;
constexpr uint32_t kPlacesPerContext = 256;

// Rows that dot_rows() takes at once.
constexpr int kDotRows = 8;

struct MatrixDecodeJob {
  const MatrixLines* lines;
  const MatrixRows* rows;   // of the chunk's part
  ContextSlots tables;
  int64_t position, count;  // lines of the chunk, in the order of lines
  const uint8_t* bytes;     // 2 * entry.words of them
  const uint8_t* readable_end;  // up to here memory can be read
  ChunkEntry entry;         // has passed check_chunk()
  int raw_bits;
  int32_t raw_min;
  const SteadyRows* steady;  // of the part, or null
};

struct MatrixCoder {
  // All symbols of some chunks of one part, up to kSteadyStreams. Reads nothing outside them, whatever they hold. bands: one for each.
  Status (*decode_chunks)(const MatrixDecodeJob* jobs, int count, MatrixBand* const* bands);
  // Places of all symbols of `count` lines of one part, [rows][32]; those of idle lanes mean nothing. False if lines are none that the trellis has.
  bool (*find_places)(const MatrixLines& lines, const MatrixRows& rows, int64_t position, int64_t count, MatrixBand* band, Place* places);
  // Predictions of all symbols of `count` lines of a model that predicts, in eighths, [count][columns].
  void (*find_predictions)(const MatrixLines& lines, const MatrixRows& rows, int64_t position, int64_t count, MatrixBand* band, int16_t* predictions);
  // sums[kDotRows][32]: dot products of 16-bit vectors, of `pairs` pairs each; see dot_rows().
  void (*dot_rows)(const uint32_t* lanes, const uint32_t* rows, int64_t stride, int64_t pairs, int32_t* sums);
  // masks[kDotRows], of such sums: bit i is set where that of lane i is beyond -threshold … threshold (less than 2^30).
  void (*find_beyond)(const int32_t* sums, uint32_t threshold, uint32_t* masks);
  // y[i] += a * x[i], each product and each sum rounded.
  void (*add_multiple)(double a, const double* x, double* y, int64_t n);
  // Pushes rows of a chunk, the last one first, in which the lanes below `width` count. A symbol is context << 8 | index. 64 bytes below the words may be overwritten.
  void (*push_rows)(const EncodeTable* tables, const uint32_t* symbols, int64_t rows, int width, uint32_t* state, uint8_t** words);
};

}  // namespace ans::core
