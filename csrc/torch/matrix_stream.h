// Matrix streams (BITSTREAM.md, section 7) in host memory, taken apart and decoded.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/directory.h"
#include "core/matrix/matrix_band.h"
#include "core/matrix/matrix_coder.h"
#include "core/matrix/matrix_model.h"
#include "cpu/backends.h"
#include "torch/checks.h"
#include "torch/parallel.h"

namespace ans::ops {

// Predictors, from their bytes (uint8 tensors).
core::PredictorList parse_predictors(const char* op, const std::vector<Tensor>& predictors);

// The matrix that a stream's lines may refer to: as it lies in memory, or nothing.
struct ReferenceMatrix {
  const uint8_t* symbols = nullptr;
};

// A stream taken apart; everything but the chunks themselves is checked.
struct MatrixStream {
  MatrixStream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given, bool has_reference);

  core::MatrixModel model;
  core::LineOrder order;
  std::vector<core::ChunkEntry> entries;
  std::vector<const uint8_t*> begin;  // of the chunks
};

// Decodes the stream of `numel` symbols (8-bit) to out. `which` begins the text of an error.
void decode_matrix_stream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given,
                          ReferenceMatrix reference, uint8_t* out);

// to[j * lines + i] = from[i * columns + j]
void transpose_bytes(const uint8_t* from, int64_t lines, int64_t columns, uint8_t* to);

}  // namespace ans::ops
