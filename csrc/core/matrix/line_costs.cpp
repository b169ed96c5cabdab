#include "core/matrix/line_costs.h"

#include <algorithm>
#include <cmath>

namespace ans::core {

ColumnStatistics column_statistics(const Parallel& parallel, const Residuals& r, const std::vector<int32_t>& chosen, int32_t number) {
  std::vector<int64_t> lines;
  for (int64_t i = 0; i < r.lines; ++i)
    if (chosen.empty() || chosen[size_t(i)] == number) lines.push_back(i);
  const int64_t count = int64_t(lines.size());
  const std::vector<int64_t> sums = column_sums(parallel, count, r.columns, [&](int64_t i, int64_t j) { return int64_t(r.line(lines[size_t(i)])[j]); });
  const std::vector<int64_t> squares = column_sums(parallel, count, r.columns, [&](int64_t i, int64_t j) {
    const int64_t e = r.line(lines[size_t(i)])[j];
    return e * e;
  });
  ColumnStatistics s;
  for (size_t j = 0; j < sums.size(); ++j) {
    const double n = double(std::max<int64_t>(1, count)), mean = double(sums[j]) / n, variance = double(squares[j]) / n - mean * mean + kRounding;
    s.mean.push_back(mean);
    s.inverse.push_back(1 / variance);
    s.log_sum += 0.5 * std::log2(variance);
  }
  return s;
}

double line_cost(const int16_t* e, int64_t columns, const ColumnStatistics& s) {
  double sum = 0;
  for (int64_t j = 0; j < columns; ++j) {
    const double d = e[j] - s.mean[size_t(j)];
    sum += d * d * s.inverse[size_t(j)];
  }
  return 0.5 * double(columns) * std::log2(sum / double(columns) + 0.02) + s.log_sum;
}

std::vector<int32_t> deal_lines(const Parallel& parallel, const std::vector<Residuals>& residuals, int64_t least, int rounds, std::vector<int32_t> chosen, std::vector<double>* cost) {
  const int64_t lines = residuals[0].lines, columns = residuals[0].columns;
  std::vector<double> best(size_t(lines), 0);
  std::vector<bool> open(residuals.size(), true);
  for (int round = 0; round < rounds; ++round) {
    std::vector<ColumnStatistics> statistics;
    for (size_t k = 0; k < residuals.size(); ++k) statistics.push_back(open[k] ? column_statistics(parallel, residuals[k], chosen, int32_t(k)) : ColumnStatistics{});
    std::vector<int32_t> next(size_t(lines), 0);
    parallel(lines, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        bool any = false;
        for (size_t k = 0; k < residuals.size(); ++k) {
          if (!open[k]) continue;
          const double c = line_cost(residuals[k].line(i), columns, statistics[k]);
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
      round = std::min(round, rounds - 2);  // their lines go elsewhere
      for (int32_t& k : chosen)
        if (!open[size_t(k)]) k = int32_t(largest);
    }
  }
  if (cost != nullptr) *cost = std::move(best);
  return chosen;
}

}  // namespace ans::core
