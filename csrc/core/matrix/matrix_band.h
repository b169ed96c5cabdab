// A band: up to 32 lines that are coded side by side, a lane each. Gathers what the lanes need to know about their lines, and brings symbols to lanes and back.
#pragma once
#include <cstdint>
#include <vector>

#include "core/host_device.h"
#include "core/matrix/matrix_model.h"
#include "core/matrix/matrix_tables.h"

namespace ans::core {

// The lines of a matrix in memory. Line-major, whatever the view: a transposed matrix is copied.
struct MatrixLines {
  int64_t columns;
  const uint32_t* start;    // where averages start: [lines] or null
  const int32_t* order;     // position -> line; null: as they are
  uint8_t* symbols;         // [lines][columns] of `type`
  format::SymbolType type;
  const uint8_t* given;     // another matrix, [lines][columns], or null
  const int32_t* given_factor;
  const int32_t* factor;    // or null
  const int32_t* reference;
  bool alternating;         // of `factor`

  int64_t line_at(int64_t position) const;
  int64_t line_bytes() const;
  uint8_t* line(int64_t i) const;
  static int32_t value(format::SymbolType type, const uint8_t* line, int64_t column);
};

// The lines of a model's matrix. `given`: the matrix that it refers to, line-major, if it needs one. Model, tables and order must stay.
MatrixLines make_matrix_lines(const MatrixModel& model, const MatrixTables& tables, const LineOrder& order, format::SymbolType type, uint8_t* symbols, const uint8_t* given);

class MatrixBand {
 public:
  MatrixBand(const MatrixTables& tables, format::SymbolType type);

  // Lanes for lines [position, position + width) of the order; lanes beyond are as idle as can be.
  void open(const MatrixLines& lines, int64_t position, int width);
  // Symbols of the lines -> lanes, and back.
  void load(const MatrixLines& lines);
  void save(const MatrixLines& lines, int64_t first_column = 0);

  // What lanes start from; the arrays belong to this band until it is opened again. What compiled backends see are plain addresses: functions in this header would be compiled by
  // several of them.
  struct View {
    int width;
    const uint32_t *start, *rest;  // [32]
    const int16_t* references;     // [columns][32], eighths; or null
    uint8_t* bytes;                // symbols, [columns][32]; of 16-bit types null, and these are there instead:
    int16_t* wide;
    uint32_t* pairs;
  };
  View view();
  // A copy of a chunk, with `slack` zeros behind it.
  const uint8_t* copy_of(const uint8_t* bytes, int64_t size, int64_t slack);

 private:
  template <class Symbol>
  Symbol* lanes();
  template <class Symbol>
  void load_as(const MatrixLines& lines);
  template <class Symbol>
  void save_as(const MatrixLines& lines, int64_t first_column);
  void add_reference(const MatrixLines& lines, const uint8_t* line, int32_t factor, int32_t odd_factor, int lane);

  int64_t columns_, position_ = 0;
  int width_ = 0;
  bool has_references_ = false;
  alignas(64) uint32_t start_[format::kLanes], rest_[format::kLanes];
  std::vector<int16_t> references_;  // [columns][32], eighths
  std::vector<uint8_t> bytes_;
  std::vector<int16_t> wide_;
  std::vector<uint32_t> pairs_;
  std::vector<uint8_t> copy_;
};

// Where symbols lie in a chunk: band after band, column after column, line after line.
struct ChunkShape {
  int64_t lines, columns;

  ANS_HD int64_t symbols() const { return lines * columns; }
  ANS_HD int64_t bands() const { return (lines + format::kLanes - 1) / format::kLanes; }
  ANS_HD int64_t rows() const { return bands() * columns; }
  ANS_HD int band_width(int64_t band) const { return int(lines - band * format::kLanes < format::kLanes ? lines - band * format::kLanes : format::kLanes); }
  // Row and lane of a symbol, as row * 32 + lane.
  ANS_HD int64_t place(int64_t symbol) const {
    const int64_t full = lines / format::kLanes * format::kLanes * columns, width = lines % format::kLanes;
    if (symbol < full) return symbol;
    return full + (symbol - full) / width * format::kLanes + (symbol - full) % width;
  }
};

}  // namespace ans::core
