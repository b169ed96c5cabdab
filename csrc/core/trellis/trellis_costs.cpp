#include "core/trellis/trellis_costs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/log2_table.h"
#include "core/matrix/class_fit.h"
#include "core/matrix/class_tables.h"
#include "core/trellis/trellis_coder.h"

namespace ans::core {
namespace {

// As rows of a stream have them (BITSTREAM.md, sections 7.5 and 7.7): v itself or, with a trellis, k of v = 2 * k + p, around a prediction of 0.
struct Coding {
  bool halves;
  int parity(int32_t v) const { return halves ? v & 1 : 0; }
  int phase(int32_t v) const { return parity(v) * kPhases / 2; }
  int32_t residual(int32_t v) const { return halves ? (v >> 1) + parity(v) : v; }
};

constexpr int kBuckets = 64, kRawBits = 10, kMiddle = 128;
constexpr int32_t kLow = -4 * kReach, kHigh = 4 * kReach;  // of the integers that are counted

// Residuals that no table reaches are alike.
size_t place_of(int32_t residual) { return size_t(std::max(0, std::min(255, residual + kMiddle))); }

int log_scale_of(double mean_square) { return int(std::lround(kOctave * 0.5 * std::log2(std::max(mean_square, 0x1p-8)))); }

}  // namespace

double find_trellis_costs(const int64_t* counts, int64_t classes, double lagrange, bool halves, int32_t* costs) {
  constexpr double kOneBit = double(uint64_t{1} << kLog2FractionBits);
  const Coding coding{halves};
  double bits = 0;
  for (int64_t c = 0; c < classes; ++c) {
    const int64_t* const of_class = counts + c * kColumnCosts;
    std::vector<uint64_t> of_residual(size_t(kPhases) * 256, 0);
    double squares = 0, total = 0;
    for (int32_t v = kLow; v < kHigh; ++v) {
      const int64_t n = of_class[trellis_place(v)];
      of_residual[size_t(coding.phase(v)) * 256 + place_of(coding.residual(v))] += uint64_t(n);
      squares += double(n) * v * v;
      total += double(n);
    }
    int log_scale = log_scale_of(total > 0 ? squares / total : 1) - (halves ? kOctave : 0);
    const int shape = fit_class_shape(of_residual.data(), kBuckets, kRawBits, &log_scale);
    const FrequencyTable even = class_table(log_scale, shape, 0, kBuckets), odd = class_table(log_scale, shape, kPhases / 2, kBuckets);
    for (int32_t v = kLow; v < kHigh; ++v) {
      const FrequencyTable& table = coding.parity(v) == 0 ? even : odd;
      const int index = coding.residual(v) - table.first_value;
      const bool has_slot = index >= 0 && index < table.core_size && table.freq[size_t(index)] > 0;
      const double length = double(code_length(table.freq[size_t(has_slot ? index : table.core_size)])) / kOneBit + (has_slot ? 0 : kRawBits);
      const int64_t place = c * kColumnCosts + trellis_place(v);
      costs[place] = int32_t(std::min<double>(std::round(lagrange * length * kTargetOne * kTargetOne), double(kMaxSymbolCost - 1)));
      bits += double(counts[place]) * length;
    }
  }
  return bits;
}

}  // namespace ans::core
