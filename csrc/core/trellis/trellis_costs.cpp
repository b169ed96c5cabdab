#include "core/trellis/trellis_costs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/log2_table.h"
#include "core/normalize.h"
#include "core/trellis/trellis_coder.h"

namespace ans::core {

double find_trellis_costs(const int64_t* counts, int64_t classes, double lagrange, int32_t* costs) {
  static_assert(kReach == 64, "k = 2 * m + parity is a number of 8 bits: a table of symbols of that type");
  constexpr double kOneBit = double(uint64_t{1} << kLog2FractionBits);
  constexpr double kRawBits = 8;
  double bits = 0;
  for (int64_t c = 0; c < classes; ++c)
    for (int odd = 0; odd < 2; ++odd) {
      std::vector<uint64_t> of_symbol(256, 0);
      auto place = [&](int k) { return c * kColumnCosts + trellis_place(2 * k + odd); };
      for (int k = -128; k < 128; ++k) of_symbol[size_t(k + 128)] = uint64_t(counts[place(k)]);
      const FrequencyTable table = build_table(of_symbol.data(), format::SymbolType::kI8);
      for (int k = -128; k < 128; ++k) {
        const int index = k - table.first_value;
        const bool has_slot = index >= 0 && index < table.core_size && table.freq[size_t(index)] > 0;
        const int freq = has_slot ? table.freq[size_t(index)] : table.has_escape ? table.freq[size_t(table.core_size)] : 1;
        const double length = double(code_length(freq)) / kOneBit + (has_slot ? 0 : kRawBits);
        costs[place(k)] = int32_t(std::min<double>(std::round(lagrange * length * kTargetOne * kTargetOne), double(kMaxSymbolCost - 1)));
        bits += double(counts[place(k)]) * length;
      }
    }
  return bits;
}

}  // namespace ans::core
