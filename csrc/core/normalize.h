// Counts -> frequencies.
#pragma once
#include <cstdint>
#include <vector>

#include "core/frequency_table.h"

namespace ans::core {

// Frequencies >= 1 that sum to `slots` and minimise sum(counts[i] * log2(slots / freq[i])); all counts are positive, 2 … slots of them.
// Exact: the sum is separable and convex, so an allocation that no exchange of one unit improves is optimal. Ties go to the lower index.
void normalize(const uint64_t* counts, int n, uint16_t* freq, int slots = format::kSlots);

// A table for symbols with these counts; counts[i] belongs to the value symbol_min(type) + i. Chooses which symbols have a slot and which are
// escaped, by the exact length of everything coded, the table included. Any counts are legal, also all zero.
FrequencyTable build_table(const uint64_t* counts, format::SymbolType type);

// Length in bits, rounded up, of symbols with these counts under the table (raw bits of escapes included, table and lanes not).
// ~0 if some symbol can not be coded with it.
uint64_t coded_bits(const uint64_t* counts, format::SymbolType type, const FrequencyTable& table);

// What precedes the chunk directory of a stream (BITSTREAM.md, section 1), for the cheapest model. Depends on the counts alone. `table`, if not null, receives the
// table of an order0 model.
std::vector<uint8_t> stream_prefix(const uint64_t* counts, format::SymbolType type, int64_t chunk_symbols, FrequencyTable* table);

}  // namespace ans::core
