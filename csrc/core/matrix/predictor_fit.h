// Linear predictors fitted to matrices. Statistics are exact integers, so they are the same on every device and for any number of threads; what follows is solved in
// fp64, in a fixed order, without fused products.
#pragma once
#include <cstdint>
#include <vector>

#include "core/matrix/matrix_coder.h"
#include "core/matrix/fit_threads.h"
#include "core/matrix/predictor.h"

namespace ans::core {

// Sums over lines (or over their blocks of `columns` symbols), wherever they are kept.
struct GramView {
  int64_t lines, columns;
  const int64_t* sum;      // [columns]
  const int64_t* product;  // [columns][columns], symmetric
};
struct Gram {
  int64_t lines = 0, columns = 0;
  std::vector<int64_t> sum, product;

  GramView view() const { return {lines, columns, sum.data(), product.data()}; }
};

// Adds the lines of a line-major matrix, cut into blocks of gram->columns symbols. Symbols are 8-bit.
void add_to_gram(const MatrixCoder& coder, const Parallel& parallel, const uint8_t* symbols, bool is_signed, int64_t lines, int64_t columns, Gram* gram);

// Covariance in fp64, scaled so that it counts as `weight` lines of mean variance 1; several may be added up.
struct Covariance {
  explicit Covariance(int64_t columns_in) : columns(columns_in), value(size_t(columns_in * columns_in), 0) {}
  void add(const GramView& gram);
  void clear();

  int64_t columns;
  double lines = 0;
  std::vector<double> value;  // [columns][columns]: sums over lines of products of what is left after the mean, divided by the matrix's variance
};

struct FittedPredictor {
  Predictor predictor;
  double gain_bits = 0;  // that all lines of the covariance save, without what the coefficients take
  double coefficient_bits = 0;
};

// The predictor of at most `window` columns that saves most, coefficients paid for: steps of several sizes are tried, and every coefficient is rounded to where it makes the
// total of data and coefficients least.
FittedPredictor fit_predictor(const MatrixCoder& coder, const Covariance& covariance, int64_t window, const Parallel& parallel);

// The exact predictor of all columns before, rounded to 1/64: for steps on the way to others.
FittedPredictor rounded_predictor(const MatrixCoder& coder, const Covariance& covariance, const Parallel& parallel);

// What a predictor saves of the lines of a covariance, in bits: as far as every `stride`-th column tells.
double predictor_gain(const MatrixCoder& coder, const Covariance& covariance, const Predictor& predictor, int64_t stride);

}  // namespace ans::core
