#include "core/matrix/predictor_fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <mutex>

namespace ans::core {
namespace {

uint32_t pair_of(int32_t even, int32_t odd) { return uint32_t(uint16_t(even)) | uint32_t(uint16_t(odd)) << 16; }

// Products of one block of lines, at most kBlock: they fit in 32 bits.
constexpr int64_t kBlock = 512;

class GramBlock {
 public:
  explicit GramBlock(int64_t columns) : columns_(columns), groups_((columns + format::kLanes - 1) / format::kLanes) {
    const size_t padded = size_t(groups_ * format::kLanes);
    rows_.resize(padded * kPairs);
    lanes_.resize(padded * kPairs);
  }
  void load(const uint8_t* symbols, bool is_signed, int64_t lines) {
    pairs_ = (lines + 1) / 2;
    auto value = [&](int64_t line, int64_t column) -> int32_t {
      if (line >= lines || column >= columns_) return 0;
      const uint8_t v = symbols[line * columns_ + column];
      return is_signed ? int8_t(v) : v;
    };
    for (int64_t p = 0; p < pairs_; ++p)
      for (int64_t k = 0; k < groups_ * format::kLanes; ++k) {
        const uint32_t pair = pair_of(value(2 * p, k), value(2 * p + 1, k));
        rows_[size_t(k * kPairs + p)] = pair;
        lanes_[size_t(((k / format::kLanes) * kPairs + p) * format::kLanes + k % format::kLanes)] = pair;
      }
  }
  // Adds products of columns (k, l) with l <= k and a little more.
  void multiply(const MatrixCoder& coder, std::vector<int64_t>* product) const {
    alignas(64) int32_t sums[kDotRows * format::kLanes];
    for (int64_t k = 0; k < columns_; k += kDotRows)
      for (int64_t g = 0; g * format::kLanes < k + kDotRows && g < groups_; ++g) {
        coder.dot_rows(lanes_.data() + g * kPairs * format::kLanes, rows_.data() + k * kPairs, kPairs, pairs_, sums);
        const int64_t rows = std::min<int64_t>(kDotRows, columns_ - k), lanes = std::min<int64_t>(format::kLanes, columns_ - g * format::kLanes);
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t l = 0; l < lanes; ++l) (*product)[size_t((k + r) * columns_ + g * format::kLanes + l)] += sums[r * format::kLanes + l];
      }
  }

 private:
  static constexpr int64_t kPairs = kBlock / 2;
  int64_t columns_, groups_, pairs_ = 0;
  std::vector<uint32_t> rows_, lanes_;  // [columns][pairs]; [groups of 32 columns][pairs][32]
};

}  // namespace

void add_to_gram(const MatrixCoder& coder, const Parallel& parallel, const uint8_t* symbols, bool is_signed, int64_t lines, int64_t columns, Gram* gram) {
  const int64_t p = gram->columns, all = lines * columns / p;
  gram->sum.resize(size_t(p), 0);
  gram->product.resize(size_t(p * p), 0);
  std::mutex merging;
  parallel((all + kBlock - 1) / kBlock, [&](int64_t begin, int64_t end) {
    GramBlock block(p);
    std::vector<int64_t> product(size_t(p * p), 0), sum(size_t(p), 0);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * kBlock, count = std::min(kBlock, all - first);
      block.load(symbols + first * p, is_signed, count);
      block.multiply(coder, &product);
      for (int64_t i = first; i < first + count; ++i)
        for (int64_t k = 0; k < p; ++k) sum[size_t(k)] += is_signed ? int8_t(symbols[i * p + k]) : symbols[i * p + k];
    }
    const std::lock_guard<std::mutex> lock(merging);
    for (size_t i = 0; i < sum.size(); ++i) gram->sum[i] += sum[i];
    for (size_t i = 0; i < product.size(); ++i) gram->product[i] += product[i];
  });
  gram->lines += all;
  for (int64_t k = 0; k < p; ++k)
    for (int64_t l = 0; l < k; ++l) gram->product[size_t(l * p + k)] = gram->product[size_t(k * p + l)];
}

