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
    covariance.add(gram.view());
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

// How much of each line's variance the predictor explains, as `count` groups of equal size.
Choice by_gain(const MatrixCoder& coder, const Parallel& parallel, const std::vector<LineSet>& matrices, const Predictor& predictor, int count) {
  const auto shared = std::make_shared<const Predictor>(predictor);
  std::vector<std::pair<double, std::pair<size_t, int64_t>>> order;
  Choice choice;
  for (size_t m = 0; m < matrices.size(); ++m) {
    Residuals plain = residuals_of(coder, parallel, matrices[m], nullptr), left = residuals_of(coder, parallel, matrices[m], shared);
    take_means(parallel, &plain);
    take_means(parallel, &left);
    choice.emplace_back(size_t(plain.lines), 0);
    for (int64_t i = 0; i < plain.lines; ++i) {
      double before = 1, after = 1;
      for (int64_t j = 0; j < plain.columns; ++j) {
        before += double(int32_t(plain.line(i)[j]) * plain.line(i)[j]);
        after += double(int32_t(left.line(i)[j]) * left.line(i)[j]);
      }
      order.push_back({after / before, {m, i}});
    }
  }
  std::sort(order.begin(), order.end());
  for (size_t n = 0; n < order.size(); ++n) choice[order[n].second.first][size_t(order[n].second.second)] = int32_t(n * size_t(count) / order.size());
  return choice;
}

