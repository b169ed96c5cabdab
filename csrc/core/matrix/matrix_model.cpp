#include "core/matrix/matrix_model.h"

#include <algorithm>

#include "core/bit_io.h"
#include "core/matrix/int_array.h"

namespace ans::core {
namespace {

constexpr int kColumnsOrder = 8, kLinesOrder = 8, kRawOrder = 4, kOriginOrder = 4, kClassesOrder = 3, kPeriodOrder = 6, kOffsetOrder = 2, kShapeOrder = 0;
constexpr int kBucketsBits = 2, kRawBits = 4, kClassShiftBits = 2, kRateBits = 4, kWeightBits = 4, kKindBits = 2, kShiftBits = 3, kFirstShape = 7;

// Every number of the header but the arrays.
class HeaderWriter {
 public:
  void bits(int64_t v, int n, int64_t base = 0) { out.put(uint32_t(v - base), n); }
  void count(int64_t v, int order, int64_t base = 0) { out.exp_golomb(uint32_t(v - base), order); }
  void number(int64_t v, int order) { out.signed_exp_golomb(int32_t(v), order); }
  BitWriter out;
};

int bucket_code(int buckets) { return buckets == 64 ? 0 : buckets == 128 ? 1 : 2; }

template <class T>
void append(std::vector<uint8_t>* out, const std::vector<T>& bytes) { out->insert(out->end(), bytes.begin(), bytes.end()); }

int reference_bits(int64_t lines) { return bit_length(uint32_t(lines - 1)); }

}  // namespace

int MatrixModel::class_log_scale(int k) const {
  const int middle = class_origin + (k << class_shift) + (1 << class_shift) / 2 + classes[size_t(k)].offset;
  return std::min(kMaxLogScale, std::max(kMinLogScale, middle));
}

int64_t coefficient_count(int64_t period, int64_t window) {
  const int64_t w = std::min(window, period - 1);
  return w * (w + 1) / 2 + (period - 1 - w) * w;
}

std::vector<uint8_t> write_matrix_model(const MatrixModel& m) {
  HeaderWriter head;
  head.count(m.columns, kColumnsOrder, kMinColumns);
  head.bits(m.transposed, 1);
  head.count(m.chunk_lines, kLinesOrder, 1);
  head.bits(bucket_code(m.buckets), kBucketsBits);
  head.bits(m.raw_bits, kRawBits, 1);
  head.number(m.raw_min, kRawOrder);
  head.bits(m.class_shift, kClassShiftBits);
  head.number(m.class_origin, kOriginOrder);
  head.count(int64_t(m.classes.size()), kClassesOrder, 1);
  int32_t shape = kFirstShape;
  for (const ClassShape& c : m.classes) {
    head.number(c.offset, kOffsetOrder);
    head.number(c.shape - shape, kShapeOrder);
    shape = c.shape;
  }
  for (const Adaptation& a : m.adaptation) {
    head.bits(a.rate, kRateBits);
    if (a.rate != 0) head.bits(a.weight, kWeightBits, 1);
  }
  head.bits(int64_t(m.predictor), kKindBits);
  if (m.predictor != PredictorKind::kNone) {
    head.bits(m.shift, kShiftBits, 1);
    head.count(m.period, kPeriodOrder, 2);
    head.count(m.window, kPeriodOrder, 1);
  }
  head.bits(!m.line_start.empty(), 1);
  head.bits(!m.mean.empty(), 1);
  head.bits(m.has_given_reference, 1);
  if (m.has_given_reference) head.bits(m.given_transposed, 1);
  head.bits(!m.factor.empty(), 1);
  std::vector<uint8_t> bytes = head.out.bytes();

  auto array = [&](const std::vector<int32_t>& values) { append(&bytes, write_array(values.data(), int64_t(values.size()))); };
  array(m.column_scale);
  if (m.predictor == PredictorKind::kOwn || m.predictor == PredictorKind::kStationary) array(m.coefficients);
  if (!m.line_start.empty()) array(m.line_start);
  if (!m.mean.empty()) array(m.mean);
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

Status read_matrix_model(const uint8_t* data, int64_t size, int64_t numel, format::SymbolType type, MatrixModel* m, int64_t* consumed) {
  BitReader in(data, size, Status::kStreamTruncated);
  *m = MatrixModel{};
  const int64_t columns = int64_t(in.exp_golomb(kColumnsOrder)) + kMinColumns;
  m->transposed = in.get(1) != 0;
  const int64_t chunk_lines = int64_t(in.exp_golomb(kLinesOrder)) + 1;
  const int bucket_code = int(in.get(kBucketsBits));
  m->buckets = 64 << bucket_code;
  m->raw_bits = int(in.get(kRawBits)) + 1;
  const int64_t raw_min = in.signed_exp_golomb(kRawOrder);
  m->class_shift = int(in.get(kClassShiftBits));
  const int64_t origin = in.signed_exp_golomb(kOriginOrder), classes = int64_t(in.exp_golomb(kClassesOrder)) + 1;
  if (in.status() != Status::kOk) return in.status();
  if (type == format::SymbolType::kI16 || columns > kMaxColumns || numel % columns != 0 || numel / columns < 1 || numel / columns > kMaxLines) return Status::kMatrixShapeOutOfRange;
  m->columns = columns;
  m->lines = numel / columns;
  if (chunk_lines > m->lines || chunk_lines * columns > format::kMaxChunkSymbols) return Status::kChunkSizeOutOfRange;
  m->chunk_lines = chunk_lines;
  if (raw_min < format::symbol_min(type) || raw_min + (int64_t{1} << m->raw_bits) - 1 > format::symbol_max(type)) return Status::kSymbolOutOfRange;
  m->raw_min = int32_t(raw_min);
  if (bucket_code > 2 || origin < 2 * kMinLogScale || origin > 2 * kMaxLogScale || classes > kMaxClasses) return Status::kParameterOutOfRange;
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
  m->predictor = PredictorKind(in.get(kKindBits));
  if (m->predictor != PredictorKind::kNone) {
    m->shift = int(in.get(kShiftBits)) + 1;
    const int64_t period = int64_t(in.exp_golomb(kPeriodOrder)) + 2, window = int64_t(in.exp_golomb(kPeriodOrder)) + 1;
    if (in.status() != Status::kOk) return in.status();
    if (period > kMaxPeriod || columns % period != 0 || window >= period) return Status::kParameterOutOfRange;
    m->period = period;
    m->window = window;
  }
  const bool has_starts = in.get(1) != 0, has_means = in.get(1) != 0;
  m->has_given_reference = in.get(1) != 0;
  if (m->has_given_reference) m->given_transposed = in.get(1) != 0;
  const bool has_references = in.get(1) != 0;
  const uint8_t *at = data + in.align(), *const end = data + size;
  if (in.status() != Status::kOk) return in.status();

  Status status = Status::kOk;
  auto array = [&](int64_t count, int32_t lowest, int32_t highest, std::vector<int32_t>* values) {
    if (status == Status::kOk) status = read_array(&at, end, count, lowest, highest, values);
  };
  array(columns, kMinScale, kMaxScale, &m->column_scale);
  if (m->predictor == PredictorKind::kOwn) array(coefficient_count(m->period, m->window), -128, 127, &m->coefficients);
  if (m->predictor == PredictorKind::kStationary) array(m->window, -128, 127, &m->coefficients);
  if (has_starts) array(m->lines, kMinStart, kMaxStart, &m->line_start);
  if (has_means) array(columns, kPhases * format::symbol_min(type), kPhases * format::symbol_max(type), &m->mean);
  if (m->has_given_reference) array(m->lines, -kMaxFactor, kMaxFactor, &m->given_factor);
  if (has_references) array(m->lines, -kMaxFactor, kMaxFactor, &m->factor);
  if (status != Status::kOk) return status;
  if (has_references) {
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

Status make_line_order(const MatrixModel& m, LineOrder* order) {
  *order = LineOrder{};
  std::vector<int64_t> size{m.lines};  // of the levels
  if (!m.factor.empty()) {
    constexpr int32_t kUnknown = -1, kOpen = -2;
    std::vector<int32_t> level(size_t(m.lines), kUnknown), path;
    for (int32_t i = 0; i < int32_t(m.lines); ++i) {  // along the references up to a line whose level is known, and back
      int32_t at = i;
      while (level[size_t(at)] == kUnknown && m.factor[size_t(at)] != 0) {
        level[size_t(at)] = kOpen;
        path.push_back(at);
        at = m.reference[size_t(at)];
      }
      if (level[size_t(at)] == kOpen) return Status::kReferenceCycle;
      if (level[size_t(at)] == kUnknown) level[size_t(at)] = 0;
      for (int32_t next = level[size_t(at)]; !path.empty(); path.pop_back()) level[size_t(path.back())] = ++next;
    }
    size.assign(size_t(*std::max_element(level.begin(), level.end())) + 1, 0);
    for (int32_t l : level) ++size[size_t(l)];
    std::vector<int64_t> next(size.size(), 0);
    for (size_t l = 1; l < size.size(); ++l) next[l] = next[l - 1] + size[l - 1];
    order->line.resize(size_t(m.lines));
    for (size_t i = 0; i < level.size(); ++i) order->line[size_t(next[size_t(level[i])]++)] = int32_t(i);
  }
  order->chunk_begin.push_back(0);
  order->level_begin.push_back(0);
  int64_t begin = 0;
  for (int64_t lines : size) {
    for (int64_t at = m.chunk_lines; at < lines; at += m.chunk_lines) order->chunk_begin.push_back(begin + at);
    begin += lines;
    order->chunk_begin.push_back(begin);
    order->level_begin.push_back(order->chunks());
  }
  return Status::kOk;
}

}  // namespace ans::core
