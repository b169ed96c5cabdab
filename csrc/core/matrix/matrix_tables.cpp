#include "core/matrix/matrix_tables.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>

#include "core/alias_table.h"
#include "core/bit_io.h"
#include "core/trellis/trellis.h"

namespace ans::core {
namespace {

// round(2^15 * 2^(i / 8))
constexpr uint32_t kPowers[8] = {32768, 35734, 38968, 42495, 46341, 50535, 55109, 60097};

// factor * 2^(eighths / 8), rounded down in the way that BITSTREAM.md, section 7.5, says.
uint32_t times_power(uint32_t factor, int eighths) {
  const int whole = eighths >> 3;  // floor
  const uint64_t product = uint64_t(factor) * kPowers[eighths & 7];
  return uint32_t(whole <= 15 ? product >> (15 - whole) : product << (whole - 15));
}

// A residual of r eighths where a scale of 1 is expected counts as kNeutral * r / 8: on average that is 2^14, the mean of a normal variable's magnitude being sqrt(2 / pi).
constexpr uint32_t kNeutral = 20534;

// MatrixRows::coefficients of a predictor.
std::vector<CoefficientGroup> coefficient_groups(const Predictor& p) {
  const size_t period = size_t(p.period), pairs = (period + 1) / 2, window = size_t(p.window);
  constexpr size_t kGroup = kCoefficientGroup;
  std::vector<CoefficientGroup> result((period + kGroup - 1) / kGroup * pairs);
  size_t next = 0;
  for (size_t j = 0; j < period; ++j)
    for (size_t k = j - std::min(j, window); k < j; ++k, ++next) {
      const int32_t c = p.stationary ? p.coefficients[j - k - 1] : p.coefficients[next];
      result[j / kGroup * pairs + k / 2].of[j % kGroup] |= uint32_t(uint16_t(c)) << (k % 2 * 16);
    }
  return result;
}

// The groups of a predictor, one copy for all tables that use it at the same time.
std::shared_ptr<const std::vector<CoefficientGroup>> shared_groups(const std::shared_ptr<const Predictor>& predictor) {
  using Groups = std::vector<CoefficientGroup>;
  static std::mutex mutex;
  static std::map<std::weak_ptr<const Predictor>, std::weak_ptr<const Groups>, std::owner_less<std::weak_ptr<const Predictor>>> known;
  const std::lock_guard<std::mutex> lock(mutex);
  for (auto at = known.begin(); at != known.end();) at = at->second.expired() ? known.erase(at) : std::next(at);
  if (const auto found = known.find(predictor); found != known.end())
    if (auto groups = found->second.lock(); groups != nullptr) return groups;
  auto groups = std::make_shared<const Groups>(coefficient_groups(*predictor));
  known[predictor] = groups;
  return groups;
}

}  // namespace

FrequencyTable context_table(const MatrixModel& m, int context) {
  const int k = context / m.phases();
  FrequencyTable table = class_table(m.class_log_scale(k), int(m.classes[size_t(k)].shape), m.phase_of(context), m.buckets);
  table.raw_bits = m.raw_bits;
  table.raw_min = m.raw_min;
  return table;
}

MatrixTables::MatrixTables(const MatrixModel& m, format::SymbolType type) : columns_(m.columns), parts_(m.parts.size()) {
  for (int32_t s : m.line_start) start_.push_back(times_power(1u << kAverageBits, s));
  for (size_t i = 0; i < parts_.size(); ++i) {
    const MatrixPart& from = m.parts[i];
    Part& part = parts_[i];
    for (int32_t s : from.scale) {
      part.scale.push_back(kScaleStep * s - m.class_origin);
      part.inverse.push_back(times_power(kNeutral, -s));
    }
    part.mean = from.mean;
    MatrixRows& rows = part.rows;
    rows = {};
    rows.columns = m.columns;
    rows.odd = trellis_odd(m.trellis);
    rows.parity = trellis_parity(m.trellis);
    rows.limited = counted_as(type) != type;
    rows.lowest = kPhases * format::symbol_min(counted_as(type));
    rows.highest = kPhases * format::symbol_max(counted_as(type));
    rows.scale = part.scale.data();
    rows.inverse = part.inverse.data();
    for (int a = 0; a < 2; ++a) {
      rows.weight[a] = m.adaptation[a].rate == 0 ? 0 : m.adaptation[a].weight;
      rows.rate[a] = m.adaptation[a].rate == kHeld ? 0 : m.adaptation[a].rate;
    }
    rows.class_shift = m.class_shift;
    rows.classes = int(m.classes.size());
    rows.phases = m.phases();
    rows.mean = part.mean.empty() ? nullptr : part.mean.data();
    if (from.predictor == nullptr) continue;
    part.coefficients = shared_groups(from.predictor);
    rows.period = from.predictor->period;
    rows.pairs = (rows.period + 1) / 2;
    rows.window = from.predictor->window;
    rows.shift = from.predictor->shift;
    rows.coefficients = part.coefficients->data();
  }
}

int64_t MatrixTables::max_pairs() const {
  int64_t most = 0;
  for (const Part& part : parts_) most = std::max(most, part.rows.pairs);
  return most;
}

ContextSlots ContextDecodeTables::slots() const { return {divider.data(), step.data(), bit_length(uint32_t(buckets)) - 1}; }

ContextDecodeTables make_context_decode_tables(const MatrixModel& m) {
  ContextDecodeTables t;
  t.buckets = m.buckets;
  const size_t buckets = size_t(m.buckets);
  t.divider.resize(size_t(m.contexts()) * buckets + 4);  // a gather reads 32 bits
  t.step.resize(size_t(m.contexts()) * 2 * buckets);
  for (int context = 0; context < m.contexts(); ++context) {
    const FrequencyTable table = context_table(m, context);
    const AliasTable alias = make_alias_table(table, m.buckets);
    auto step = [&](size_t index, uint32_t bias) {
      const uint32_t residual = int(index) == table.escape_index() ? 0 : uint32_t(table.first_value + int(index) + kResidualBias);
      return uint32_t(alias.freq[index]) << 20 | (bias & uint32_t(format::kSlots - 1)) << 8 | residual;
    };
    for (size_t b = 0; b < buckets; ++b) {
      const size_t at = size_t(context) * buckets + b;
      t.divider[at] = uint8_t(alias.divider[b]);
      t.step[2 * at] = step(b, 0);
      t.step[2 * at + 1] = step(alias.alias[b], alias.alias_offset[b]);
    }
  }
  return t;
}

std::vector<uint32_t> ContextEncodeTables::entries() const {
  std::vector<uint32_t> result;
  for (size_t i = 0; i < size_t(contexts) * 256; ++i) {
    const EncodeTable& t = table[i / 256];
    const int index = index_of[i];
    result.push_back(uint32_t(index) | (index == t.escape_index ? kEscapedMark : 0) | uint32_t(t.cost[index]) << 16);
  }
  return result;
}

ContextEncodeTables make_context_encode_tables(const MatrixModel& m, format::SymbolType type) {
  ContextEncodeTables t;
  t.contexts = m.contexts();
  t.table.reset(new EncodeTable[size_t(t.contexts)]);  // not initialised
  t.index_of.resize(size_t(t.contexts) * 256 + 4);     // a gather reads 32 bits
  for (int context = 0; context < t.contexts; ++context) {
    const FrequencyTable table = context_table(m, context);
    make_encode_table(table, type, &t.table[size_t(context)], m.buckets);
    uint8_t* index_of = t.index_of.data() + size_t(context) * 256;
    std::fill_n(index_of, 256, uint8_t(table.escape_index()));
    for (int i = 0; i < table.core_size; ++i)
      if (table.freq[size_t(i)] > 0) index_of[table.first_value + i + kResidualBias] = uint8_t(i);
  }
  return t;
}

}  // namespace ans::core
