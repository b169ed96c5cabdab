// Rows of which only the trellis tells the lanes apart: no averages, no predictions. Then a column's tables are known before its symbols, and a backend may keep them in registers.
#pragma once
#include <cstdint>
#include <vector>

#include "core/host_device.h"
#include "core/matrix/matrix_tables.h"
#include "core/raw_values.h"

namespace ans::core {

constexpr int kSteadyBuckets = 64;  // at most
constexpr uint8_t kSteadyEscape = 0x80;

// Of a class: the tables of both parities of a state, of B buckets each. Entry parity * B + bucket or index.
struct alignas(64) SteadyTable {
  static constexpr int kEntries = 2 * kSteadyBuckets;
  uint16_t divider_alias[kEntries];  // as DecodeTable's, of positions of 12 - log2(B) bits; an alias is an entry
  uint16_t alias_offset[kEntries];
  uint16_t freq16[kEntries];
  uint8_t value[kEntries];           // symbol mod 256; of an escape anything
  uint8_t step[kEntries];            // what next state is XOR (state >> 1), but for an escape: kSteadyEscape, and what the state alone adds to that
};

struct SteadyTables {
  std::vector<SteadyTable> of_class;
  int buckets = 0;
  std::vector<std::vector<uint8_t>> class_of;  // [parts][columns]

  bool none() const { return of_class.empty(); }
};

// None if rows are not steady, or tables larger than kSteadyBuckets.
SteadyTables make_steady_tables(const MatrixModel& model, const MatrixTables& tables);

// Up to 32 lines that are decoded together, from some column on. All but `lines` moves on.
struct SteadyCursor {
  uint32_t* state;       // [32]
  uint32_t* walk;        // [32]: the trellis's
  const uint8_t* words;  // 64 bytes can be read at the words of each column
  RawReader* raws;
  uint8_t* const* lines; // [32]: where the first symbol goes, for `width` lines (others may be anywhere that can be read)
  int width;
};

struct SteadyRows {
  const SteadyTable* of_class;
  const uint8_t* class_of;  // [columns]
  int buckets;
  int64_t columns;          // so many
  format::SymbolType type;
  int32_t raw_min;
  uint32_t parity;          // MatrixRows::parity
  bool halved;              // there is a trellis
};

SteadyRows steady_rows_of(const MatrixModel& model, const MatrixTables& tables, const SteadyTables& steady, int part, format::SymbolType type);

constexpr int kSteadyStreams = 4;

}  // namespace ans::core