void Covariance::clear() {
  lines = 0;
  std::fill(value.begin(), value.end(), 0.0);
}

void Covariance::add(const GramView& g) {
  const double n = double(g.lines);
  double variance = 0;
  auto covariance = [&](int64_t k, int64_t l) { return double(g.product[k * columns + l]) - double(g.sum[k]) * double(g.sum[l]) / n; };
  for (int64_t k = 0; k < columns; ++k) variance += covariance(k, k);
  variance /= n * double(columns);
  if (variance <= 0) return;
  lines += n;
  for (int64_t k = 0; k < columns; ++k)
    for (int64_t l = 0; l < columns; ++l) value[size_t(k * columns + l)] += covariance(k, l) / variance;
}

namespace {

// Coefficients of the columns from `first` to j - 1 that predict column j best: the normal equations, by Cholesky's factors of the whole covariance where the window is whole.
struct Factor {
  std::vector<double> lower;  // [p][p], unit lower triangular, without its diagonal
  int64_t p;
};

// L D L^T, column after column: what a column contributes is taken off all rows below it.
Factor factorize(const MatrixCoder& coder, std::vector<double> g, int64_t p) {
  Factor f{std::vector<double>(size_t(p * p), 0), p};
  for (int64_t k = 0; k < p; ++k) {
    const double* pivot = &g[size_t(k * p)];  // symmetric: row k from its diagonal on is column k
    const double d = pivot[k] > 0 ? pivot[k] : 1e-9;
    for (int64_t j = k + 1; j < p; ++j) {
      const double l = pivot[j] / d;
      f.lower[size_t(j * p + k)] = l;
      if (l != 0) coder.add_multiple(-l, pivot + j, &g[size_t(j * p + j)], p - j);
    }
  }
  return f;
}

// The x for which x L is row j of L: the prediction of column j is the sum of x[k] * column k.
void coefficients_of(const MatrixCoder& coder, const Factor& f, int64_t j, double* x) {
  const double* a = f.lower.data();
  const int64_t p = f.p;
  for (int64_t k = 0; k < j; ++k) x[k] = a[j * p + k];
  for (int64_t k = j - 1; k > 0; --k) coder.add_multiple(-x[k], a + k * p, x, k);
}

constexpr int kValues = 256;
using CoefficientBits = std::array<double, kValues>;  // by value + 128

CoefficientBits bits_from_counts(const std::array<double, kValues>& counts) {
  double total = 0;
  for (double c : counts) total += c + 0.02;
  CoefficientBits bits;
  for (size_t v = 0; v < bits.size(); ++v) bits[v] = std::log2(total / (counts[v] + 0.02));
  return bits;
}

int32_t nearest(double v) {  // without a call
  v = std::max(-1e9, std::min(1e9, v));
  return v < 0 ? -int32_t(0.5 - v) : int32_t(v + 0.5);
}

// rest[k]: covariance of what coefficients leave of column j with column k.
void find_rest(const MatrixCoder& coder, const std::vector<double>& g, int64_t p, int64_t first, int64_t j, double step, const int32_t* c, double* rest) {
  for (int64_t k = first; k < j; ++k) rest[k] = g[size_t(j * p + k)];
  for (int64_t l = first; l < j; ++l)
    if (c[l] != 0) coder.add_multiple(-double(c[l]) * step, &g[size_t(l * p + first)], rest + first, j - first);
}

// Coefficients of one column, rounded: coordinate after coordinate goes where data and coefficients together are least. Keeps `rest` what find_rest() finds. Returns the variance
// that is left.
double round_column(const MatrixCoder& coder, const std::vector<double>& g, int64_t p, double lines, int64_t first, int64_t j, double step, const CoefficientBits& bits, int32_t* c,
                    double* rest) {
  double variance = g[size_t(j * p + j)];
  for (int64_t k = first; k < j; ++k) variance -= double(c[k]) * step * (g[size_t(j * p + k)] + rest[k]);
  // A change is small beside the variance: its logarithm is taken as straight, and renewed with every change.
  auto bits_of_variance = [&](double v) { return 0.5 * lines / std::log(2.0) / std::max(v, 1e-6 * lines); };
  double slope = bits_of_variance(variance);
  constexpr int kSweeps = 4;
  const bool zero_is_cheap = bits[128] <= std::min(bits[127], bits[129]);
  const double half_step = 0.5 * step;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    bool changed = false;
    for (int64_t k = first; k < j; ++k) {
      const double own = g[size_t(k * p + k)];
      if (own <= 0) continue;
      const int32_t now = c[k];
      if (now == 0 && zero_is_cheap && std::abs(rest[k]) < half_step * own) continue;  // most of them: it is the nearest, too
      const int32_t ideal = nearest(double(now) + rest[k] / own / step);
      int32_t best = now;
      double best_total = bits[size_t(now + 128)], best_variance = variance;
      for (int32_t candidate : {ideal, ideal > 0 ? ideal - 1 : ideal + 1, 0}) {
        candidate = std::max(-128, std::min(127, candidate));
        if (candidate == now) continue;
        const double change = double(candidate - now) * step, more = change * (change * own - 2 * rest[k]);
        const double total = slope * more + bits[size_t(candidate + 128)];
        if (total < best_total - 1e-6) best = candidate, best_total = total, best_variance = variance + more;
      }
      if (best == now) continue;
      const double change = double(best - now) * step;
      coder.add_multiple(-change, &g[size_t(k * p + first)], rest + first, j - first);
      c[k] = best;
      variance = best_variance;
      slope = bits_of_variance(variance);
      changed = true;
    }
    if (!changed) break;
  }
  return variance;
}

