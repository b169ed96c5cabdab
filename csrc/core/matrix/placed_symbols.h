// The symbols of a matrix chunk once their contexts are known, as those take them who code them: tails, seeds and rows.
#pragma once
#include <cstdint>

#include "core/matrix/matrix_band.h"
#include "core/seeding.h"

namespace ans::core {

// As push_backwards() and SeedChooser want them.
struct PlacedSymbols {
  const EncodeTable* tables;  // by context
  const uint32_t* symbols;    // [rows][32]: context << 8 | index
  const uint16_t* raw;        // the end of the raw values
  ChunkShape shape;

  ANS_HD const EncodeTable& table(int64_t i) const { return tables[symbols[shape.place(i)] >> 8]; }
  ANS_HD uint8_t index(int64_t i) const { return uint8_t(symbols[shape.place(i)]); }
  ANS_HD uint16_t take_raw(int64_t) { return *--raw; }
  ANS_HD int lane(int64_t i) const { return int(shape.place(i) % format::kLanes); }
};

// A narrow chunk, written so that it ends at `end`; returns its words.
ANS_HD int encode_narrow_chunk(PlacedSymbols symbols, uint16_t* end) {
  TailEncoder tail;
  tail.reset(end);
  push_backwards(tail, symbols, symbols.shape.symbols());
  return tail.finish();
}

// Tail and states of a wide chunk. cost[32] is changed; tail_words: room for kSeedTailWords.
ANS_HD Seeds choose_matrix_seeds(const PlacedSymbols& symbols, uint16_t* cost, MantissaLogs logs, uint16_t* tail_words) {
  SeedChooser<PlacedSymbols> chooser;
  chooser.begin(symbols, symbols.shape.symbols(), symbols.shape.rows(), cost, logs, tail_words);
  SeedChooser<PlacedSymbols>* choosers[1] = {&chooser};
  Seeds seeds;
  choose_seeds(choosers, 1, &seeds);
  return seeds;
}

// The rows of the first `main` symbols, from the last one on: push(first, last, width) for rows [first, last) in which the lanes below `width` count. They are one that is not
// full, those of a band that is not full, all others.
template <class Push>
ANS_HD void for_rows_backwards(const ChunkShape& shape, int64_t main, const Push& push) {
  const int64_t full_rows = shape.lines / format::kLanes * shape.columns, last_place = shape.place(main - 1), last_row = last_place / format::kLanes;
  const int used = int(last_place % format::kLanes) + 1, last_width = int(last_row < full_rows ? format::kLanes : shape.lines % format::kLanes);
  int64_t rows = last_row + 1;
  if (used < last_width) push(--rows, last_row + 1, used);
  const int64_t full = full_rows < rows ? full_rows : rows;
  if (full < rows) push(full, rows, last_width);
  if (full > 0) push(int64_t{0}, full, int(format::kLanes));
}

}  // namespace ans::core
