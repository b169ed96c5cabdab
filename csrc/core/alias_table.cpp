#include "core/alias_table.h"

#include <algorithm>
#include <vector>

namespace ans::core {

AliasTable make_alias_table(const FrequencyTable& table, int bucket_choice) {
  AliasTable t;
  t.buckets = bucket_choice != 0 ? bucket_choice : format::bucket_count(table.alphabet_size());
  t.width = format::kSlots / t.buckets;
  const size_t buckets = size_t(t.buckets);
  const uint16_t width = uint16_t(t.width);
  t.freq = table.freq;

  std::array<uint16_t, format::kMaxAlphabet> rest = table.freq;
  std::vector<uint16_t> small, large, late;
  for (size_t b = 0; b < buckets; ++b) (rest[b] < width ? small : large).push_back(uint16_t(b));
  std::stable_sort(small.begin(), small.end(), [&](uint16_t x, uint16_t y) { return rest[x] < rest[y]; });

  // Short and long alias parts in turn: an encoder that looks for the part which holds a given bias then needs few comparisons.
  size_t front = 0, back = small.size();
  bool from_back = false;
  for (;;) {
    uint16_t b;
    if (front < back) {
      b = from_back ? small[--back] : small[front++];
      from_back = !from_back;
    } else if (!late.empty()) {
      b = late.back();
      late.pop_back();
    } else {
      break;
    }
    t.divider[b] = rest[b];
    const uint16_t l = large.back();  // never empty: what is not yet placed sums to `width` per bucket on average
    t.alias[b] = l;
    rest[l] = uint16_t(rest[l] - (width - rest[b]));
    if (rest[l] < width) {
      large.pop_back();
      late.push_back(l);
    }
  }
  for (uint16_t b : large) {
    t.divider[b] = width;
    t.alias[b] = b;
  }

  std::array<uint16_t, format::kMaxAlphabet> next = t.divider;
  for (size_t b = 0; b < buckets; ++b) {
    if (t.divider[b] == width) continue;
    const size_t l = t.alias[b];
    t.alias_offset[b] = uint16_t(next[l] - t.divider[b]);
    next[l] = uint16_t(next[l] + width - t.divider[b]);
  }
  return t;
}

SlotOrder make_slot_order(const AliasTable& t) {
  SlotOrder order;
  uint32_t sum = 0;
  for (size_t i = 0; i <= format::kMaxAlphabet; ++i) {
    order.start[i] = uint16_t(sum);
    if (i < format::kMaxAlphabet) sum += t.freq[i];
  }
  visit_runs(t, [&](uint32_t slot, uint32_t count, uint32_t index, uint32_t bias) {
    uint16_t* to = order.slot_of.data() + order.start[index] + bias;
    for (uint32_t i = 0; i < count; ++i) to[i] = uint16_t(slot + i);
  });
  return order;
}

}  // namespace ans::core
