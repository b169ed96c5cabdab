// Counting symbols on the host.
#pragma once
#include <cstdint>

#include "format/bitstream.h"

namespace ans::core {

// Adds the counts of n symbols to counts[symbol_values(type)]; counts[i] belongs to the value symbol_min(type) + i.
void histogram(const void* symbols, format::SymbolType type, int64_t n, uint64_t* counts);

// The same per context: counts[context * symbol_values(type) + i]. False, and nothing more is counted, at a context >= num_contexts.
bool histogram_by_context(const void* symbols, format::SymbolType type, const uint8_t* contexts, int64_t n, int64_t num_contexts, uint64_t* counts);

}  // namespace ans::core
