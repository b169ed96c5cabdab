#include "core/tail_decoder.h"

#include <algorithm>

namespace ans::core {
namespace {

// Symbols [begin, end) of each tail. Everything that a step needs is in local arrays, which become registers: a store of a symbol might otherwise change it.
template <int kBuckets, class Symbol, int kTails>
void decode_steps(Tail* const* tails, int begin, int end) {
  uint32_t y[kTails];
  const DecodeTable* table[kTails];
  const uint16_t *next[kTails], *stop[kTails];
  uint8_t* out[kTails];
  for (int t = 0; t < kTails; ++t) {
    y[t] = tails[t]->state;
    table[t] = tails[t]->table;
    next[t] = tails[t]->word + tails[t]->next;
    stop[t] = tails[t]->word + tails[t]->words;
    out[t] = tails[t]->out;
  }
  // Without branches, which would be as good as random; in such words that no compiler makes one of them.
  auto refill = [&](int t) __attribute__((always_inline)) {
    const uint32_t low = uint32_t(y[t] < format::kStateLowerBound) & uint32_t(next[t] != stop[t]);
    y[t] = y[t] << (low * format::kWordBits) | (*next[t] & (0 - low));  // behind the last word there is one more to read
    next[t] += low;
  };
  for (int i = begin; i < end; ++i) {
#pragma GCC unroll 8
    for (int t = 0; t < kTails; ++t) {
      const Symbol symbol = Symbol(tail_step<kBuckets>(*table[t], y[t], [&]() __attribute__((always_inline)) { refill(t); }));
      std::memcpy(out[t] + int64_t(i) * int64_t(sizeof symbol), &symbol, sizeof symbol);
    }
  }
  for (int t = 0; t < kTails; ++t) {
    tails[t]->state = y[t];
    tails[t]->next = int(next[t] - tails[t]->word);
  }
}

template <int kBuckets, class Symbol>
void decode_steps_of(Tail* const* tails, int n, int begin, int end) {
  switch (n) {
    case 1: return decode_steps<kBuckets, Symbol, 1>(tails, begin, end);
    case 2: return decode_steps<kBuckets, Symbol, 2>(tails, begin, end);
    case 3: return decode_steps<kBuckets, Symbol, 3>(tails, begin, end);
    case 4: return decode_steps<kBuckets, Symbol, 4>(tails, begin, end);
    case 5: return decode_steps<kBuckets, Symbol, 5>(tails, begin, end);
    default: return decode_steps<kBuckets, Symbol, 6>(tails, begin, end);
  }
}

template <int kBuckets>
void decode_steps_in(Tail* const* tails, int n, int begin, int end) {
  if (tails[0]->table->symbol_bytes == 1) decode_steps_of<kBuckets, uint8_t>(tails, n, begin, end);
  else decode_steps_of<kBuckets, uint16_t>(tails, n, begin, end);
}

}  // namespace

Status decode_tails(Tail** tails, int n) {
  std::sort(tails, tails + n, [](const Tail* a, const Tail* b) { return a->count > b->count; });  // then those that are not done are the first
  int done = 0;
  for (int active = n; active > 0; --active) {
    const int end = tails[active - 1]->count;
    if (end > done) {
      switch (tails[0]->table->buckets) {
        case 64: decode_steps_in<64>(tails, active, done, end); break;
        case 128: decode_steps_in<128>(tails, active, done, end); break;
        default: decode_steps_in<256>(tails, active, done, end);
      }
      done = end;
    }
  }
  for (int t = 0; t < n; ++t)
    if (tails[t]->state != 1 || tails[t]->next != tails[t]->words) return Status::kTailStateMismatch;
  return Status::kOk;
}

}  // namespace ans::core
