// Matrix streams (BITSTREAM.md, section 7) taken apart on the host, for every device.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "core/directory.h"
#include "core/matrix/matrix_model.h"
#include "torch/checks.h"

namespace ans::ops {

// Predictors, from their bytes (uint8 tensors on the CPU).
core::PredictorList parse_predictors(const char* op, const std::vector<Tensor>& predictors);

// The arguments of encode_matrix, checked.
struct MatrixHeader {
  MatrixHeader(const char* op, const Tensor& symbols, const Tensor& header, const std::vector<Tensor>& predictors, const std::optional<Tensor>& reference);

  format::SymbolType type;
  std::vector<uint8_t> bytes;
  core::MatrixModel model;
  core::LineOrder order;
  std::optional<Tensor> reference;  // if the model needs it: contiguous
};

// A stream in host memory, taken apart; everything but the chunks themselves is checked. `which` begins the text of an error.
struct MatrixStream {
  MatrixStream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given, bool has_reference);

  core::MatrixModel model;
  core::LineOrder order;
  std::vector<core::ChunkEntry> entries;
  std::vector<int64_t> begin;  // of the chunks, from the stream's first byte
};

// Why a symbol is refused, whichever way.
constexpr const char* kForeignSymbols = "a symbol is none that the header knows, or none that its trellis has there";

// Streams that are decoded together, since they refer to one another's symbols.
struct MatrixSource {
  std::string which;
  Tensor stream;  // contiguous, on any device
  int64_t numel;
  format::SymbolType type;
  uint8_t* out;
  core::PredictorList predictors;
  int64_t reference_source = -1;               // an earlier one of these, to whose symbols this one refers
  std::optional<Tensor> reference_symbols{};   // these, or those of another matrix: contiguous, as many, of the same dtype

  const uint8_t* reference() const { return reference_symbols.has_value() ? static_cast<const uint8_t*>(reference_symbols->const_data_ptr()) : nullptr; }
};

// The arguments of decode_matrices_out, checked. A reference is an earlier stream, or given[i] for number streams + i; -1: none.
std::vector<MatrixSource> matrix_sources(const char* op, const std::vector<Tensor>& streams, const std::vector<Tensor>& predictors, const std::vector<int64_t>& predictor_counts,
                                         const std::vector<Tensor>& given, const std::vector<int64_t>& reference_of, const std::vector<Tensor>& outs);

}  // namespace ans::ops
