#include "core/matrix/predictor_sets.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

namespace ans::core {
namespace {

using Choice = std::vector<std::vector<int32_t>>;  // [matrices][lines]

// Covariance of the lines that have a number.
Covariance covariance_of(const MatrixCoder& coder, const Parallel& parallel, const std::vector<LineSet>& matrices, const Choice& choice, int32_t number) {
  const int64_t columns = matrices[0].columns;
  Covariance covariance(columns);
  for (size_t m = 0; m < matrices.size(); ++m) {
    const LineSet& set = matrices[m];
    std::vector<uint8_t> chosen;
    for (int64_t i = 0; i < set.lines; ++i)
      if (choice[m][size_t(i)] == number) chosen.insert(chosen.end(), set.symbols + i * columns, set.symbols + (i + 1) * columns);
    if (chosen.empty()) continue;
    Gram gram;
    gram.columns = columns;
    add_to_gram(coder, parallel, chosen.data(), set.type != format::SymbolType::kU8, int64_t(chosen.size()) / columns, columns, &gram);
    covariance.add(gram);
  }
  return covariance;
}

double entropy_bits(const Choice& choice, size_t numbers) {
  std::vector<double> count(numbers, 0);
  double all = 0;
  for (const auto& lines : choice)
    for (int32_t k : lines) ++count[size_t(k)], ++all;
  double bits = 0;
  for (double c : count)
    if (c > 0) bits += c * std::log2(all / c);
  return bits;
}

}  // namespace

PredictorSet fit_predictor_set(const MatrixCoder& coder, const Parallel& parallel, const std::vector<LineSet>& matrices, int most) {
  const int64_t columns = matrices[0].columns;
  auto residuals = [&](const LineSet& set, const Predictor& predictor) {
    Residuals r = residuals_of(coder, parallel, set, std::make_shared<const Predictor>(predictor));
    take_means(parallel, &r);
    return r;
  };
  // Deals the lines of all matrices; returns their cost.
  auto deal = [&](const std::vector<FittedPredictor>& predictors, Choice* choice) {
    double bits = 0;
    choice->clear();
    for (const LineSet& set : matrices) {
      std::vector<Residuals> all;
      for (const FittedPredictor& p : predictors) all.push_back(residuals(set, p.predictor));
      std::vector<double> cost;
      choice->push_back(deal_lines(parallel, all, 1, &cost));
      bits += std::accumulate(cost.begin(), cost.end(), 0.0);
    }
    return bits;
  };

  Choice choice;
  for (const LineSet& set : matrices) choice.emplace_back(size_t(set.lines), 0);
  PredictorSet best;
  best.predictors.push_back(fit_predictor(covariance_of(coder, parallel, matrices, choice, 0), columns - 1, parallel));
  best.bits = deal(best.predictors, &choice) + best.predictors[0].coefficient_bits;
  // How much of a line's variance prediction explains: where sets of more start from.
  const Predictor single = best.predictors[0].predictor;
  std::vector<std::pair<double, std::pair<size_t, int64_t>>> order;
  for (size_t m = 0; most > 1 && m < matrices.size(); ++m) {
    Residuals plain = residuals_of(coder, parallel, matrices[m], nullptr);
    take_means(parallel, &plain);
    const Residuals left = residuals(matrices[m], single);
    for (int64_t i = 0; i < plain.lines; ++i) {
      double before = 1, after = 1;
      for (int64_t j = 0; j < columns; ++j) {
        before += double(int32_t(plain.line(i)[j]) * plain.line(i)[j]);
        after += double(int32_t(left.line(i)[j]) * left.line(i)[j]);
      }
      order.push_back({after / before, {m, i}});
    }
  }
  std::sort(order.begin(), order.end());
  for (int count = 2; count <= most; ++count) {
    for (size_t n = 0; n < order.size(); ++n) choice[order[n].second.first][size_t(order[n].second.second)] = int32_t(n * size_t(count) / order.size());
    std::vector<FittedPredictor> predictors;
    double bits = 0;
    constexpr int kRounds = 6;
    for (int round = 0; round <= kRounds; ++round) {
      predictors.clear();
      for (int k = 0; k < count; ++k) {
        const Covariance covariance = covariance_of(coder, parallel, matrices, choice, k);
        if (covariance.lines < 2) continue;
        predictors.push_back(round == kRounds ? fit_predictor(covariance, columns - 1, parallel) : rounded_predictor(covariance, parallel));
      }
      bits = deal(predictors, &choice);
    }
    bits += entropy_bits(choice, predictors.size());
    for (const FittedPredictor& p : predictors) bits += p.coefficient_bits;
    if (bits >= best.bits) break;
    best.predictors = std::move(predictors);
    best.bits = bits;
  }
  return best;
}

}  // namespace ans::core
