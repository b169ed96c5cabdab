#include "core/matrix/reference_fit.h"

#include <algorithm>
#include <cmath>
#include <mutex>

namespace ans::core {
namespace {

constexpr double kFactorBits = 3;     // what a factor takes, about

struct Edge {
  float gain;  // bits
  int32_t a, b;
};

// Lines as vectors of equal length whose dot products tell how alike they are.
class LineVectors {
 public:
  static constexpr int32_t kLength = 1 << 12;  // squares of it fit in 31 bits, times what rounding adds

  LineVectors(const Parallel& parallel, const ReferenceInput& input, const std::vector<std::vector<double>>& weights)
      : lines_((*input.own)[0].lines), pairs_(((*input.own)[0].columns + 1) / 2) {
    const int64_t groups = (lines_ + format::kLanes - 1) / format::kLanes;
    rows_.assign(size_t((lines_ + kDotRows) * pairs_), 0);
    lanes_.assign(size_t(groups * pairs_ * format::kLanes), 0);
    parallel(lines_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const size_t part = size_t((*input.part)[size_t(i)]);
        const int64_t columns = (*input.own)[part].columns;
        const std::vector<double>& weight = weights[part];
        auto for_pairs = [&](const int16_t* e, const auto& put) {
          double square = 0;
          for (int64_t j = 0; j < columns; ++j) square += double(e[j]) * e[j] * weight[size_t(j)];
          const double scale = square > 0 ? kLength / std::sqrt(square) : 0;
          auto value = [&](int64_t j) -> int32_t {
            if (j >= columns) return 0;
            return int32_t(std::max(-32767.0, std::min(32767.0, std::nearbyint(e[j] * std::sqrt(weight[size_t(j)]) * scale))));
          };
          for (int64_t p = 0; p < pairs_; ++p) put(p, uint32_t(uint16_t(value(2 * p))) | uint32_t(uint16_t(value(2 * p + 1))) << 16);
        };
        auto row = [&](int64_t p, uint32_t pair) { rows_[size_t(i * pairs_ + p)] = pair; };
        auto lane = [&](int64_t p, uint32_t pair) { lanes_[size_t((i / format::kLanes * pairs_ + p) * format::kLanes + i % format::kLanes)] = pair; };
        if (input.seen == nullptr) {
          for_pairs((*input.own)[part].line(i), [&](int64_t p, uint32_t pair) { row(p, pair), lane(p, pair); });
        } else {
          for_pairs((*input.own)[part].line(i), row);
          for_pairs((*input.seen)[part].line(i), lane);
        }
      }
    });
  }