std::vector<double> shrunk(std::vector<double> g, int64_t p, double factor) {
  for (int64_t k = 0; k < p; ++k)
    for (int64_t l = 0; l < p; ++l)
      if (k != l) g[size_t(k * p + l)] *= factor;
  return g;
}

// [p][p]: of each column, the coefficients of the `window` columns before it.
std::vector<double> exact_coefficients(const MatrixCoder& coder, const std::vector<double>& g, int64_t p, int64_t window, const Parallel& parallel) {
  std::vector<double> exact(size_t(p * p), 0);
  if (window == p - 1) {
    const Factor f = factorize(coder, g, p);
    parallel(p, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) coefficients_of(coder, f, balanced(i, p), &exact[size_t(balanced(i, p) * p)]);
    });
    return exact;
  }
  parallel(p, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t first = std::max<int64_t>(0, j - window), w = j - first;
      std::vector<double> part(size_t((w + 1) * (w + 1)));
      for (int64_t a = 0; a <= w; ++a)
        for (int64_t b = 0; b <= w; ++b) part[size_t(a * (w + 1) + b)] = g[size_t((first + a) * p + first + b)];
      coefficients_of(coder, factorize(coder, part, w + 1), w, &exact[size_t(j * p + first)]);
    }
  });
  return exact;
}

