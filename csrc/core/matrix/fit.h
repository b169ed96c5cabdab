// A MatrixModel fitted to a matrix, given the predictors that its lines may use.
#pragma once
#include <cstdint>

#include "core/matrix/matrix_coder.h"
#include "core/matrix/fit_threads.h"
#include "core/matrix/residuals.h"

namespace ans::core {

struct FitInput {
  LineSet lines;                    // the matrix in one view; symbols of 16 bits limited to those that predictions know
  format::SymbolType type{};        // what they are of
  int32_t lowest = 0, highest = 0;  // of the symbols, not limited
  int trellis = 0;                  // states of the machine that they follow, or 0
  bool transposed = false;          // for the header only
  const uint8_t* given = nullptr;   // another matrix of the same shape, line-major, or null
  bool given_transposed = false;    // for the header only
  PredictorList predictors;         // whose periods divide the columns
  bool own = false;                 // the stream carries them
};

struct FitOptions {
  int64_t chunk_lines = 1024;
  bool means = true;
  bool nearest = false;          // look for reference lines
  int depth = 4;                 // levels of them
  bool by_size = false;          // without predictors: lines of like size are a part, and have scales of their own
  int adaptations = 100;         // so many ways to follow scales are tried; 0: they are not followed
  int64_t sample_symbols = 1 << 20;  // on which choices are made, about
};

struct FitResult {
  MatrixModel model;
  uint64_t symbol_bits;  // of all symbols, by the tables
  uint64_t chunk_bits;   // what chunks take beside, about: see chunk_bits_of()
};

FitResult fit_matrix(const MatrixCoder& coder, const Parallel& parallel, const FitInput& input, const FitOptions& options);

}  // namespace ans::core