  // The best few earlier lines of every line, of those that save something.
  std::vector<Edge> find_edges(const MatrixCoder& coder, const Parallel& parallel, int64_t columns, double name_bits) const {
    constexpr int kKept = 12;
    const double least = 1 - std::exp2(-2 * (name_bits + kFactorBits) / double(columns));  // square of the least correlation that pays
    const int32_t threshold = int32_t(std::sqrt(least) * double(kLength) * double(kLength));
    std::vector<Edge> all;
    std::mutex merging;
    const int64_t blocks = (lines_ + kDotRows - 1) / kDotRows;
    // Of very many lines, only those not too far before.
    constexpr int64_t kMostProducts = 180'000'000'000;  // some seconds
    const int64_t reach = std::max<int64_t>(1024, kMostProducts / std::max<int64_t>(1, lines_ * pairs_));
    parallel(blocks, [&](int64_t begin, int64_t end) {
      std::vector<Edge> found;
      alignas(64) int32_t sums[kDotRows * format::kLanes];
      uint32_t beyond[kDotRows];
      for (int64_t n = begin; n < end; ++n) {
        const int64_t block = balanced(n, blocks), first = block * kDotRows;
        std::vector<Edge> best[kDotRows];
        for (int64_t g = std::max<int64_t>(0, first - reach) / format::kLanes; g * format::kLanes < std::min(lines_, first + kDotRows); ++g) {
          coder.dot_rows(lanes_.data() + g * pairs_ * format::kLanes, rows_.data() + first * pairs_, pairs_, pairs_, sums);
          coder.find_beyond(sums, uint32_t(threshold), beyond);
          for (int r = 0; r < kDotRows && first + r < lines_; ++r) {
            const int32_t* row = sums + r * format::kLanes;
            for (uint32_t left = beyond[r]; left != 0; left &= left - 1) {
              const int l = __builtin_ctz(left);
              const int64_t other = g * format::kLanes + l;
              if (other >= first + r) break;
              const double c = double(row[l]) / (double(kLength) * double(kLength)), rest = std::max(1 - c * c, 1e-4);
              const float gain = float(-0.5 * double(columns) * std::log2(rest) - name_bits - kFactorBits);
              std::vector<Edge>& list = best[r];
              if (int(list.size()) == kKept && gain <= list.back().gain) continue;
              if (int(list.size()) == kKept) list.pop_back();
              const Edge edge{gain, int32_t(first + r), int32_t(other)};
              list.insert(std::upper_bound(list.begin(), list.end(), edge, [](const Edge& x, const Edge& y) { return x.gain > y.gain; }), edge);
            }
          }
        }
        for (const std::vector<Edge>& list : best) found.insert(found.end(), list.begin(), list.end());
      }
      const std::lock_guard<std::mutex> lock(merging);
      all.insert(all.end(), found.begin(), found.end());
    });
    std::sort(all.begin(), all.end(), [](const Edge& x, const Edge& y) { return x.gain != y.gain ? x.gain > y.gain : x.a != y.a ? x.a < y.a : x.b < y.b; });
    return all;
  }

 private:
  int64_t lines_, pairs_;
  std::vector<uint32_t> rows_, lanes_;
};

// A forest of limited depth, from edges in order of gain: each joins two trees if the root of one can hang below a line of the other.
class Forest {
 public:
  Forest(int64_t lines, int depth) : limit_(depth), parent_(size_t(lines), -1), depth_(size_t(lines), 0), height_(size_t(lines), 0), children_(size_t(lines)) {}

  void join(int32_t a, int32_t b) {
    if (!attach(a, b)) (void)attach(b, a);
  }
  int32_t parent(int64_t i) const { return parent_[size_t(i)]; }

 private:
  bool attach(int32_t child, int32_t parent) {
    if (parent_[size_t(child)] >= 0 || depth_[size_t(parent)] + 1 + height_[size_t(child)] > limit_) return false;
    for (int32_t at = parent; at >= 0; at = parent_[size_t(at)])
      if (at == child) return false;
    parent_[size_t(child)] = parent;
    children_[size_t(parent)].push_back(child);
    std::vector<int32_t> open{child};
    while (!open.empty()) {
      const int32_t at = open.back();
      open.pop_back();
      depth_[size_t(at)] = depth_[size_t(parent_[size_t(at)])] + 1;
      open.insert(open.end(), children_[size_t(at)].begin(), children_[size_t(at)].end());
    }
    for (int32_t at = parent, height = height_[size_t(child)] + 1; at >= 0 && height_[size_t(at)] < height; at = parent_[size_t(at)], ++height) height_[size_t(at)] = height;
    return true;
  }
  int limit_;
  std::vector<int32_t> parent_, depth_, height_;
  std::vector<std::vector<int32_t>> children_;
};

struct Products {
  double xx = 0, xg = 0, xn = 0, gg = 0, gn = 0, nn = 0;
};

int32_t rounded_factor(double v) { return int32_t(std::lround(std::max(-double(kMaxFactor), std::min(double(kMaxFactor), kFactorOne * v)))); }

}  // namespace

