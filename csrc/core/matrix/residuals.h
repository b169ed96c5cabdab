// What predictions leave of a matrix, in memory: what the fits of this folder look at.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "core/matrix/matrix_coder.h"
#include "core/matrix/fit_threads.h"
#include "core/matrix/predictor.h"

namespace ans::core {

// Variance of a symbol's rounding, in eighths squared.
constexpr double kRounding = kPhases * kPhases / 12.0;

// Lines of 8-bit symbols, line-major.
struct LineSet {
  const uint8_t* symbols;
  format::SymbolType type;
  int64_t lines, columns;

  int32_t value(int64_t i) const { return type == format::SymbolType::kU8 ? symbols[i] : int8_t(symbols[i]); }
};

// [lines][columns] in eighths of a symbol.
struct Residuals {
  int64_t lines = 0, columns = 0;
  std::vector<int16_t> value;

  const int16_t* line(int64_t i) const { return value.data() + i * columns; }
  int16_t* line(int64_t i) { return value.data() + i * columns; }
};

// Without means or references; predictor: null for none.
Residuals residuals_of(const MatrixCoder& coder, const Parallel& parallel, const LineSet& lines, const std::shared_ptr<const Predictor>& predictor);

// Sums of term(line, column) over lines, column by column. Integers, so threads do not matter.
template <class Term>
std::vector<int64_t> column_sums(const Parallel& parallel, int64_t lines, int64_t columns, const Term& term) {
  std::vector<int64_t> sums(size_t(columns), 0);
  std::mutex merging;
  parallel(lines, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> own(sums.size(), 0);
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < columns; ++j) own[size_t(j)] += term(i, j);
    const std::lock_guard<std::mutex> lock(merging);
    for (size_t j = 0; j < own.size(); ++j) sums[j] += own[j];
  });
  return sums;
}

// Subtracts the mean of every column.
void take_means(const Parallel& parallel, Residuals* residuals);

}  // namespace ans::core