// As exact_coefficients(), but few: one after another, that which takes most off the variance, as long as that is worth its bits. Finds what solving does not where there are about as
// many columns as lines.
std::vector<double> few_coefficients(const MatrixCoder& coder, const std::vector<double>& g, int64_t p, double lines, int64_t window, const Parallel& parallel) {
  constexpr double kBitsOfOne = 10;
  constexpr int kMost = 48;
  std::vector<double> found(size_t(p * p), 0);
  parallel(p, [&](int64_t begin, int64_t end) {
    std::vector<double> rest(static_cast<size_t>(p));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t j = balanced(i, p), first = std::max<int64_t>(0, j - window);
      std::copy_n(&g[size_t(j * p)], j, rest.begin());
      double variance = g[size_t(j * p + j)];
      for (int n = 0; n < kMost; ++n) {
        int64_t best = -1;
        double most = 0;
        for (int64_t k = first; k < j; ++k) {
          const double own = g[size_t(k * p + k)], less = own > 0 ? rest[size_t(k)] * rest[size_t(k)] / own : 0;
          if (less > most) best = k, most = less;
        }
        const double least = 1e-6 * lines, left = std::max(variance - most, least);
        if (best < 0 || 0.5 * lines * std::log2(std::max(variance, least) / left) < kBitsOfOne) break;
        const double c = rest[size_t(best)] / g[size_t(best * p + best)];
        found[size_t(j * p + best)] += c;
        coder.add_multiple(-c, &g[size_t(best * p + first)], &rest[size_t(first)], j - first);
        variance = left;
      }
    }
  });
  return found;
}

// With a line's worth of noise on the diagonal.
std::vector<double> with_ridge(const Covariance& covariance) {
  const int64_t p = covariance.columns;
  std::vector<double> g = covariance.value;
  double trace = 0;
  for (int64_t k = 0; k < p; ++k) trace += g[size_t(k * p + k)];
  for (int64_t k = 0; k < p; ++k) g[size_t(k * p + k)] += trace / double(p) / covariance.lines + 1e-6 * covariance.lines;
  return g;
}

int32_t rounded(double coefficient, double step) { return std::max(-128, std::min(127, int32_t(std::lround(coefficient / step)))); }

}  // namespace

FittedPredictor rounded_predictor(const MatrixCoder& coder, const Covariance& covariance, const Parallel& parallel) {
  const int64_t p = covariance.columns;
  const double few = double(p) / covariance.lines;
  const std::vector<double> exact = exact_coefficients(coder, shrunk(with_ridge(covariance), p, 1 / (1 + few)), p, p - 1, parallel);
  FittedPredictor result;
  result.predictor.shift = 6;
  result.predictor.period = p;
  result.predictor.window = p - 1;
  for (int64_t j = 0; j < p; ++j)
    for (int64_t k = 0; k < j; ++k) result.predictor.coefficients.push_back(rounded(exact[size_t(j * p + k)], std::exp2(-result.predictor.shift)));
  return result;
}

