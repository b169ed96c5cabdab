// Coded tables (BITSTREAM.md, section 3).
#pragma once
#include <cstdint>
#include <vector>

#include "core/frequency_table.h"
#include "core/status.h"

namespace ans::core {

// Bytes of a legal table, with the cheapest `adjust`.
std::vector<uint8_t> write_table(const FrequencyTable& table);

// Size in bits that write_table() takes, without padding.
int table_bits(const FrequencyTable& table);

// Parses a table from the front of `data`; `*consumed` is its size in bytes. Anything illegal for symbols of `type` is refused.
Status read_table(const uint8_t* data, int64_t size, format::SymbolType type, FrequencyTable* table, int64_t* consumed);

}  // namespace ans::core
