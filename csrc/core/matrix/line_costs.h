// What lines cost under one predictor or another, by their residuals: how lines are dealt to the parts of a matrix.
#pragma once
#include <cstdint>
#include <vector>

#include "core/matrix/residuals.h"

namespace ans::core {

// Squares of residuals of a column, weighted by what they are expected to be: [columns] of a group of lines.
struct ColumnVariances {
  std::vector<double> inverse;  // 1 / (variance + that of rounding)
  double log_sum = 0;           // half the sum of their logarithms: bits of a line
};

// Of the lines for which chosen[line] == number (all, if `chosen` is empty).
ColumnVariances column_variances(const Parallel& parallel, const Residuals& residuals, const std::vector<int32_t>& chosen, int32_t number);

// Bits of a line, up to a constant, whatever its own scale.
double line_cost(const int16_t* residuals, int64_t columns, const ColumnVariances& variances);

// Deals lines to the residuals under which they cost least, variances being those of the lines that each has: some rounds. Groups of fewer than `least` lines are left empty.
std::vector<int32_t> deal_lines(const Parallel& parallel, const std::vector<Residuals>& residuals, int64_t least, std::vector<double>* cost);

}  // namespace ans::core
