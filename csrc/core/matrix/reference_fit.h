// Which lines are worth predicting from another line, and from which.
#pragma once
#include <cstdint>
#include <vector>

#include "core/matrix/matrix_coder.h"
#include "core/matrix/fit_threads.h"
#include "core/matrix/residuals.h"

namespace ans::core {

// Of every column, 1 / (variance + a little) in the lines of a part, by which squares of residuals are weighted.
std::vector<double> column_weights(const Residuals& residuals, const std::vector<int32_t>& part, int32_t number);

struct References {
  std::vector<int32_t> given_factor, factor, reference;  // as MatrixModel has them; factors are all 0 where it does not pay
  double gain_bits = 0;                                  // estimated, names and factors paid for
};

struct ReferenceOptions {
  bool nearest = true;  // look for lines of the same matrix
  int depth = 4;        // levels of references
};

// What is left of every matrix under the predictors of this one's parts: the residuals of a line, and those of its references under the same predictor. Means are taken off.
struct ReferenceInput {
  const std::vector<Residuals>* own;    // [predictors]
  const std::vector<Residuals>* seen;   // as other lines of this matrix see them; null: the same
  const std::vector<Residuals>* given;  // [predictors] of the other matrix, or null
  const std::vector<int32_t>* part;     // [lines]: which predictor
};
References fit_references(const MatrixCoder& coder, const Parallel& parallel, const ReferenceInput& input, const ReferenceOptions& options);

}  // namespace ans::core
