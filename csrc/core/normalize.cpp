#include "core/normalize.h"

#include <algorithm>
#include <numeric>

#include "core/bit_io.h"
#include "core/log2_table.h"
#include "core/table_code.h"

namespace ans::core {
namespace {

using format::kSlots;
using Wide = unsigned __int128;
constexpr Wide kNoGain = ~Wide{0};

// Bits * 2^32 that one more slot saves a symbol.
Wide gain(uint64_t count, uint16_t freq) { return Wide{count} * (log2_table()[freq + 1u] - log2_table()[freq]); }

// freq[i] ~ counts[i] / total * 4096, at least 1: those that would fall below 1 get 1, the others share what is left.
void proportional(const uint64_t* counts, int n, uint16_t* freq) {
  uint64_t total = 0;
  for (int i = 0; i < n; ++i) total += counts[i];
  int slots = kSlots, forced = 0, before = -1;
  uint64_t shared = total;
  while (forced != before) {
    before = forced;
    const uint64_t share_total = shared;
    const int share_slots = slots;
    shared = 0, slots = kSlots, forced = 0;
    for (int i = 0; i < n; ++i) {
      if (share_total == 0 || Wide{counts[i]} * unsigned(share_slots) < share_total) {
        freq[i] = 1;
        ++forced;
        --slots;
      } else {
        freq[i] = uint16_t(Wide{counts[i]} * unsigned(share_slots) / share_total);
        shared += counts[i];
      }
    }
    if (slots < 1) slots = 1;
  }
}

int best_increment(const uint64_t* counts, const uint16_t* freq, int n) {
  int best = 0;
  for (int i = 1; i < n; ++i)
    if (gain(counts[i], freq[i]) > gain(counts[best], freq[best])) best = i;
  return best;
}
int best_decrement(const uint64_t* counts, const uint16_t* freq, int n) {  // -1 if all are 1
  int best = -1;
  Wide loss = kNoGain;
  for (int i = 0; i < n; ++i) {
    if (freq[i] < 2) continue;
    const Wide l = gain(counts[i], uint16_t(freq[i] - 1));
    if (l < loss) {
      loss = l;
      best = i;
    }
  }
  return best;
}

struct Candidate {
  FrequencyTable table;
  uint64_t bits = ~uint64_t{0};
};

// The table in which the values `kept` (ascending, as offsets into counts) have slots and everything else is escaped.
Candidate make_candidate(const uint64_t* counts, format::SymbolType type, const std::vector<int>& kept, uint64_t escaped, int escaped_min, int escaped_max) {
  Candidate c;
  FrequencyTable& t = c.table;
  t.has_escape = escaped > 0;
  t.core_size = kept.back() - kept.front() + 1;
  if (t.alphabet_size() > format::kMaxAlphabet) return c;
  t.first_value = format::symbol_min(type) + kept.front();
  std::vector<uint64_t> n;
  for (int k : kept) n.push_back(counts[k]);
  if (t.has_escape) {
    t.raw_bits = std::max(1, bit_length(uint32_t(escaped_max - escaped_min)));
    const int32_t low = format::symbol_min(type) + escaped_min, high = format::symbol_min(type) + escaped_max;
    const int32_t usual = default_raw_min(type, t.raw_bits);  // costs nothing to send
    t.raw_min = usual <= low && high < usual + (1 << t.raw_bits) ? usual : std::min(low, format::symbol_max(type) + 1 - (1 << t.raw_bits));
    n.push_back(escaped);
  }
  std::vector<uint16_t> freq(n.size());
  normalize(n.data(), int(n.size()), freq.data());
  Wide sum = 0;
  for (size_t i = 0; i < n.size(); ++i) sum += Wide{n[i]} * code_length(freq[i]);
  for (size_t i = 0; i < kept.size(); ++i) t.freq[size_t(kept[i] - kept.front())] = freq[i];
  if (t.has_escape) t.freq[size_t(t.core_size)] = freq.back();
  c.bits = uint64_t(sum >> kLog2FractionBits) + escaped * uint64_t(t.raw_bits) + uint64_t(table_bits(t, type));
  return c;
}

// A table for one value (or none): a neighbour gets the slot that would otherwise be missing.
FrequencyTable single_value_table(int32_t value, format::SymbolType type) {
  FrequencyTable t;
  t.core_size = 2;
  const bool above = value < format::symbol_max(type);
  t.first_value = above ? value : value - 1;
  t.freq[above ? 0 : 1] = format::kMaxFreq;
  t.freq[above ? 1 : 0] = 1;
  return t;
}

}  // namespace

void normalize(const uint64_t* counts, int n, uint16_t* freq) {
  proportional(counts, n, freq);
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += freq[i];
  for (; sum < kSlots; ++sum) ++freq[best_increment(counts, freq, n)];
  for (; sum > kSlots; --sum) --freq[best_decrement(counts, freq, n)];
  for (;;) {
    const int up = best_increment(counts, freq, n), down = best_decrement(counts, freq, n);
    if (down < 0 || up == down || gain(counts[up], freq[up]) <= gain(counts[down], uint16_t(freq[down] - 1))) return;
    ++freq[up];
    --freq[down];
  }
}

FrequencyTable build_table(const uint64_t* counts, format::SymbolType type) {
  const int values = format::symbol_values(type);
  std::vector<int> present;
  uint64_t total = 0;
  for (int i = 0; i < values; ++i) {
    if (counts[i] == 0) continue;
    present.push_back(i);
    total += counts[i];
  }
  if (present.size() < 2) return single_value_table(format::symbol_min(type) + (present.empty() ? 0 : present[0]), type);

  // Values outside the window that holds most symbols can only be escaped.
  size_t first = 0, last = present.size();  // [first, last) of present
  if (present.back() - present.front() >= format::kMaxAlphabet) {
    uint64_t inside = 0, best = 0;
    for (size_t begin = 0, end = 0; begin < present.size(); ++begin) {
      for (; end < present.size() && present[end] - present[begin] < format::kMaxAlphabet - 1; ++end) inside += counts[present[end]];
      if (inside > best) {
        best = inside;
        first = begin;
        last = end;
      }
      inside -= counts[present[begin]];
    }
  }
  std::vector<int> by_count(present.begin() + long(first), present.begin() + long(last));
  std::stable_sort(by_count.begin(), by_count.end(), [&](int x, int y) { return counts[x] < counts[y]; });

  // Escaping the `rare` rarest of the window: only what would get less than two slots is worth a trial.
  int max_rare = 0;
  while (max_rare + 1 < int(by_count.size()) && Wide{counts[by_count[size_t(max_rare)]]} * kSlots < Wide{total} * 2) ++max_rare;
  auto candidate = [&](int rare) {
    std::vector<int> kept(by_count.begin() + rare, by_count.end());
    std::sort(kept.begin(), kept.end());
    uint64_t escaped = total;
    for (int k : kept) escaped -= counts[k];
    int lo = values, hi = -1;
    auto add = [&](int v) { lo = std::min(lo, v), hi = std::max(hi, v); };
    for (int i = 0; i < rare; ++i) add(by_count[size_t(i)]);
    for (size_t i = 0; i < present.size(); ++i)
      if (i < first || i >= last) add(present[i]);
    return make_candidate(counts, type, kept, escaped, lo, hi);
  };
  constexpr int kStride = 4;
  Candidate best = candidate(0);
  int best_rare = 0;
  auto consider = [&](int rare) {
    Candidate c = candidate(rare);
    if (c.bits < best.bits) {
      best = c;
      best_rare = rare;
    }
  };
  for (int rare = kStride; rare <= max_rare; rare += kStride) consider(rare);
  const int centre = best_rare;
  for (int rare = std::max(1, centre - kStride + 1); rare < centre + kStride && rare <= max_rare; ++rare)
    if (rare != centre) consider(rare);
  return best.table;
}

uint64_t coded_bits(const uint64_t* counts, format::SymbolType type, const FrequencyTable& table) {
  Wide sum = 0;
  uint64_t escaped = 0;
  const int first = table.first_value - format::symbol_min(type);
  for (int i = 0; i < format::symbol_values(type); ++i) {
    if (counts[i] == 0) continue;
    const bool in_core = i >= first && i < first + table.core_size;
    const int freq = in_core ? table.freq[size_t(i - first)] : 0;
    if (freq > 0) {
      sum += Wide{counts[i]} * code_length(freq);
      continue;
    }
    const int64_t raw = int64_t(format::symbol_min(type)) + i - table.raw_min;
    if (!table.has_escape || raw < 0 || raw >= int64_t{1} << table.raw_bits) return ~uint64_t{0};
    escaped += counts[i];
  }
  if (escaped > 0) sum += Wide{escaped} * code_length(table.freq[size_t(table.core_size)]);
  return uint64_t((sum >> kLog2FractionBits) + 1) + escaped * uint64_t(table.raw_bits);
}

std::vector<uint8_t> stream_prefix(const uint64_t* counts, format::SymbolType type, int64_t chunk_symbols) {
  const int values = format::symbol_values(type);
  uint64_t total = 0;
  int distinct = 0, value = 0;
  for (int i = 0; i < values; ++i) {
    if (counts[i] == 0) continue;
    ++distinct;
    total += counts[i];
    value = format::symbol_min(type) + i;
  }
  auto tag = [](format::Model m) { return std::vector<uint8_t>{uint8_t(m)}; };
  if (distinct == 0) return tag(format::Model::kRaw);
  if (distinct == 1) {
    std::vector<uint8_t> out = tag(format::Model::kConstant);
    for (int k = 0; k < format::symbol_bytes(type); ++k) out.push_back(uint8_t(uint32_t(value) >> (8 * k)));
    return out;
  }
  const FrequencyTable table = build_table(counts, type);
  const std::vector<uint8_t> coded = write_table(table, type);
  // Lanes and directory: about 9 bytes for a wide chunk, 3 for a narrow one.
  const uint64_t chunks = (total + uint64_t(chunk_symbols) - 1) / uint64_t(chunk_symbols);
  const uint64_t per_chunk = std::min<uint64_t>(total, uint64_t(chunk_symbols)) <= uint64_t(format::kMaxTail) ? 3 : 9;
  const uint64_t order0 = coded.size() + 2 + coded_bits(counts, type, table) / 8 + chunks * per_chunk;
  if (order0 >= total * uint64_t(format::symbol_bytes(type))) return tag(format::Model::kRaw);
  std::vector<uint8_t> out = tag(chunks == 1 ? format::Model::kOrder0OneChunk : format::Model::kOrder0);
  if (chunks > 1) {  // chunk_symbols as a varint
    uint64_t rest = uint64_t(chunk_symbols);
    for (; rest >= 128; rest >>= 7) out.push_back(uint8_t(rest | 128));
    out.push_back(uint8_t(rest));
  }
  out.insert(out.end(), coded.begin(), coded.end());
  return out;
}

}  // namespace ans::core
