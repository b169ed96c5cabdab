// Symbols -> indices, one at a time: for tails, 16-bit symbols and backends without a faster way.
#pragma once
#include <cstring>

#include "core/row_coder.h"

namespace ans::core {
namespace ANS_TARGET {

// Processes symbols [begin, n); lanes and rows as in the whole chunk.
template <class In>
void index_symbols_from(const EncodeTable& t, const In* symbols, int64_t begin, int64_t n, uint8_t* index, uint16_t* raw, uint16_t* cost, IndexResult* result) {
  uint32_t entry[kOtherSymbol + 1];
  for (int u = 0; u <= kOtherSymbol; ++u) entry[u] = symbol_entry(t, u);

  for (int64_t row = begin; row < n; row += format::kLanes) {  // `begin` is the beginning of a row
    const int lanes = int(n - row < format::kLanes ? n - row : format::kLanes);
    uint32_t marks = 0;
    for (int l = 0; l < lanes; ++l) {
      const uint32_t u = In(symbols[row + l] - In(t.first_value));
      const uint32_t e = entry[sizeof(In) == 1 || u < kOtherSymbol ? u : kOtherSymbol];
      index[row + l] = uint8_t(e);
      cost[l] = uint16_t(cost[l] + (e >> 16));
      marks |= e;
    }
    result->invalid |= (marks & kInvalidMark) != 0;
    if ((marks & kEscapedMark) == 0) continue;
    for (int l = 0; l < lanes; ++l) {  // without a branch, which might be as good as random
      const uint16_t value = uint16_t(In(symbols[row + l] - In(t.raw_min)));
      const bool escaped = int(index[row + l]) == t.escape_index;
      raw[result->escapes] = value;
      result->escapes += escaped;
      result->invalid |= escaped & (value >> t.raw_bits != 0);
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
