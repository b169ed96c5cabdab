// What a compiled backend offers: rows of up to `streams` chunks at once, unchecked. The callers (chunk_encoder, chunk_decoder) keep it inside its buffers.
#pragma once
#include <cstdint>

#include "core/coder_tables.h"
#include "core/float_formats.h"
#include "core/raw_values.h"

namespace ans::core {

constexpr int64_t kRowBytes = 2 * format::kLanes;  // a word for every lane: more, no row takes

struct DecodeStream {
  const DecodeTable* table;
  uint32_t* state;       // [32]
  const uint8_t* words;  // next word; any alignment
  void* out;             // next row
  RawReader* raws;       // of the escapes (tables with an escape only)
};

// Where rows of 32 lie in a matrix of weights: the next one is `left` rows from the end of a matrix row of `length` rows of 32.
struct WeightRow {
  const float* scale;  // of this matrix row; the scales of the others follow. Finite
  int64_t left, length;
};

struct EncodeStream {
  uint32_t* state;       // [32]
  uint8_t* words;        // one past the next word: moves down; any alignment
  const uint8_t* index;  // indices of the rows to encode
};

struct IndexResult {
  int64_t escapes = 0;   // symbols that are escaped
  bool invalid = false;  // some symbol is not in the table
};

struct RowCoder {
  // Streams to interleave, for tables of `buckets` buckets.
  int (*decode_streams)(int buckets);
  int (*encode_streams)(int buckets);
  // Whether tables of `buckets` buckets are decoded by their slots.
  bool (*uses_slots)(int buckets, int symbol_bytes);

  // Decodes `rows` rows of each stream. The tables have the same number of buckets and bytes per symbol; streams of one table are the fastest.
  // Reads at most 32 words per row and stream, and may load, but not use, 32 more.
  void (*decode_rows)(DecodeStream* streams, int count, int64_t rows);
  // A row of which the first `active` lanes count; writes a full row at `out`, does not advance it.
  void (*decode_partial_row)(DecodeStream* stream, int active);

  // decode_rows straight to weights: `out` takes fp16 or bf16 numbers. For tables of 64 buckets and 8-bit symbols. Null where the backend has no such thing.
  void (*decode_weight_rows)(DecodeStream* streams, WeightRow* places, int count, int64_t rows, FloatType type);

  // Indices of n symbols, the raw values of those that are escaped, and per lane the sum of the costs (bits * 4096 mod 2^16; without raw values), added to
  // cost[32]. `index` has room for whole rows, `raw` for n + 64 (null without an escape).
  IndexResult (*index_symbols)(const EncodeTable& table, const void* symbols, int64_t n, uint8_t* index, uint16_t* raw, uint16_t* cost);
  // Writes at most 32 words per row and stream; 64 bytes below `words` may be overwritten.
  void (*encode_rows)(const EncodeTable& table, EncodeStream* streams, int count, int64_t rows);
  void (*encode_partial_row)(const EncodeTable& table, EncodeStream* stream, int active);
};

}  // namespace ans::core