// The nearest of `count` centres, each of which is the mean of the lines that are nearest to it.
Choice by_distance(const Parallel& parallel, const std::vector<LineSet>& matrices, int count) {
  const int64_t columns = matrices[0].columns;
  std::vector<double> scale;  // that makes matrices alike
  for (const LineSet& set : matrices) {
    double square = 0;
    for (int64_t i = 0; i < set.lines * columns; ++i) square += double(set.value(i) * set.value(i));
    scale.push_back(square > 0 ? 1 / std::sqrt(square / double(set.lines * columns)) : 0);
  }
  Choice choice;
  std::vector<std::vector<double>> distance;  // to the nearest centre
  for (const LineSet& set : matrices) {
    choice.emplace_back(size_t(set.lines), 0);
    distance.emplace_back(size_t(set.lines), 0.0);
  }
  std::vector<std::vector<float>> centres;
  auto assign = [&] {
    for (size_t m = 0; m < matrices.size(); ++m)
      parallel(matrices[m].lines, [&](int64_t begin, int64_t end) {
        std::vector<float> line(static_cast<size_t>(columns));
        for (int64_t i = begin; i < end; ++i) {
          for (int64_t j = 0; j < columns; ++j) line[size_t(j)] = float(double(matrices[m].value(i * columns + j)) * scale[m]);
          for (size_t k = 0; k < centres.size(); ++k) {
            double d = 0;
            for (int64_t j = 0; j < columns; ++j) {
              const float difference = line[size_t(j)] - centres[k][size_t(j)];
              d += double(difference * difference);
            }
            if (k > 0 && d >= distance[m][size_t(i)]) continue;
            distance[m][size_t(i)] = d;
            choice[m][size_t(i)] = int32_t(k);
          }
        }
      });
  };
  auto means = [&] {
    std::vector<std::vector<double>> sum(centres.size(), std::vector<double>(size_t(columns), 0));
    std::vector<double> lines(centres.size(), 0);
    for (size_t m = 0; m < matrices.size(); ++m)
      for (int64_t i = 0; i < matrices[m].lines; ++i) {
        const size_t k = size_t(choice[m][size_t(i)]);
        ++lines[k];
        for (int64_t j = 0; j < columns; ++j) sum[k][size_t(j)] += double(matrices[m].value(i * columns + j)) * scale[m];
      }
    for (size_t k = 0; k < centres.size(); ++k)
      for (int64_t j = 0; j < columns && lines[k] > 0; ++j) centres[k][size_t(j)] = float(sum[k][size_t(j)] / lines[k]);
  };
  // The direction in which lines differ most from their centres, by the power method; a new centre is the mean of the lines that lie farthest along it.
  auto split = [&] {
    // Sums are taken block by block, so that they do not depend on threads.
    struct Block {
      size_t matrix;
      int64_t begin, end;
    };
    constexpr int64_t kBlockLines = 512;
    std::vector<Block> blocks;
    for (size_t m = 0; m < matrices.size(); ++m)
      for (int64_t i = 0; i < matrices[m].lines; i += kBlockLines) blocks.push_back({m, i, std::min(matrices[m].lines, i + kBlockLines)});
    std::vector<float> direction(size_t(columns), 1);
    std::vector<std::vector<double>> part(blocks.size());
    std::vector<std::vector<std::pair<double, std::pair<size_t, int64_t>>>> distances(blocks.size());
    constexpr int kPowers = 8, kFarthest = 10;  // one line of so many
    for (int round = 0; round < kPowers; ++round) {
      parallel(int64_t(blocks.size()), [&](int64_t begin, int64_t end) {
        std::vector<float> line(static_cast<size_t>(columns));
        for (size_t b = size_t(begin); b < size_t(end); ++b) {
          part[b].assign(size_t(columns), 0);
          distances[b].clear();
          for (int64_t i = blocks[b].begin; i < blocks[b].end; ++i) {
            const LineSet& set = matrices[blocks[b].matrix];
            const std::vector<float>& centre = centres[size_t(choice[blocks[b].matrix][size_t(i)])];
            const float factor = float(scale[blocks[b].matrix]);
            double dot = 0;
            for (int64_t j = 0; j < columns; ++j) {
              line[size_t(j)] = float(set.value(i * columns + j)) * factor - centre[size_t(j)];
              dot += double(direction[size_t(j)] * line[size_t(j)]);
            }
            const float weight = float(dot);
            for (int64_t j = 0; j < columns; ++j) part[b][size_t(j)] += double(weight * line[size_t(j)]);
            distances[b].push_back({-dot, {blocks[b].matrix, i}});
          }
        }
      });
      std::vector<double> next(size_t(columns), 0);
      double norm = 0;
      for (const std::vector<double>& p : part)
        for (size_t j = 0; j < next.size(); ++j) next[j] += p[j];
      for (double v : next) norm += v * v;
      for (size_t j = 0; j < next.size(); ++j) direction[j] = float(next[j] / (std::sqrt(norm) + 1e-30));
    }
    std::vector<std::pair<double, std::pair<size_t, int64_t>>> along;
    for (const auto& of_block : distances) along.insert(along.end(), of_block.begin(), of_block.end());
    std::sort(along.begin(), along.end());
    if (std::abs(along.back().first) > std::abs(along.front().first)) std::reverse(along.begin(), along.end());
    const size_t taken = (along.size() + kFarthest - 1) / kFarthest;
    std::vector<double> sum(size_t(columns), 0);
    for (size_t n = 0; n < taken; ++n)
      for (int64_t j = 0; j < columns; ++j) sum[size_t(j)] += double(matrices[along[n].second.first].value(along[n].second.second * columns + j)) * scale[along[n].second.first];
    centres.emplace_back();
    for (double v : sum) centres.back().push_back(float(v / double(taken)));
  };
  constexpr int kRounds = 6;
  centres.emplace_back(size_t(columns), 0.0f);
  means();
  while (int(centres.size()) < count) {
    split();
    for (int round = 0; round < kRounds; ++round) {
      assign();
      means();
    }
  }
  assign();
  return choice;
}

// Every so many lines of all matrices, in memory of their own.
struct Sample {
  std::vector<std::vector<uint8_t>> symbols;
  std::vector<LineSet> matrices;

  Sample(const std::vector<LineSet>& from, int64_t stride) {
    for (const LineSet& set : from) {
      std::vector<uint8_t> taken;
      for (int64_t i = 0; i < set.lines; i += stride) taken.insert(taken.end(), set.symbols + i * set.columns, set.symbols + (i + 1) * set.columns);
      symbols.push_back(std::move(taken));
    }
    for (size_t m = 0; m < from.size(); ++m) matrices.push_back({symbols[m].data(), from[m].type, int64_t(symbols[m].size()) / from[m].columns, from[m].columns});
  }
};

