// A band: up to 32 lines that are coded side by side, a lane each. Gathers what the lanes need to know about their lines, and brings symbols to lanes and back.
#pragma once
#include <cstdint>
#include <vector>

#include "core/matrix/matrix_model.h"
#include "core/matrix/matrix_tables.h"

namespace ans::core {

// The lines of a matrix in memory. Line-major, whatever the view: a transposed matrix is copied.
struct MatrixLines {
  int64_t columns;
  const uint32_t* start;    // where averages start: [lines] or null
  const int32_t* order;     // position -> line; null: as they are
  uint8_t* symbols;         // [lines][columns]
  bool is_signed;
  const uint8_t* given;     // another matrix, [lines][columns], or null
  const int32_t* given_factor;
  const int32_t* factor;    // or null
  const int32_t* reference;

  int64_t line_at(int64_t position) const { return order == nullptr ? position : order[position]; }
  uint8_t* line(int64_t i) const { return symbols + i * columns; }
  int32_t value(uint8_t symbol) const { return is_signed ? int8_t(symbol) : symbol; }
};

class MatrixBand {
 public:
  explicit MatrixBand(const MatrixTables& tables);

  // Lanes for lines [position, position + width) of the order; lanes beyond are as idle as can be.
  void open(const MatrixLines& lines, int64_t position, int width);
  // Symbols of the lines -> lanes, and back.
  void load(const MatrixLines& lines);
  void save(const MatrixLines& lines) const;

  int width() const { return width_; }
  const uint32_t* start() const { return start_; }
  const uint32_t* rest() const { return rest_; }
  const int16_t* references() const { return has_references_ ? references_.data() : nullptr; }
  uint8_t* symbols() { return symbols_.data(); }  // [columns][32]
  uint32_t* pairs() { return pairs_.data(); }

 private:
  void add_reference(const MatrixLines& lines, const uint8_t* line, int32_t factor, int lane);

  int64_t columns_, position_ = 0;
  int width_ = 0;
  bool has_references_ = false;
  alignas(64) uint32_t start_[format::kLanes], rest_[format::kLanes];
  std::vector<int16_t> references_;  // [columns][32], eighths
  std::vector<uint8_t> symbols_;
  std::vector<uint32_t> pairs_;
};

// Where symbols lie in a chunk: band after band, column after column, line after line.
struct ChunkShape {
  int64_t lines, columns;

  int64_t symbols() const { return lines * columns; }
  int64_t bands() const { return (lines + format::kLanes - 1) / format::kLanes; }
  int64_t rows() const { return bands() * columns; }
  int band_width(int64_t band) const { return int(lines - band * format::kLanes < format::kLanes ? lines - band * format::kLanes : format::kLanes); }
  // Row and lane of a symbol, as row * 32 + lane.
  int64_t place(int64_t symbol) const {
    const int64_t full = lines / format::kLanes * format::kLanes * columns, width = lines % format::kLanes;
    if (symbol < full) return symbol;
    return full + (symbol - full) / width * format::kLanes + (symbol - full) % width;
  }
};

}  // namespace ans::core
