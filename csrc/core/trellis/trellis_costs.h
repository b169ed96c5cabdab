// What symbols cost in the search.
#pragma once
#include <cstdint>

namespace ans::core {

// Costs [classes][kColumnCosts] under the tables that a stream has for symbols that occur so often (halves: one for each class and each s & 1, of k; otherwise one for each class, of v): `lagrange` squared steps per bit. counts[classes][kColumnCosts] say how
// often v = 4 * m + r occurs, by r and m + kReach. Returns the bits of all that was counted.
double find_trellis_costs(const int64_t* counts, int64_t classes, double lagrange, bool halves, int32_t* costs);

}  // namespace ans::core
