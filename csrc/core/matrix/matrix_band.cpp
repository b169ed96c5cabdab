#include "core/matrix/matrix_band.h"

#include <algorithm>

namespace ans::core {

MatrixLines make_matrix_lines(const MatrixModel& model, const MatrixTables& tables, const LineOrder& order, format::SymbolType type, uint8_t* symbols, const uint8_t* given) {
  MatrixLines lines{};
  lines.columns = model.columns;
  lines.start = tables.start();
  lines.order = order.line.empty() ? nullptr : order.line.data();
  lines.symbols = symbols;
  lines.is_signed = type != format::SymbolType::kU8;
  if (model.has_given_reference) lines.given = given, lines.given_factor = model.given_factor.data();
  if (!model.factor.empty()) lines.factor = model.factor.data(), lines.reference = model.reference.data(), lines.alternating = model.alternating;
  return lines;
}

int64_t MatrixLines::line_at(int64_t position) const { return order == nullptr ? position : order[position]; }
uint8_t* MatrixLines::line(int64_t i) const { return symbols + i * columns; }
int32_t MatrixLines::value(uint8_t symbol) const { return is_signed ? int8_t(symbol) : symbol; }

MatrixBand::MatrixBand(const MatrixTables& tables)
    : columns_(tables.columns()), symbols_(size_t(tables.columns() * format::kLanes)), pairs_(size_t(tables.max_pairs() * format::kLanes)) {}

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
    if (given != 0) add_reference(lines, lines.given + i * columns_, given, given, lane);
    if (factor != 0) add_reference(lines, lines.line(lines.reference[i]), factor, lines.alternating ? -factor : factor, lane);
  }
}

void MatrixBand::add_reference(const MatrixLines& lines, const uint8_t* line, int32_t factor, int32_t odd_factor, int lane) {
  if (!has_references_) references_.assign(size_t(columns_ * format::kLanes), 0);
  has_references_ = true;
  int16_t* to = references_.data() + lane;
  auto add = [&](int64_t j, int32_t times) { to[j * format::kLanes] = int16_t(to[j * format::kLanes] + times * lines.value(line[j])); };
  int64_t j = 0;
  for (; j + 1 < columns_; j += 2) {
    add(j, factor);
    add(j + 1, odd_factor);
  }
  if (j < columns_) add(j, factor);
}

MatrixBand::View MatrixBand::view() { return {width_, start_, rest_, has_references_ ? references_.data() : nullptr, symbols_.data(), pairs_.data()}; }

const uint8_t* MatrixBand::copy_of(const uint8_t* bytes, int64_t size, int64_t slack) {
  copy_.resize(size_t(size + slack));
  std::copy_n(bytes, size, copy_.data());
  std::fill_n(copy_.data() + size, slack, uint8_t(0));
  return copy_.data();
}

void MatrixBand::load(const MatrixLines& lines) {
  if (width_ < format::kLanes) std::fill(symbols_.begin(), symbols_.end(), uint8_t(0));
  for (int lane = 0; lane < width_; ++lane) {
    const uint8_t* from = lines.line(lines.line_at(position_ + lane));
    for (int64_t j = 0; j < columns_; ++j) symbols_[size_t(j * format::kLanes + lane)] = from[j];
  }
}

void MatrixBand::save(const MatrixLines& lines) const {
  for (int lane = 0; lane < width_; ++lane) {
    uint8_t* to = lines.line(lines.line_at(position_ + lane));
    for (int64_t j = 0; j < columns_; ++j) to[j] = symbols_[size_t(j * format::kLanes + lane)];
  }
}

}  // namespace ans::core
