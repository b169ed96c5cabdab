// What lines cost under one predictor or another, by their residuals: how lines are dealt to the parts of a matrix.
#pragma once
#include <cstdint>
#include <vector>

#include "core/matrix/residuals.h"

namespace ans::core {

// Of a group of lines, column by column: means, and by what squares of residuals are weighted.
struct ColumnStatistics {
  std::vector<double> mean, inverse;  // inverse: 1 / (variance + that of rounding)
  double log_sum = 0;                 // half the sum of the variances' logarithms: bits of a line
};

// Of the lines for which chosen[line] == number (all, if `chosen` is empty).
ColumnStatistics column_statistics(const Parallel& parallel, const Residuals& residuals, const std::vector<int32_t>& chosen, int32_t number);

// Bits of a line, up to a constant, whatever its own scale.
double line_cost(const int16_t* residuals, int64_t columns, const ColumnStatistics& statistics);

// Deals lines to the residuals under which they cost least, means and variances being those of the lines that each group has: so many rounds, from `chosen` on or, if that is empty, from
// statistics of all lines. Groups of fewer than `least` lines are left empty.
std::vector<int32_t> deal_lines(const Parallel& parallel, const std::vector<Residuals>& residuals, int64_t least, int rounds, std::vector<int32_t> chosen, std::vector<double>* cost);

}  // namespace ans::core
