// A linear predictor along the lines of matrices, which several matrices may share (BITSTREAM.md, section 7.3).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/status.h"

namespace ans::core {

constexpr int64_t kMaxPeriod = 4096;
constexpr int kMaxShift = 8;

// Lines are cut into blocks of `period` columns. Column j of a block is predicted from the columns k of the same block with j - window <= k < j, with coefficients in units of 2^-shift.
struct Predictor {
  bool stationary = false;            // the coefficients depend on j - k alone
  int shift = 6;                      // 1 … kMaxShift
  int64_t period = 0, window = 0;     // 2 … kMaxPeriod; 1 … period - 1
  std::vector<int32_t> coefficients;  // -128 … 127. Stationary: [window], the nearest column first; otherwise the rows of a triangle, row j holding those of min(j, window) columns
  std::vector<int32_t> scale;         // [period] or empty: what scales of columns may be sent relative to, in eighths of an octave
};

// Coefficients of a triangle.
int64_t coefficient_count(int64_t period, int64_t window);

std::vector<uint8_t> write_predictor(const Predictor& predictor);

// From *data on, which moves behind the predictor. *coefficients may still be read, and become fewer: a few bytes can declare many.
Status read_predictor(const uint8_t** data, const uint8_t* end, int64_t* coefficients, Predictor* predictor);

}  // namespace ans::core
