// Arrays of small integers in the header of a matrix stream (BITSTREAM.md, section 7.2).
#pragma once
#include <cstdint>
#include <vector>

#include "core/status.h"

namespace ans::core {

// Bytes of the array, in the cheapest of the four ways.
std::vector<uint8_t> write_array(const int32_t* values, int64_t count);

// Parses `count` values, all of which must be within lowest … highest, from *data on, which moves behind them.
Status read_array(const uint8_t** data, const uint8_t* end, int64_t count, int32_t lowest, int32_t highest, std::vector<int32_t>* values);

}  // namespace ans::core
