#include "core/trellis/trellis_costs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/log2_table.h"
#include "core/normalize.h"
#include "core/trellis/trellis_coder.h"

namespace ans::core {

double find_trellis_costs(const int64_t* counts, int64_t classes, double lagrange, bool halves, int32_t* costs) {
  static_assert(kReach == 64, "k = 2 * m + parity is a number of 8 bits: a table of symbols of that type");
  constexpr double kOneBit = double(uint64_t{1} << kLog2FractionBits);
  constexpr int32_t kLow = -4 * kReach, kHigh = 4 * kReach;  // of the integers that are counted
  double bits = 0;
  for (int64_t c = 0; c < classes; ++c)
    for (int table_number = 0; table_number < (halves ? 2 : 1); ++table_number) {
      // What this table codes for v; all of these integers have it, or every other one.
      auto coded = [&](int32_t v) { return halves ? v >> 1 : std::max(-128, std::min(127, v)); };
      auto is_coded = [&](int32_t v) { return !halves || (v & 1) == table_number; };
      std::vector<uint64_t> of_symbol(256, 0);
      for (int32_t v = kLow; v < kHigh; ++v)
        if (is_coded(v)) of_symbol[size_t(coded(v) + 128)] += uint64_t(counts[c * kColumnCosts + trellis_place(v)]);
      const FrequencyTable table = build_table(of_symbol.data(), format::SymbolType::kI8);
      for (int32_t v = kLow; v < kHigh; ++v) {
        if (!is_coded(v)) continue;
        const int index = coded(v) - table.first_value;
        const bool has_slot = index >= 0 && index < table.core_size && table.freq[size_t(index)] > 0 && (halves || coded(v) == v);
        const int freq = has_slot ? table.freq[size_t(index)] : table.has_escape ? table.freq[size_t(table.core_size)] : 1;
        const double raw_bits = halves || coded(v) == v ? 8 : 10;
        const double length = double(code_length(freq)) / kOneBit + (has_slot ? 0 : raw_bits);
        const int64_t place = c * kColumnCosts + trellis_place(v);
        costs[place] = int32_t(std::min<double>(std::round(lagrange * length * kTargetOne * kTargetOne), double(kMaxSymbolCost - 1)));
        bits += double(counts[place]) * length;
      }
    }
  return bits;
}

}  // namespace ans::core
