#include "core/matrix/class_fit.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "core/bit_io.h"
#include "core/log2_table.h"

namespace ans::core {
namespace {

constexpr size_t kPlaces = 256;  // per context
constexpr int kWorthOfSpeed = 11;  // tables of 32 buckets may cost one bit in 2^11
using Costs = std::array<std::array<uint32_t, kPlaces>, kPhases>;

// What residuals cost, by phase and place.
Costs costs_of(int log_scale, int shape, int buckets, int raw_bits) {
  Costs costs;
  for (size_t phase = 0; phase < kPhases; ++phase) {
    const FrequencyTable t = class_table(log_scale, shape, int(phase), buckets);
    auto cost = [&](int index) { return uint32_t(code_length(t.freq[size_t(index)]) >> (kLog2FractionBits - kCostBits)); };
    costs[phase].fill(cost(t.core_size) + (uint32_t(raw_bits) << kCostBits));
    for (int i = 0; i < t.core_size; ++i)
      if (t.freq[size_t(i)] > 0) costs[phase][size_t(t.first_value + i + 128)] = cost(i);
  }
  return costs;
}

// They are asked for again and again, for every tensor.
const Costs& cached_costs(int log_scale, int shape, int buckets, int raw_bits) {
  static std::mutex mutex;
  static std::map<std::array<int, 4>, std::unique_ptr<Costs>> cache;
  const std::array<int, 4> key{log_scale, shape, buckets, raw_bits};
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (const auto found = cache.find(key); found != cache.end()) return *found->second;
  }
  auto made = std::make_unique<Costs>(costs_of(log_scale, shape, buckets, raw_bits));
  const std::lock_guard<std::mutex> lock(mutex);
  return *cache.emplace(key, std::move(made)).first->second;
}

// Counts of a class that are not 0.
struct Sparse {
  struct Entry {
    uint32_t place;  // phase * 256 + place
    uint64_t count;
  };
  std::vector<Entry> entries;
  uint64_t total = 0;

  explicit Sparse(const uint64_t* counts) {
    for (uint32_t i = 0; i < uint32_t(kPhases * kPlaces); ++i)
      if (counts[i] != 0) entries.push_back({i, counts[i]});
  }
  Sparse(const uint64_t* counts, const MatrixModel& m) {
    for (uint32_t i = 0; i < uint32_t(m.phases()) * kPlaces; ++i) {
      if (counts[i] == 0) continue;
      entries.push_back({uint32_t(m.phase_of(int(i / kPlaces))) * uint32_t(kPlaces) + i % uint32_t(kPlaces), counts[i]});
      total += counts[i];
    }
  }
  uint64_t bits(const Costs& costs) const {
    uint64_t sum = 0;
    for (const Entry& e : entries) sum += e.count * costs[e.place / kPlaces][e.place % kPlaces];
    return sum;
  }
};

struct Fit {
  ClassShape shape;
  uint64_t symbols, sent;  // bits * 2^kCostBits: of the symbols, and what it takes to send the shape
  uint64_t bits() const { return symbols + sent; }
};

// The best offset and shape of a class whose middle is at `middle`, descending in turn along each; what it takes to send them counts.
Fit fit_class(const Sparse& counts, int middle, int32_t shape_before, int buckets, int raw_bits) {
  auto fit = [&](ClassShape c) -> Fit {
    const int log_scale = std::min(kMaxLogScale, std::max(kMinLogScale, middle + c.offset));
    const uint64_t sent = uint64_t(exp_golomb_bits(fold_sign(c.offset), 2) + exp_golomb_bits(fold_sign(c.shape - shape_before), 0));
    return {c, counts.bits(cached_costs(log_scale, c.shape, buckets, raw_bits)), sent << kCostBits};
  };
  Fit best = fit({0, shape_before});
  auto consider = [&](ClassShape c) {
    if (c.shape < 0 || c.shape >= kShapes || std::abs(c.offset) > 3 * kOctave) return false;
    const Fit found = fit(c);
    if (found.bits() >= best.bits()) return false;
    best = found;
    return true;
  };
  for (bool better = true; better;) {
    better = false;
    for (int step : {8, 3, 1})
      for (int direction : {-step, step})
        while (consider({best.shape.offset + direction, best.shape.shape})) better = true;
    for (int direction : {-1, 1})
      while (consider({best.shape.offset, best.shape.shape + direction})) better = true;
  }
  return best;
}

}  // namespace

int fit_class_shape(const uint64_t* counts, int buckets, int raw_bits, int* log_scale) {
  constexpr int kNearlyNormal = 7;
  const Fit fit = fit_class(Sparse(counts), *log_scale, kNearlyNormal, buckets, raw_bits);
  *log_scale = std::min(kMaxLogScale, std::max(kMinLogScale, *log_scale + fit.shape.offset));
  return fit.shape.shape;
}

uint64_t fit_classes(const PlaceCounts& counts, MatrixModel* model) {
  MatrixModel& m = *model;
  const size_t size = size_t(m.phases()) * kPlaces;
  const int all = int(m.classes.size());
  std::vector<uint64_t> total(size_t(all), 0);
  uint64_t sum = 0;
  for (int k = 0; k < all; ++k) {
    for (size_t i = 0; i < size; ++i) total[size_t(k)] += counts[size_t(k) * size + i];
    sum += total[size_t(k)];
  }
  // Classes of few symbols at both ends, joined with the next.
  const uint64_t few = std::max<uint64_t>(32, sum / 20000);
  PlaceCounts joined = counts;
  auto join = [&](int from, int to) {
    for (size_t i = 0; i < size; ++i) joined[size_t(to) * size + i] += joined[size_t(from) * size + i];
    total[size_t(to)] += total[size_t(from)];
  };
  int first = 0, last = all - 1;
  for (; first < last && total[size_t(first)] < few; ++first) join(first, first + 1);
  for (; last > first && total[size_t(last)] < few; --last) join(last, last - 1);

  std::vector<Sparse> sparse;
  for (int k = first; k <= last; ++k) sparse.emplace_back(joined.data() + size_t(k) * size, m);
  m.class_origin += first << m.class_shift;
  MatrixModel best;
  uint64_t best_bits = 0, best_symbols = 0;
  for (int buckets : {32, 64, 128, 256}) {
    if (buckets == 32 && m.trellis == 0) continue;  // it is there for speed: two such tables are as large as one of 64
    m.buckets = buckets;
    m.classes.clear();
    uint64_t bits = 0, symbols = 0;
    int32_t shape = 7;
    for (int k = 0; k <= last - first; ++k) {
      const int middle = m.class_middle(k);
      const Fit fit = fit_class(sparse[size_t(k)], middle, shape, buckets, m.raw_bits);
      m.classes.push_back(fit.shape);
      shape = fit.shape.shape;
      bits += fit.bits();
      symbols += fit.symbols;
    }
    if (best.classes.empty() || bits + (best.buckets == 32 ? bits >> kWorthOfSpeed : 0) < best_bits) {
      best.classes = m.classes, best.buckets = buckets, best_bits = bits, best_symbols = symbols;
    } else if (buckets > 64) {
      break;
    }
  }
  m.classes = best.classes;
  m.buckets = best.buckets;
  return best_symbols >> kCostBits;
}

}  // namespace ans::core
