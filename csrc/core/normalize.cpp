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
constexpr uint64_t kFewSymbols = uint64_t{1} << 16;
constexpr uint64_t kManySymbols = uint64_t{1} << 18;  // from here on the finest unit pays

// freq[i] ~ counts[i] / total * all_slots, at least 1: those that would fall below 1 get 1, the others share what is left. The counts sum to at most 2^48.
void proportional(const uint64_t* counts, int n, uint16_t* freq, int all_slots) {
  uint64_t total = 0;
  for (int i = 0; i < n; ++i) total += counts[i];
  int slots = all_slots, forced = 0, before = -1;
  uint64_t shared = total;
  while (forced != before) {
    before = forced;
    const uint64_t share_total = shared;
    const int share_slots = slots;
    shared = 0, slots = all_slots, forced = 0;
    for (int i = 0; i < n; ++i) {
      if (share_total == 0 || counts[i] * unsigned(share_slots) < share_total) {
        freq[i] = 1;
        ++forced;
        --slots;
      } else {
        freq[i] = uint16_t((counts[i] * unsigned(2 * share_slots) + share_total) / (share_total * 2));  // to the nearest
        shared += counts[i];
      }
    }
    if (slots < 1) slots = 1;
  }
}

// Frequencies with the gain of one more, and the loss of one less, at hand for each. Gain holds counts times 2^32.
template <class Gain>
class Exchange {
 public:
  Exchange(const uint64_t* counts, uint16_t* freq, int n) : counts_(counts), freq_(freq), n_(n), up_(size_t(n)), down_(size_t(n)) {
    for (int i = 0; i < n; ++i) update(i);
  }
  // Ties go to the lower index.
  int best_increment() const {
    int best = 0;
    for (int i = 1; i < n_; ++i)
      if (up_[size_t(i)] > up_[size_t(best)]) best = i;
    return best;
  }
  int best_decrement() const {  // -1 if all are 1
    int best = -1;
    for (int i = 0; i < n_; ++i)
      if (down_[size_t(i)] != kNone && (best < 0 || down_[size_t(i)] < down_[size_t(best)])) best = i;
    return best;
  }
  void add(int i, int step) {
    freq_[i] = uint16_t(freq_[i] + step);
    update(i);
  }
  bool helps(int up, int down) const { return down >= 0 && up != down && up_[size_t(up)] > down_[size_t(down)]; }

 private:
  static constexpr Gain kNone = ~Gain{0};
  // Bits * 2^32 that one slot more than freq saves.
  static Gain gain(uint64_t count, uint16_t freq) { return Gain{count} * (log2_table()[freq + 1u] - log2_table()[freq]); }
  void update(int i) {
    up_[size_t(i)] = gain(counts_[i], freq_[i]);
    down_[size_t(i)] = freq_[i] < 2 ? kNone : gain(counts_[i], uint16_t(freq_[i] - 1));
  }
  const uint64_t* counts_;
  uint16_t* freq_;
  int n_;
  std::vector<Gain> up_, down_;
};

// Adds, removes and moves slots until their sum is right and no move helps.
template <class Gain>
void exchange_slots(const uint64_t* counts, int n, uint16_t* freq, int slots) {
  Exchange<Gain> exchange(counts, freq, n);
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += freq[i];
  for (; sum < slots; ++sum) exchange.add(exchange.best_increment(), 1);
  for (; sum > slots; --sum) exchange.add(exchange.best_decrement(), -1);
  for (;;) {
    const int up = exchange.best_increment(), down = exchange.best_decrement();
    if (!exchange.helps(up, down)) return;
    exchange.add(up, 1);
    exchange.add(down, -1);
  }
}

// A lower bound, to 0.1 %, of the bits that any order-0 code takes; by integer arithmetic.
uint64_t entropy_bits(const uint64_t* counts, int values, uint64_t total) {
  // v * log2 v from the 12 highest bits of v, rounded down or up
  auto scaled = [](uint64_t v, bool up) {
    const int shift = std::max(0, 64 - __builtin_clzll(v) - format::kProbBits);
    const uint64_t top = (v >> shift) + (up && shift > 0);
    return Wide{v} * (log2_table()[size_t(top)] + (uint64_t(shift) << kLog2FractionBits));
  };
  Wide parts = 0;
  for (int i = 0; i < values; ++i)
    if (counts[i] > 0) parts += scaled(counts[i], true);
  const Wide sum = scaled(total, false);
  return parts >= sum ? 0 : uint64_t((sum - parts) >> kLog2FractionBits);
}

struct Candidate {
  FrequencyTable table;
  uint64_t bits = ~uint64_t{0};
};

