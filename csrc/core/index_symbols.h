// Symbols -> indices, one at a time: for tails, 16-bit symbols and backends without a faster way.
#pragma once
#include <cstring>

#include "core/row_coder.h"

namespace ans::core {
namespace ANS_TARGET {

// Processes symbols [begin, n); lanes and rows as in the whole chunk.
template <class In>
void index_symbols_from(const EncodeTable& t, const In* symbols, int64_t begin, int64_t n, uint8_t* index, uint16_t* raw, uint16_t* cost, IndexResult* result) {
  const uint8_t missing = uint8_t(t.escape_index >= 0 ? t.escape_index : t.invalid_index);
  for (int64_t i = begin; i < n; ++i) {
    const uint32_t u = In(symbols[i] - In(t.first_value));
    const uint8_t k = u < uint32_t(t.core_size) ? t.index_of[u] : missing;
    index[i] = k;
    cost[i % format::kLanes] = uint16_t(cost[i % format::kLanes] + t.cost[k]);
    if (int(k) == t.escape_index) {
      raw[i] = uint16_t(In(symbols[i] - In(t.raw_min)));
      result->escaped = true;
      result->invalid |= raw[i] >> t.raw_bits != 0;
    } else {
      result->invalid |= int(k) == t.invalid_index;
    }
  }
}

inline IndexResult index_symbols_plain(const EncodeTable& t, const void* symbols, int64_t n, uint8_t* index, uint16_t* raw, uint16_t* cost) {
  IndexResult result;
  if (t.symbol_bytes == 1) index_symbols_from(t, static_cast<const uint8_t*>(symbols), 0, n, index, raw, cost, &result);
  else index_symbols_from(t, static_cast<const uint16_t*>(symbols), 0, n, index, raw, cost, &result);
  return result;
}

}  // namespace ANS_TARGET
}  // namespace ans::core
