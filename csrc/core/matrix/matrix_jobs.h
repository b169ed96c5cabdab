// Chunks of matrix streams for a GPU: plain data for the kernels, made on the host. Pointers are those of the device.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/host_device.h"
#include "core/matrix/matrix_tables.h"

namespace ans::core {

// Line i, column j is i * line_step + j * column_step bytes behind the first: a view needs no copy of the matrix.
struct MatrixMemory {
  uint8_t* symbols;
  int64_t line_step, column_step;
};

struct WarpMatrix {
  MatrixMemory own, given;          // `given`: the matrix that lines may refer to; without symbols if there is none
  const int32_t* order;             // position -> line; null: as they are
  const uint32_t* start;            // where averages start: [lines] or null
  const int32_t* given_factor;      // [lines], with `given`
  const int32_t *factor, *reference;  // [lines] or null
  ContextSlots tables;
  int32_t raw_min;
  int raw_bits;
  format::SymbolType type;
  bool alternating;
};

// A chunk whose entry has passed check_chunk().
struct MatrixJob {
  const uint8_t* begin;
  const uint8_t* end;
  int64_t position, lines;  // in the order of lines
  int32_t tail;
  int32_t matrix, rows;     // numbers: of its WarpMatrix, of the MatrixRows of its part
};

// A chunk to encode, and where its arrays begin among those of all.
struct MatrixEncodeJob {
  int64_t position, lines;  // in the order of lines
  int64_t first_row;        // of its rows of symbols
  int64_t first_symbol;     // of its raw values, as many as there are symbols at most
  int32_t rows;             // number of the MatrixRows of its part
};

// A chunk has room for max_chunk_words() of its symbols, behind that of those before it: where it ends, in words. symbols: of all chunks up to this one.
ANS_HD int64_t matrix_room_end(int64_t chunk, int64_t symbols) { return format::kStateWords * (chunk + 1) + 2 * symbols; }

}  // namespace ans::core