// The table in units of 2^shift in which the values `kept` (ascending, as offsets into counts) have slots and everything else is escaped. Without bits if it is
// not legal, or takes `limit` bits or more.
Candidate make_candidate(const uint64_t* counts, format::SymbolType type, int shift, const std::vector<int>& kept, uint64_t escaped, int escaped_min, int escaped_max,
                         uint64_t limit) {
  Candidate c;
  FrequencyTable& t = c.table;
  t.has_escape = escaped > 0;
  t.core_size = kept.back() - kept.front() + 1;
  if (t.alphabet_size() > format::kMaxAlphabet || (kept.size() < 2 && !t.has_escape)) return c;
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
  if (int(n.size()) > kSlots >> shift) return c;
  std::vector<uint16_t> freq(n.size());
  normalize(n.data(), int(n.size()), freq.data(), kSlots >> shift);
  for (uint16_t& f : freq) f = uint16_t(f << shift);
  Wide sum = 0;
  for (size_t i = 0; i < n.size(); ++i) sum += Wide{n[i]} * code_length(freq[i]);
  for (size_t i = 0; i < kept.size(); ++i) t.freq[size_t(kept[i] - kept.front())] = freq[i];
  if (t.has_escape) t.freq[size_t(t.core_size)] = freq.back();
  const uint64_t coded = uint64_t(sum >> kLog2FractionBits) + escaped * uint64_t(t.raw_bits);
  if (coded + uint64_t(t.core_size) >= limit) return c;  // the table takes a bit per symbol at least
  c.bits = coded + uint64_t(table_bits(t, type));
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

void normalize(const uint64_t* counts, int n, uint16_t* freq, int slots) {
  proportional(counts, n, freq, slots);
  const uint64_t largest = *std::max_element(counts, counts + n);
  if (largest < uint64_t{1} << 31) exchange_slots<uint64_t>(counts, n, freq, slots);
  else exchange_slots<Wide>(counts, n, freq, slots);
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

  Candidate best;
  int start = -1;
  auto try_shift = [&](int shift) {
    // Escaping the `rare` rarest of the window: only what would get less than two units is worth a trial.
    const unsigned units = unsigned(kSlots >> shift);
    int max_rare = 0;
    while (max_rare + 1 < int(by_count.size()) && Wide{counts[by_count[size_t(max_rare)]]} * units < Wide{total} * 2) ++max_rare;
    uint64_t best_bits = ~uint64_t{0};
    int best_rare = 0;
    auto consider = [&](int rare) {
      if (rare < 0 || rare > max_rare) return;
      std::vector<int> kept(by_count.begin() + rare, by_count.end());
      std::sort(kept.begin(), kept.end());
      uint64_t escaped = total;
      for (int k : kept) escaped -= counts[k];
      int lo = values, hi = -1;
      auto add = [&](int v) { lo = std::min(lo, v), hi = std::max(hi, v); };
      for (int i = 0; i < rare; ++i) add(by_count[size_t(i)]);
      for (size_t i = 0; i < present.size(); ++i)
        if (i < first || i >= last) add(present[i]);
      const Candidate c = make_candidate(counts, type, shift, kept, escaped, lo, hi, best_bits);
      if (c.bits < best_bits) {
        best_bits = c.bits;
        best_rare = rare;
      }
      if (c.bits < best.bits) best = c;
    };
    // The length is nearly convex in `rare`: look around where the best is most often, or was in units half as large.
    if (start < 0)
      for (start = 0; start < max_rare && Wide{counts[by_count[size_t(start)]]} * units * 5 < Wide{total} * 3;) ++start;
    best_rare = std::min(start, max_rare);
    consider(best_rare);
    if (total < kFewSymbols) {  // then the form of the table decides as well
      const int middle = best_rare;
      consider(middle / 2);
      consider((middle + max_rare + 1) / 2);
    }
    for (int stride = std::max(1, max_rare / 6);;) {
      const int centre = best_rare;
      consider(centre - stride);
      consider(centre + stride);
      if (stride == 1 && best_rare == centre) break;
      stride = (stride + 1) / 2;
    }
    for (int rare = 0; rare <= max_rare && best_bits == ~uint64_t{0}; ++rare) consider(rare);  // none of these was legal
    start = best_rare;
    return best_bits;
  };
  // Few symbols do not justify fine frequencies: with n symbols a unit of about 4096 / n slots says all that their counts do.
  int shift = 0;
  while (shift < format::kMaxUnitShift && total << (shift + 1) <= uint64_t(kSlots)) ++shift;
  uint64_t bits = try_shift(shift);
  for (int other = shift + 1; other <= format::kMaxUnitShift && total < kManySymbols; ++other) {
    const uint64_t b = try_shift(other);
    if (b >= bits) break;
    bits = b;
  }
  if (best.bits == ~uint64_t{0}) (void)try_shift(0);  // more values than units
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

std::vector<uint8_t> stream_prefix(const uint64_t* counts, format::SymbolType type, int64_t chunk_symbols, FrequencyTable* table_out) {
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
  const uint64_t raw_bits = total * 8 * uint64_t(format::symbol_bytes(type));
  // No search for a table that cannot pay: it takes a bit for each symbol at least, and (an experience, not a bound) two and a half where each occurs a few times.
  const uint64_t least_table = total < 8 * uint64_t(distinct) ? 5 * uint64_t(distinct) / 2 : uint64_t(distinct);
  if (entropy_bits(counts, values, total) + least_table >= raw_bits) return tag(format::Model::kRaw);
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
  if (table_out != nullptr) *table_out = table;
  return out;
}

}  // namespace ans::core