FittedPredictor fit_predictor(const MatrixCoder& coder, const Covariance& covariance, int64_t window, const Parallel& parallel) {
  const int64_t p = covariance.columns;
  window = std::min(window, p - 1);
  const double lines = covariance.lines;
  const std::vector<double> g = with_ridge(covariance);

  // Exact coefficients; of few lines, noise is most of them: also those of covariances between columns that are shrunk, the more the fewer lines there are. They are where
  // rounding starts from, and it finds no way out of noise.
  const double few = double(window) / lines;
  constexpr double kFewCoefficients = 0;  // instead of a shrinkage
  std::vector<double> shrinkages{1};
  if (few > 0.02) shrinkages.push_back(1 / (1 + 2 * few));
  if (few > 0.3) shrinkages.push_back(1 / (1 + 8 * few));
  if (few > 0.1) shrinkages.push_back(kFewCoefficients);
  double before = 0;
  for (int64_t j = 0; j < p; ++j) before += 0.5 * lines * std::log2(std::max(g[size_t(j * p + j)] / lines, 1e-6));

  FittedPredictor best;
  for (const double shrinkage : shrinkages) {
   const std::vector<double> exact =
       shrinkage == kFewCoefficients ? few_coefficients(coder, g, p, lines, window, parallel) : exact_coefficients(coder, shrunk(g, p, shrinkage), p, window, parallel);
   double last_net = -1e300;
   // All steps from the first start, the best of these from others.
   const bool again = best.predictor.period != 0;
   const int first_shift = again ? best.predictor.shift : 4, last_shift = again ? first_shift : 7;
   for (int shift = first_shift; shift <= last_shift; ++shift) {
    const double step = std::exp2(-shift);
    std::vector<int32_t> c(size_t(p * p), 0);
    for (size_t i = 0; i < c.size(); ++i) c[i] = rounded(exact[i], step);
    std::vector<double> variance(static_cast<size_t>(p)), rest(size_t(p * p));
    CoefficientBits bits{};
    auto count = [&] {
      std::array<double, kValues> counts{};
      for (int64_t j = 0; j < p; ++j)
        for (int64_t k = std::max<int64_t>(0, j - window); k < j; ++k) ++counts[size_t(c[size_t(j * p + k)] + 128)];
      return counts;
    };
    constexpr int kRounds = 2;
    for (int round = 0; round < kRounds; ++round) {
      bits = bits_from_counts(count());
      parallel(p, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t j = balanced(i, p);
          const int64_t first = std::max<int64_t>(0, j - window);
          int32_t* const own = &c[size_t(j * p)];
          double* const own_rest = &rest[size_t(j * p)];
          if (round == 0) find_rest(coder, g, p, first, j, step, own, own_rest);
          variance[size_t(j)] = round_column(coder, g, p, lines, first, j, step, bits, own, own_rest);
        }
      });
    }
    const std::array<double, kValues> counts = count();
    bits = bits_from_counts(counts);
    FittedPredictor found;
    found.predictor.period = p;
    found.predictor.window = window;
    found.predictor.shift = shift;
    for (int64_t j = 0; j < p; ++j) found.gain_bits -= 0.5 * lines * std::log2(std::max(variance[size_t(j)] / lines, 1e-6));
    found.gain_bits += before;
    for (size_t v = 0; v < counts.size(); ++v) found.coefficient_bits += counts[v] * bits[v] + (counts[v] > 0 ? 6 : 0);
    const double net = found.gain_bits - found.coefficient_bits;
    if (net < last_net) break;  // finer steps are worse still
    last_net = net;
    if (best.predictor.period != 0 && net <= best.gain_bits - best.coefficient_bits) continue;
    for (int64_t j = 0; j < p; ++j)
      for (int64_t k = std::max<int64_t>(0, j - window); k < j; ++k) found.predictor.coefficients.push_back(c[size_t(j * p + k)]);
    best = std::move(found);
   }
  }
  return best;
}

double predictor_gain(const MatrixCoder& coder, const Covariance& covariance, const Predictor& predictor, int64_t stride) {
  const int64_t p = covariance.columns;
  const double step = std::exp2(-predictor.shift), lines = covariance.lines;
  const std::vector<double>& g = covariance.value;
  std::vector<double> x(static_cast<size_t>(p)), y(static_cast<size_t>(p));
  double bits = 0;
  size_t next = 0;
  int64_t columns = 0;
  for (int64_t j = 0; j < p; ++j) {
    const int64_t first = std::max<int64_t>(0, j - predictor.window);
    if (j % stride != stride / 2) {
      next += size_t(j - first);
      continue;
    }
    ++columns;
    for (int64_t k = first; k < j; ++k) x[size_t(k)] = double(predictor.stationary ? predictor.coefficients[size_t(j - k - 1)] : predictor.coefficients[next++]) * step;
    std::fill(y.begin(), y.end(), 0.0);
    for (int64_t k = first; k < j; ++k)
      if (x[size_t(k)] != 0) coder.add_multiple(x[size_t(k)], &g[size_t(k * p + first)], &y[size_t(first)], j - first);
    const double before = g[size_t(j * p + j)];
    double after = before;
    for (int64_t k = first; k < j; ++k) after += x[size_t(k)] * (y[size_t(k)] - 2 * g[size_t(j * p + k)]);
    bits += 0.5 * lines * (std::log2(std::max(before / lines, 1e-6)) - std::log2(std::max(after / lines, 1e-6)));
  }
  return columns > 0 ? bits * double(p) / double(columns) : 0;
}

}  // namespace ans::core