std::vector<double> column_weights(const Residuals& r, const std::vector<int32_t>& part, int32_t number) {
  std::vector<double> square(size_t(r.columns), 0), weight;
  int64_t lines = 0;
  for (int64_t i = 0; i < r.lines; ++i) {
    if (part[size_t(i)] != number) continue;
    ++lines;
    const int16_t* e = r.line(i);
    for (int64_t j = 0; j < r.columns; ++j) square[size_t(j)] += double(e[j]) * e[j];
  }
  for (double s : square) weight.push_back(1 / (s / double(std::max<int64_t>(1, lines)) + kRounding));
  return weight;
}

References fit_references(const MatrixCoder& coder, const Parallel& parallel, const ReferenceInput& input, const ReferenceOptions& options) {
  const int64_t lines = (*input.own)[0].lines, columns = (*input.own)[0].columns;
  References result;
  result.given_factor.assign(size_t(lines), 0);
  result.factor.assign(size_t(lines), 0);
  result.reference.assign(size_t(lines), -1);
  std::vector<std::vector<double>> weights;
  for (size_t k = 0; k < input.own->size(); ++k) weights.push_back(column_weights((*input.own)[k], *input.part, int32_t(k)));
  const double name_bits = std::ceil(std::log2(double(std::max<int64_t>(lines, 2))));
  Forest forest(lines, options.depth);
  // Lines of different parts are compared by what is left of each under its own predictor: that is nearly the same, and one search does.
  if (options.nearest)
    for (const Edge& edge : LineVectors(parallel, input, weights).find_edges(coder, parallel, columns, name_bits)) forest.join(edge.a, edge.b);

  std::vector<double> gain(size_t(lines), 0);
  parallel(lines, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t nearest = forest.parent(i);
      if (nearest < 0 && input.given == nullptr) continue;
      const size_t part = size_t((*input.part)[size_t(i)]);
      const Residuals& r = (*input.own)[part];
      const std::vector<double>& weight = weights[part];
      const int16_t *x = r.line(i), *g = input.given == nullptr ? nullptr : (*input.given)[part].line(i), *n = nearest < 0 ? nullptr : (input.seen == nullptr ? r : (*input.seen)[part]).line(nearest);
      Products s;
      for (int64_t j = 0; j < columns; ++j) {
        const double w = weight[size_t(j)], xj = x[j], gj = g == nullptr ? 0 : g[j], nj = n == nullptr ? 0 : n[j];
        s.xx += w * xj * xj, s.xg += w * xj * gj, s.xn += w * xj * nj, s.gg += w * gj * gj, s.gn += w * gj * nj, s.nn += w * nj * nj;
      }
      auto consider = [&](int32_t given_factor, int32_t factor) {
        if (given_factor == 0 && factor == 0) return;
        const double a = double(given_factor) / kFactorOne, b = double(factor) / kFactorOne;
        const double rest = s.xx - 2 * a * s.xg - 2 * b * s.xn + a * a * s.gg + 2 * a * b * s.gn + b * b * s.nn;
        const double saved = -0.5 * double(columns) * std::log2(std::max(rest, 1e-9) / std::max(s.xx, 1e-9)) - (given_factor != 0 ? kFactorBits : 0) - (factor != 0 ? kFactorBits + name_bits : 0);
        if (saved <= gain[size_t(i)]) return;
        gain[size_t(i)] = saved;
        result.given_factor[size_t(i)] = given_factor;
        result.factor[size_t(i)] = factor;
      };
      if (g != nullptr && s.gg > 0) consider(rounded_factor(s.xg / s.gg), 0);
      if (n != nullptr && s.nn > 0) consider(0, rounded_factor(s.xn / s.nn));
      const double determinant = s.gg * s.nn - s.gn * s.gn;
      if (g != nullptr && n != nullptr && determinant > 1e-6 * s.gg * s.nn)
        consider(rounded_factor((s.xg * s.nn - s.xn * s.gn) / determinant), rounded_factor((s.xn * s.gg - s.xg * s.gn) / determinant));
      if (result.factor[size_t(i)] != 0) result.reference[size_t(i)] = nearest;
    }
  });
  for (double g : gain) result.gain_bits += g;
  return result;
}

}  // namespace ans::core
