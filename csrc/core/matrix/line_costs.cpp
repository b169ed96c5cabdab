#include "core/matrix/line_costs.h"

#include <algorithm>
#include <cmath>

namespace ans::core {
namespace {
constexpr double kRounding = kPhases * kPhases / 12.0;  // variance of a symbol's rounding, in eighths squared
}

ColumnVariances column_variances(const Parallel& parallel, const Residuals& r, const std::vector<int32_t>& chosen, int32_t number) {
  auto counts = [&](int64_t i) { return chosen.empty() || chosen[size_t(i)] == number; };
  const std::vector<int64_t> squares = column_sums(parallel, r.lines, r.columns, [&](int64_t i, int64_t j) { return counts(i) ? int64_t(r.line(i)[j]) * r.line(i)[j] : 0; });
  int64_t lines = 0;
  for (int64_t i = 0; i < r.lines; ++i) lines += counts(i);
  ColumnVariances v;
  for (int64_t s : squares) {
    const double variance = (lines > 0 ? double(s) / double(lines) : 0) + kRounding;
    v.inverse.push_back(1 / variance);
    v.log_sum += 0.5 * std::log2(variance);
  }
  return v;
}

double line_cost(const int16_t* e, int64_t columns, const ColumnVariances& v) {
  double sum = 0;
  for (int64_t j = 0; j < columns; ++j) sum += double(int32_t(e[j]) * e[j]) * v.inverse[size_t(j)];
  return 0.5 * double(columns) * std::log2(sum / double(columns) + 0.02) + v.log_sum;
}

std::vector<int32_t> deal_lines(const Parallel& parallel, const std::vector<Residuals>& residuals, int64_t least, std::vector<double>* cost) {
  const int64_t lines = residuals[0].lines, columns = residuals[0].columns;
  std::vector<int32_t> chosen;
  std::vector<double> best(size_t(lines), 0);
  std::vector<bool> open(residuals.size(), true);
  constexpr int kRounds = 4;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<ColumnVariances> variances;
    for (size_t k = 0; k < residuals.size(); ++k) variances.push_back(open[k] ? column_variances(parallel, residuals[k], chosen, int32_t(k)) : ColumnVariances{});
    std::vector<int32_t> next(size_t(lines), 0);
    parallel(lines, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        bool any = false;
        for (size_t k = 0; k < residuals.size(); ++k) {
          if (!open[k]) continue;
          const double c = line_cost(residuals[k].line(i), columns, variances[k]);
          if (any && c >= best[size_t(i)]) continue;
          any = true;
          best[size_t(i)] = c;
          next[size_t(i)] = int32_t(k);
        }
      }
    });
    chosen = std::move(next);
    std::vector<int64_t> size(residuals.size(), 0);
    for (int32_t k : chosen) ++size[size_t(k)];
    const size_t largest = size_t(std::max_element(size.begin(), size.end()) - size.begin());
    bool closed = false;
    for (size_t k = 0; k < size.size(); ++k)
      if (open[k] && k != largest && size[k] < least) open[k] = false, closed = true;
    if (closed) {
      round = std::min(round, kRounds - 2);  // their lines go elsewhere
      for (int32_t& k : chosen)
        if (!open[size_t(k)]) k = int32_t(largest);
    }
  }
  if (cost != nullptr) *cost = std::move(best);
  return chosen;
}

}  // namespace ans::core
