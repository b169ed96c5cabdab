#include "core/matrix/residuals.h"

#include <algorithm>
#include <cmath>

namespace ans::core {

Residuals residuals_of(const MatrixCoder& coder, const Parallel& parallel, const LineSet& set, const std::shared_ptr<const Predictor>& predictor) {
  Residuals r{set.lines, set.columns, std::vector<int16_t>(size_t(set.lines * set.columns))};
  MatrixModel model;  // that predicts and has a class
  model.lines = set.lines;
  model.columns = set.columns;
  model.classes.resize(1);
  model.parts[0].predictor = predictor;
  model.parts[0].scale.assign(size_t(set.columns), 0);
  const MatrixTables tables(model, set.type);
  const MatrixLines lines = make_matrix_lines(model, tables, LineOrder{}, set.type, const_cast<uint8_t*>(set.symbols), nullptr);  // only read
  parallel((set.lines + format::kLanes - 1) / format::kLanes, [&](int64_t begin, int64_t end) {
    MatrixBand band(tables, set.type);
    const int64_t first = begin * format::kLanes, count = std::min(set.lines, end * format::kLanes) - first;
    int16_t* out = r.line(first);
    if (predictor != nullptr) coder.find_predictions(lines, tables.rows(0), first, count, &band, out);
    for (int64_t i = 0; i < count * set.columns; ++i) out[i] = int16_t(kPhases * set.value(first * set.columns + i) - out[i]);
  });
  return r;
}

void take_means(const Parallel& parallel, Residuals* r) {
  const std::vector<int64_t> sums = column_sums(parallel, r->lines, r->columns, [&](int64_t i, int64_t j) { return int64_t(r->line(i)[j]); });
  std::vector<int16_t> mean;
  for (int64_t s : sums) mean.push_back(int16_t(std::lround(double(s) / double(r->lines))));
  parallel(r->lines, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < r->columns; ++j) r->line(i)[j] = int16_t(r->line(i)[j] - mean[size_t(j)]);
  });
}

}  // namespace ans::core
