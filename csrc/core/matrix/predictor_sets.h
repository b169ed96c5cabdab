// Sets of predictors for the lines of several matrices, each line using the one that suits it best.
#pragma once
#include <vector>

#include "core/matrix/line_costs.h"
#include "core/matrix/predictor_fit.h"

namespace ans::core {

struct PredictorSet {
  std::vector<FittedPredictor> predictors;
  double bits = 0;  // of all lines, up to a constant, with coefficients and choices
};

// Sets of 1 … most predictors for the lines of all matrices, whose columns are the same; the best of these sets. Starts from one predictor for all; lines then go where they
// cost least, in turn with predictors that are fitted to the lines they have.
PredictorSet fit_predictor_set(const MatrixCoder& coder, const Parallel& parallel, const std::vector<LineSet>& matrices, int most);

}  // namespace ans::core