// Deals the lines of all matrices, in so many rounds from `choice` on; returns their cost.
double deal(const MatrixCoder& coder, const Parallel& parallel, const std::vector<LineSet>& matrices, const std::vector<FittedPredictor>& predictors, int rounds, Choice* choice) {
  double bits = 0;
  choice->resize(matrices.size());
  for (size_t m = 0; m < matrices.size(); ++m) {
    std::vector<Residuals> all;
    for (const FittedPredictor& p : predictors) all.push_back(residuals_of(coder, parallel, matrices[m], std::make_shared<const Predictor>(p.predictor)));
    std::vector<double> cost;
    (*choice)[m] = deal_lines(parallel, all, 1, rounds, std::move((*choice)[m]), &cost);
    bits += std::accumulate(cost.begin(), cost.end(), 0.0);
  }
  return bits;
}

}  // namespace

PredictorSet fit_predictor_set(const MatrixCoder& coder, const Parallel& parallel, const std::vector<LineSet>& matrices, int most) {
  // Groups of lines are found on some of the lines; their predictors are fitted to all.
  constexpr int64_t kSampleSymbols = int64_t{1} << 23;
  int64_t symbols = 0;
  for (const LineSet& set : matrices) symbols += set.lines * set.columns;
  const Sample sample(matrices, std::max<int64_t>(1, symbols / kSampleSymbols));
  const int64_t columns = matrices[0].columns;
  Choice one;
  for (const LineSet& set : matrices) one.emplace_back(size_t(set.lines), 0);
  PredictorSet best;
  best.predictors.push_back(fit_predictor(coder, covariance_of(coder, parallel, matrices, one, 0), columns - 1, parallel));
  best.bits = deal(coder, parallel, matrices, best.predictors, 1, &one) + best.predictors[0].coefficient_bits;
  const Predictor single = best.predictors[0].predictor;
  auto fitted = [&](const std::vector<LineSet>& set, const Choice& choice, int count, bool exact) {
    std::vector<FittedPredictor> predictors;
    for (int k = 0; k < count; ++k) {
      const Covariance covariance = covariance_of(coder, parallel, set, choice, k);
      // A group without lines keeps its number.
      if (covariance.lines < 2) predictors.push_back(predictors.empty() ? best.predictors[0] : predictors.back());
      else predictors.push_back(exact ? fit_predictor(coder, covariance, columns - 1, parallel) : rounded_predictor(coder, covariance, parallel));
    }
    return predictors;
  };
  for (int count = 2; count <= most; ++count) {
    double start_bits = 0;
    std::vector<FittedPredictor> rough;
    for (Choice choice : {by_gain(coder, parallel, sample.matrices, single, count), by_distance(parallel, sample.matrices, count)}) {
      double bits = 0;
      constexpr int kRounds = 5;
      std::vector<FittedPredictor> predictors;
      for (int round = 0; round < kRounds; ++round) {
        predictors = fitted(sample.matrices, choice, count, false);
        bits = deal(coder, parallel, sample.matrices, predictors, round + 1 == kRounds ? 2 : 1, &choice);
      }
      bits += entropy_bits(choice, size_t(count));
      if (!rough.empty() && bits >= start_bits) continue;
      rough = std::move(predictors);
      start_bits = bits;
    }
    Choice choice;
    (void)deal(coder, parallel, matrices, rough, 2, &choice);
    std::vector<FittedPredictor> predictors = fitted(matrices, choice, count, true);
    double bits = deal(coder, parallel, matrices, predictors, 2, &choice) + entropy_bits(choice, size_t(count));
    for (const FittedPredictor& p : predictors) bits += p.coefficient_bits;
    if (bits >= best.bits) break;
    best.predictors = std::move(predictors);
    best.bits = bits;
  }
  return best;
}

}  // namespace ans::core
