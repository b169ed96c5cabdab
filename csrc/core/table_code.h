// Coded tables (BITSTREAM.md, section 3).
#pragma once
#include <cstdint>
#include <vector>

#include "core/frequency_table.h"
#include "core/status.h"

namespace ans::core {

// Bytes of a legal table, with the cheapest `adjust`.
std::vector<uint8_t> write_table(const FrequencyTable& table, format::SymbolType type);

// Size in bits that write_table() takes, without padding.
int table_bits(const FrequencyTable& table, format::SymbolType type);

// The raw_min that a table need not mention.
int32_t default_raw_min(format::SymbolType type, int raw_bits);

// Parses a table from the front of `data`; `*consumed` is its size in bytes. Anything illegal for symbols of `type` is refused.
Status read_table(const uint8_t* data, int64_t size, format::SymbolType type, FrequencyTable* table, int64_t* consumed);

}  // namespace ans::core
