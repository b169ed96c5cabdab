#include "core/matrix/matrix_model.h"

#include <algorithm>
#include <utility>

#include "core/bit_io.h"
#include "core/matrix/int_array.h"

namespace ans::core {
namespace {

constexpr int kColumnsOrder = 8, kLinesOrder = 8, kRawOrder = 4, kOriginOrder = 4, kClassesOrder = 3, kOffsetOrder = 2, kShapeOrder = 0, kListOrder = 1;
constexpr int kTrellisBits = 2, kBucketsBits = 2, kRawBits = 4, kClassShiftBits = 2, kRateBits = 4, kWeightBits = 4, kBaseBits = 2, kFirstShape = 7;

// What the scales of a part are sent relative to.
enum Base : uint32_t { kNothing, kPredictorScale, kPartBefore };

constexpr int kTrellises[] = {0, 4, 8, 32};
uint32_t trellis_code(int states) { return uint32_t(std::find(kTrellises, kTrellises + 4, states) - kTrellises); }

constexpr int kBuckets[] = {64, 128, 256, 32};
uint32_t bucket_code(int buckets) { return uint32_t(std::find(kBuckets, kBuckets + 4, buckets) - kBuckets); }

void append(std::vector<uint8_t>* out, const std::vector<uint8_t>& bytes) { out->insert(out->end(), bytes.begin(), bytes.end()); }

int reference_bits(int64_t lines) { return bit_length(uint32_t(lines - 1)); }

// The array that a base stands for; empty if there is none.
std::vector<int32_t> base_scale(const MatrixModel& m, size_t part, uint32_t base) {
  if (base == kPartBefore) return part > 0 ? m.parts[part - 1].scale : std::vector<int32_t>{};
  const Predictor* p = m.parts[part].predictor.get();
  if (base != kPredictorScale || p == nullptr || p->scale.empty()) return {};
  std::vector<int32_t> scale;
  for (int64_t j = 0; j < m.columns; ++j) scale.push_back(p->scale[size_t(j % p->period)]);
  return scale;
}

std::vector<uint8_t> write_scale(const MatrixModel& m, size_t part) {
  std::vector<uint8_t> best;
  for (uint32_t base : {kNothing, kPredictorScale, kPartBefore}) {
    std::vector<int32_t> values = m.parts[part].scale;
    const std::vector<int32_t> from = base_scale(m, part, base);
    if (base != kNothing && from.empty()) continue;
    for (size_t j = 0; j < from.size(); ++j) values[j] -= from[j];
    BitWriter head;
    head.put(base, kBaseBits);
    std::vector<uint8_t> bytes = head.bytes();
    append(&bytes, write_array(values.data(), int64_t(values.size())));
    if (best.empty() || bytes.size() < best.size()) best = std::move(bytes);
  }
  return best;
}

Status read_scale(const uint8_t** at, const uint8_t* end, MatrixModel* m, size_t part) {
  BitReader in(*at, end - *at, Status::kStreamTruncated);
  const uint32_t base = in.get(kBaseBits);
  *at += in.align();
  if (in.status() != Status::kOk) return in.status();
  const std::vector<int32_t> from = base_scale(*m, part, base);
  if (base != kNothing && from.empty()) return Status::kParameterOutOfRange;
  std::vector<int32_t>& scale = m->parts[part].scale;
  if (const Status s = read_array(at, end, m->columns, kMinScale - kMaxScale, kMaxScale - kMinScale, &scale); s != Status::kOk) return s;
  for (size_t j = 0; j < scale.size(); ++j) {
    if (!from.empty()) scale[j] += from[j];
    if (scale[j] < kMinScale || scale[j] > kMaxScale) return Status::kParameterOutOfRange;
  }
  return Status::kOk;
}

}  // namespace

bool MatrixModel::predicts() const {
  const bool parts_do = std::any_of(parts.begin(), parts.end(), [](const MatrixPart& p) { return p.predictor != nullptr || !p.mean.empty(); });
  return parts_do || has_given_reference || !factor.empty();
}

int MatrixModel::class_middle(int k) const { return class_origin + (k << class_shift) + (1 << class_shift) / 2 - (trellis != 0 ? kOctave : 0); }
int MatrixModel::class_log_scale(int k) const { return std::min(kMaxLogScale, std::max(kMinLogScale, class_middle(k) + classes[size_t(k)].offset)); }

std::vector<uint8_t> write_matrix_model(const MatrixModel& m) {
  BitWriter head;
  head.exp_golomb(uint32_t(m.columns - kMinColumns), kColumnsOrder);
  head.put(trellis_code(m.trellis), kTrellisBits);
  head.put(m.transposed, 1);
  head.exp_golomb(uint32_t(m.chunk_lines - 1), kLinesOrder);
  head.put(bucket_code(m.buckets), kBucketsBits);
  head.put(uint32_t(m.raw_bits - 1), kRawBits);
  head.signed_exp_golomb(m.raw_min, kRawOrder);
  head.put(uint32_t(m.class_shift), kClassShiftBits);
  head.signed_exp_golomb(m.class_origin, kOriginOrder);
  head.exp_golomb(uint32_t(m.classes.size() - 1), kClassesOrder);
  int32_t shape = kFirstShape;
  for (const ClassShape& c : m.classes) {
    head.signed_exp_golomb(c.offset, kOffsetOrder);
    head.signed_exp_golomb(c.shape - shape, kShapeOrder);
    shape = c.shape;
  }
  for (const Adaptation& a : m.adaptation) {
    head.put(uint32_t(a.rate), kRateBits);
    if (a.rate != 0) head.put(uint32_t(a.weight - 1), kWeightBits);
  }
  head.exp_golomb(uint32_t(m.given.size()), kListOrder);
  head.exp_golomb(uint32_t(m.own.size()), kListOrder);
  head.exp_golomb(uint32_t(m.parts.size() - 1), kListOrder);
  for (const MatrixPart& part : m.parts) {
    uint32_t number = 0;  // 0: none
    for (const PredictorList* list : {&m.given, &m.own})
      for (size_t i = 0; i < list->size(); ++i)
        if (part.predictor != nullptr && (*list)[i] == part.predictor) number = uint32_t(1 + i + (list == &m.own ? m.given.size() : 0));
    head.exp_golomb(number, kListOrder);
    head.put(!part.mean.empty(), 1);
  }
  head.put(!m.line_start.empty(), 1);
  head.put(m.has_given_reference, 1);
  if (m.has_given_reference) head.put(m.given_transposed, 1);
  head.put(!m.factor.empty(), 1);
  if (!m.factor.empty()) head.put(m.alternating, 1);
  std::vector<uint8_t> bytes = head.bytes();

  auto array = [&](const std::vector<int32_t>& values) { append(&bytes, write_array(values.data(), int64_t(values.size()))); };
  for (const auto& predictor : m.own) append(&bytes, write_predictor(*predictor));
  for (size_t i = 0; i < m.parts.size(); ++i) {
    append(&bytes, write_scale(m, i));
    if (!m.parts[i].mean.empty()) array(m.parts[i].mean);
  }
  if (m.parts.size() > 1) array(m.part);
  if (!m.line_start.empty()) array(m.line_start);
  if (m.has_given_reference) array(m.given_factor);
  if (!m.factor.empty()) {
    array(m.factor);
    BitWriter references;
    for (size_t i = 0; i < m.factor.size(); ++i)
      if (m.factor[i] != 0) references.put(uint32_t(m.reference[i]), reference_bits(m.lines));
    append(&bytes, references.bytes());
  }
  return bytes;
}

namespace {

// The numbers in front of the arrays, and what they announce.
struct Announced {
  uint64_t given = 0, own = 0;
  std::vector<uint64_t> number;  // [parts]: 0: no predictor; the given ones come first
  std::vector<bool> has_mean;    // [parts]
  bool has_starts = false, has_references = false;
  int64_t bytes = 0;
};

Status read_head(const uint8_t* data, int64_t size, int64_t numel, format::SymbolType type, MatrixModel* m, Announced* head) {
  BitReader in(data, size, Status::kStreamTruncated);
  *m = MatrixModel{};
  const int64_t columns = int64_t(in.exp_golomb(kColumnsOrder)) + kMinColumns;
  m->trellis = kTrellises[in.get(kTrellisBits)];
  m->transposed = in.get(1) != 0;
  const int64_t chunk_lines = int64_t(in.exp_golomb(kLinesOrder)) + 1;
  m->buckets = kBuckets[in.get(kBucketsBits)];
  m->raw_bits = int(in.get(kRawBits)) + 1;
  const int64_t raw_min = in.signed_exp_golomb(kRawOrder);
  m->class_shift = int(in.get(kClassShiftBits));
  const int64_t origin = in.signed_exp_golomb(kOriginOrder);
  const uint64_t classes = in.exp_golomb(kClassesOrder) + 1;
  if (in.status() != Status::kOk) return in.status();
  if (columns > kMaxColumns || numel % columns != 0 || numel / columns < 1 || numel / columns > kMaxLines) return Status::kMatrixShapeOutOfRange;
  m->columns = columns;
  m->lines = numel / columns;
  if (chunk_lines > m->lines || chunk_lines * columns > format::kMaxChunkSymbols) return Status::kChunkSizeOutOfRange;
  m->chunk_lines = chunk_lines;
  if (raw_min < coded_min(type, m->trellis) || raw_min + (int64_t{1} << m->raw_bits) - 1 > coded_max(type, m->trellis)) return Status::kSymbolOutOfRange;
  m->raw_min = int32_t(raw_min);
  if (origin < 2 * kMinLogScale || origin > 2 * kMaxLogScale || classes > uint64_t(kMaxClasses)) return Status::kParameterOutOfRange;
  m->class_origin = int32_t(origin);
  m->classes.resize(size_t(classes));
  int64_t shape = kFirstShape;
  for (ClassShape& c : m->classes) {
    const int64_t offset = in.signed_exp_golomb(kOffsetOrder);
    shape += in.signed_exp_golomb(kShapeOrder);
    if (in.status() != Status::kOk) return in.status();
    if (offset < kMinLogScale || offset > kMaxLogScale || shape < 0 || shape >= kShapes) return Status::kParameterOutOfRange;
    c = {int32_t(offset), int32_t(shape)};
  }
  for (Adaptation& a : m->adaptation) {
    a.rate = int(in.get(kRateBits));
    if (a.rate != 0) a.weight = int(in.get(kWeightBits)) + 1;
  }
  head->given = in.exp_golomb(kListOrder);
  head->own = in.exp_golomb(kListOrder);
  const uint64_t parts = in.exp_golomb(kListOrder) + 1;
  if (in.status() != Status::kOk) return in.status();
  if (head->given > uint64_t(kMaxPredictors) || head->own > uint64_t(kMaxPredictors) || parts > uint64_t(kMaxParts)) return Status::kParameterOutOfRange;
  m->parts.resize(size_t(parts));
  for (size_t i = 0; i < m->parts.size(); ++i) {
    head->number.push_back(in.exp_golomb(kListOrder));
    head->has_mean.push_back(in.get(1) != 0);
    if (in.status() != Status::kOk) return in.status();
    if (head->number.back() > head->given + head->own) return Status::kReferenceMissing;
  }
  head->has_starts = in.get(1) != 0;
  m->has_given_reference = in.get(1) != 0;
  if (m->has_given_reference) m->given_transposed = in.get(1) != 0;
  head->has_references = in.get(1) != 0;
  if (head->has_references) m->alternating = in.get(1) != 0;
  head->bytes = in.align();
  return in.status();
}

}  // namespace

Status read_matrix_needs(const uint8_t* data, int64_t size, int64_t numel, format::SymbolType type, MatrixNeeds* needs) {
  MatrixModel model;
  Announced head;
  if (const Status s = read_head(data, size, numel, type, &model, &head); s != Status::kOk) return s;
  *needs = {int(head.given), model.has_given_reference, model.trellis, model.columns};
  return Status::kOk;
}

Status read_matrix_model(const uint8_t* data, int64_t size, int64_t numel, format::SymbolType type, const PredictorList& given, MatrixModel* m, int64_t* consumed) {
  Announced head;
  if (const Status s = read_head(data, size, numel, type, m, &head); s != Status::kOk) return s;
  if (head.given != given.size()) return Status::kReferenceMissing;
  m->given = given;
  const int64_t columns = m->columns;
  const uint8_t *at = data + head.bytes, *const end = data + size;
  int64_t coefficients = kFreeCoefficients + numel;
  for (uint64_t i = 0; i < head.own; ++i) {
    m->own_begin.push_back(at - data);
    auto predictor = std::make_shared<Predictor>();
    if (const Status s = read_predictor(&at, end, &coefficients, predictor.get()); s != Status::kOk) return s;
    m->own.push_back(std::move(predictor));
  }
  m->own_begin.push_back(at - data);
  Status status = Status::kOk;
  auto array = [&](int64_t count, int32_t lowest, int32_t highest, std::vector<int32_t>* values) {
    if (status == Status::kOk) status = read_array(&at, end, count, lowest, highest, values);
  };
  for (size_t i = 0; i < m->parts.size() && status == Status::kOk; ++i) {
    MatrixPart& part = m->parts[i];
    const uint64_t number = head.number[i];  // 0: none
    if (number > 0) part.predictor = number <= head.given ? given[size_t(number - 1)] : m->own[size_t(number - 1 - head.given)];
    if (part.predictor != nullptr && columns % part.predictor->period != 0) return Status::kMatrixShapeOutOfRange;
    status = read_scale(&at, end, m, i);
    if (head.has_mean[i]) array(columns, kPhases * format::symbol_min(counted_as(type)), kPhases * format::symbol_max(counted_as(type)), &part.mean);
  }
  if (m->parts.size() > 1) array(m->lines, 0, int32_t(m->parts.size()) - 1, &m->part);
  if (head.has_starts) array(m->lines, kMinStart, kMaxStart, &m->line_start);
  if (m->has_given_reference) array(m->lines, -kMaxFactor, kMaxFactor, &m->given_factor);
  if (head.has_references) array(m->lines, -kMaxFactor, kMaxFactor, &m->factor);
  if (status != Status::kOk) return status;
  if (head.has_references) {
    BitReader references(at, end - at, Status::kStreamTruncated);
    m->reference.assign(size_t(m->lines), -1);
    for (size_t i = 0; i < m->factor.size(); ++i) {
      if (m->factor[i] == 0) continue;
      const uint32_t line = references.get(reference_bits(m->lines));
      if (references.status() != Status::kOk) return references.status();
      if (line >= uint32_t(m->lines)) return Status::kReferenceMissing;
      m->reference[i] = int32_t(line);
    }
    at += references.align();
    if (references.status() != Status::kOk) return references.status();
  }
  *consumed = at - data;
  return Status::kOk;
}

namespace {

// Of every line, how many references lead to one that has none. Status::kReferenceCycle if that never ends.
Status find_levels(const MatrixModel& m, std::vector<int32_t>* level) {
  constexpr int32_t kUnknown = -1, kOpen = -2;
  level->assign(size_t(m.lines), m.factor.empty() ? 0 : kUnknown);
  std::vector<int32_t> path;
  for (int32_t i = 0; i < int32_t(m.lines); ++i) {  // along the references up to a line whose level is known, and back
    int32_t at = i;
    while ((*level)[size_t(at)] == kUnknown && m.factor[size_t(at)] != 0) {
      (*level)[size_t(at)] = kOpen;
      path.push_back(at);
      at = m.reference[size_t(at)];
    }
    if ((*level)[size_t(at)] == kOpen) return Status::kReferenceCycle;
    if ((*level)[size_t(at)] == kUnknown) (*level)[size_t(at)] = 0;
    for (int32_t next = (*level)[size_t(at)]; !path.empty(); path.pop_back()) {
      (*level)[size_t(path.back())] = ++next;
      if (next > kMaxLevel) return Status::kParameterOutOfRange;
    }
  }
  return Status::kOk;
}

}  // namespace

Status make_line_order(const MatrixModel& m, LineOrder* order) {
  *order = LineOrder{};
  const size_t parts = m.parts.size();
  std::vector<int64_t> size{m.lines};  // of the groups: level * parts + part
  if (!m.factor.empty() || parts > 1) {
    std::vector<int32_t> group;
    if (const Status s = find_levels(m, &group); s != Status::kOk) return s;
    size.assign((size_t(*std::max_element(group.begin(), group.end())) + 1) * parts, 0);
    for (size_t i = 0; i < group.size(); ++i) ++size[size_t(group[i] = int32_t(size_t(group[i]) * parts + size_t(m.part_of(int64_t(i)))))];
    std::vector<int64_t> next(size.size(), 0);
    for (size_t g = 1; g < size.size(); ++g) next[g] = next[g - 1] + size[g - 1];
    order->line.resize(size_t(m.lines));
    for (size_t i = 0; i < group.size(); ++i) order->line[size_t(next[size_t(group[i])]++)] = int32_t(i);
  }
  int64_t begin = 0;
  for (size_t g = 0; g < size.size(); ++g) {
    if (g % parts == 0) order->level_begin.push_back(int64_t(order->chunk_part.size()));
    for (int64_t at = 0; at < size[g]; at += m.chunk_lines) {
      order->chunk_begin.push_back(begin + at);
      order->chunk_part.push_back(int(g % parts));
    }
    begin += size[g];
  }
  order->chunk_begin.push_back(begin);
  order->level_begin.push_back(order->chunks());
  return Status::kOk;
}

}  // namespace ans::core
