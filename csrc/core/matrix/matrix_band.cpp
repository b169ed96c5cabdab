#include "core/matrix/matrix_band.h"

#include <algorithm>

namespace ans::core {

MatrixLines make_matrix_lines(const MatrixModel& model, const MatrixTables& tables, const LineOrder& order, format::SymbolType type, uint8_t* symbols, const uint8_t* given) {
  MatrixLines lines{};
  lines.columns = model.columns;
  lines.start = tables.start();
  lines.order = order.line.empty() ? nullptr : order.line.data();
  lines.symbols = symbols;
  lines.type = type;
  if (model.has_given_reference) lines.given = given, lines.given_factor = model.given_factor.data();
  if (!model.factor.empty()) lines.factor = model.factor.data(), lines.reference = model.reference.data(), lines.alternating = model.alternating;
  return lines;
}

int64_t MatrixLines::line_at(int64_t position) const { return order == nullptr ? position : order[position]; }
int64_t MatrixLines::line_bytes() const { return columns * format::symbol_bytes(type); }
uint8_t* MatrixLines::line(int64_t i) const { return symbols + i * line_bytes(); }
int32_t MatrixLines::value(format::SymbolType type, const uint8_t* line, int64_t column) {
  if (type == format::SymbolType::kU8) return line[column];
  return type == format::SymbolType::kI8 ? int8_t(line[column]) : reinterpret_cast<const int16_t*>(line)[column];
}

MatrixBand::MatrixBand(const MatrixTables& tables, format::SymbolType type) : columns_(tables.columns()), pairs_(size_t(tables.max_pairs() * format::kLanes)) {
  const size_t symbols = size_t(columns_ * format::kLanes);
  if (type == format::SymbolType::kI16) wide_.resize(symbols);
  else bytes_.resize(symbols);
}

void MatrixBand::open(const MatrixLines& lines, int64_t position, int width) {
  position_ = position;
  width_ = width;
  std::fill_n(start_, format::kLanes, 1u << kAverageBits);
  std::fill_n(rest_, format::kLanes, uint32_t(kFactorOne));
  has_references_ = false;
  for (int lane = 0; lane < width; ++lane) {
    const int64_t i = lines.line_at(position + lane);
    if (lines.start != nullptr) start_[lane] = lines.start[i];
    const int32_t given = lines.given == nullptr ? 0 : lines.given_factor[i], factor = lines.factor == nullptr ? 0 : lines.factor[i];
    rest_[lane] = uint32_t(kFactorOne - given - factor);
    if (given != 0) add_reference(lines, lines.given + i * lines.line_bytes(), given, given, lane);
    if (factor != 0) add_reference(lines, lines.line(lines.reference[i]), factor, lines.alternating ? -factor : factor, lane);
  }
}

void MatrixBand::add_reference(const MatrixLines& lines, const uint8_t* line, int32_t factor, int32_t odd_factor, int lane) {
  if (!has_references_) references_.assign(size_t(columns_ * format::kLanes), 0);
  has_references_ = true;
  int16_t* to = references_.data() + lane;
  const int32_t low = format::symbol_min(counted_as(lines.type)), high = format::symbol_max(counted_as(lines.type));
  auto add = [&](int64_t j, int32_t times) {
    const int32_t value = std::max(low, std::min(high, MatrixLines::value(lines.type, line, j)));
    to[j * format::kLanes] = int16_t(to[j * format::kLanes] + times * value);
  };
  int64_t j = 0;
  for (; j + 1 < columns_; j += 2) {
    add(j, factor);
    add(j + 1, odd_factor);
  }
  if (j < columns_) add(j, factor);
}

MatrixBand::View MatrixBand::view() { return {width_, start_, rest_, has_references_ ? references_.data() : nullptr, bytes_.empty() ? nullptr : bytes_.data(), wide_.empty() ? nullptr : wide_.data(), pairs_.data()}; }

const uint8_t* MatrixBand::copy_of(const uint8_t* bytes, int64_t size, int64_t slack) {
  copy_.resize(size_t(size + slack));
  std::copy_n(bytes, size, copy_.data());
  std::fill_n(copy_.data() + size, slack, uint8_t(0));
  return copy_.data();
}

template <>
uint8_t* MatrixBand::lanes<uint8_t>() { return bytes_.data(); }
template <>
int16_t* MatrixBand::lanes<int16_t>() { return wide_.data(); }

template <class Symbol>
void MatrixBand::load_as(const MatrixLines& lines) {
  Symbol* const to = lanes<Symbol>();
  if (width_ < format::kLanes) std::fill_n(to, columns_ * format::kLanes, Symbol(0));
  for (int lane = 0; lane < width_; ++lane) {
    const Symbol* from = reinterpret_cast<const Symbol*>(lines.line(lines.line_at(position_ + lane)));
    for (int64_t j = 0; j < columns_; ++j) to[j * format::kLanes + lane] = from[j];
  }
}

template <class Symbol>
void MatrixBand::save_as(const MatrixLines& lines, int64_t first_column) {
  const Symbol* const from = lanes<Symbol>();
  for (int lane = 0; lane < width_; ++lane) {
    Symbol* to = reinterpret_cast<Symbol*>(lines.line(lines.line_at(position_ + lane)));
    for (int64_t j = first_column; j < columns_; ++j) to[j] = from[j * format::kLanes + lane];
  }
}

void MatrixBand::load(const MatrixLines& lines) { return wide_.empty() ? load_as<uint8_t>(lines) : load_as<int16_t>(lines); }
void MatrixBand::save(const MatrixLines& lines, int64_t first_column) { return wide_.empty() ? save_as<uint8_t>(lines, first_column) : save_as<int16_t>(lines, first_column); }

}  // namespace ans::core
