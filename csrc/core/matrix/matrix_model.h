// What a matrix stream says about its matrix before the symbols come (BITSTREAM.md, section 7): how it is cut into lines, and everything that predicts a symbol.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/matrix/limits.h"
#include "core/matrix/predictor.h"
#include "core/status.h"
#include "format/bitstream.h"

namespace ans::core {

// A line's running average of how large its residuals are.
struct Adaptation {
  int rate = 0;    // 0: unused; the average moves by 2^-rate of the distance; kHeld: it stays where it starts
  int weight = 0;  // in eighths: how much of its logarithm is added to the scale
};
constexpr int kHeld = 15;

struct ClassShape {
  int32_t offset = 0;  // to the class's middle, in sixteenths of an octave
  int32_t shape = 7;
};

using PredictorList = std::vector<std::shared_ptr<const Predictor>>;

// Lines that are predicted in the same way.
struct MatrixPart {
  std::shared_ptr<const Predictor> predictor;  // or null; one of the model's
  std::vector<int32_t> scale;                  // [columns], eighths of an octave
  std::vector<int32_t> mean;                   // [columns] or empty, eighths of a symbol
};

struct MatrixModel {
  // The view: line i, column j is element i * columns + j, or (transposed) j * lines + i.
  int64_t lines = 0, columns = 0;
  bool transposed = false;
  int trellis = 0;  // states of the machine that symbols follow; 0: there is none
  int64_t chunk_lines = 0;

  int buckets = 64;
  int raw_bits = 8;
  int32_t raw_min = -128;

  // Scale classes.
  std::vector<int32_t> line_start;  // [lines] or empty: eighths of an octave
  Adaptation adaptation[2];
  int class_shift = 2;              // a class is 2^class_shift sixteenths of an octave wide
  int32_t class_origin = 0;         // where class 0 begins
  std::vector<ClassShape> classes;

  // Prediction.
  PredictorList given;              // predictors that come from elsewhere
  PredictorList own;
  std::vector<int64_t> own_begin;   // of a header that was read: where each of these begins, and where the last ends
  std::vector<MatrixPart> parts{1};
  std::vector<int32_t> part;        // [lines], or empty if there is one part

  // References: a line of another matrix with the same index, a line of this one.
  bool has_given_reference = false, given_transposed = false;
  std::vector<int32_t> given_factor;  // [lines] or empty
  std::vector<int32_t> factor;        // [lines] or empty; 0: no reference
  std::vector<int32_t> reference;     // [lines] or empty
  bool alternating = false;           // `factor` counts negative in odd columns

  int64_t numel() const { return lines * columns; }
  int part_of(int64_t line) const { return part.empty() ? 0 : int(part[size_t(line)]); }
  bool predicts() const;
  int phases() const { return predicts() ? kPhases : trellis != 0 ? 2 : 1; }  // of a class: how many of the kPhases have a table
  int contexts() const { return int(classes.size()) * phases(); }
  int phase_of(int context) const { return context % phases() * (phases() == 2 ? kPhases / 2 : 1); }
  int class_middle(int k) const;     // of the scales of what is coded
  int class_log_scale(int k) const;  // of its tables
};

// The header, without the directory. The model is legal.
std::vector<uint8_t> write_matrix_model(const MatrixModel& model);

// What a stream needs beside its bytes.
struct MatrixNeeds {
  int predictors;
  bool reference;
  int trellis;      // and beside: states of its machine, or 0
  int64_t columns;  // of its lines
};
Status read_matrix_needs(const uint8_t* data, int64_t size, int64_t numel, format::SymbolType type, MatrixNeeds* needs);

// What is coded for a symbol is the symbol, or half of it.
constexpr int32_t coded_min(format::SymbolType type, int trellis) { return format::symbol_min(type) >> (trellis != 0); }
constexpr int32_t coded_max(format::SymbolType type, int trellis) { return format::symbol_max(type) >> (trellis != 0); }

// Parses the header of a stream of numel symbols that was made with the given predictors; *consumed is its size. Memory that it takes is within some times numel + size.
Status read_matrix_model(const uint8_t* data, int64_t size, int64_t numel, format::SymbolType type, const PredictorList& given, MatrixModel* model, int64_t* consumed);

// In which order lines are coded, and in which chunks. A line is of a higher level than its reference; levels follow one another, within each its parts, and each of these has
// chunks of its own.
struct LineOrder {
  std::vector<int32_t> line;         // [lines]: the line that comes next; empty: as they are
  std::vector<int64_t> chunk_begin;  // [chunks + 1], positions in that order
  std::vector<int> chunk_part;       // [chunks]
  std::vector<int64_t> level_begin;  // [levels + 1], chunks

  int64_t chunks() const { return int64_t(chunk_begin.size()) - 1; }
  int64_t chunk_lines(int64_t chunk) const { return chunk_begin[size_t(chunk) + 1] - chunk_begin[size_t(chunk)]; }
};

// kReferenceCycle: lines that refer to each other.
Status make_line_order(const MatrixModel& model, LineOrder* order);

}  // namespace ans::core
