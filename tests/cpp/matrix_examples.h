// Random matrices under random models, for the tests of every backend.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "core/matrix/matrix_encoder.h"
#include "core/trellis/trellis.h"
#include "cpu/backends.h"

namespace ans::testing {

using core::MatrixModel;
using core::Status;
using format::SymbolType;

struct Example {
  SymbolType type;
  MatrixModel model;
  std::vector<uint8_t> symbols, given;
};

// A matrix with something of everything that a model can say about it. What the model says need not be true: it must be coded all the same.
// steady: but for what makes lanes differ (core/matrix/steady_rows.h).
inline Example make_example(std::mt19937& rng, int trial, bool steady = false) {
  Example e;
  auto below = [&](int n) { return int(rng() % unsigned(n)); };
  auto within = [&](int low, int high) { return low + below(high - low + 1); };
  e.type = trial % 5 == 4 ? SymbolType::kU8 : trial % 5 == 3 ? SymbolType::kI16 : SymbolType::kI8;
  MatrixModel& m = e.model;
  m.columns = (trial % 8 == 5 ? 2 : 8) + below(trial % 7 == 0 ? 200 : 40);
  m.lines = 1 + below(trial % 7 == 1 ? 300 : 90);
  m.transposed = below(2) != 0;
  m.chunk_lines = 1 + below(int(m.lines));
  m.buckets = 32 << below(steady ? 2 : 4);
  constexpr int kTrellises[] = {0, 8, 4, 32};
  m.trellis = kTrellises[trial / 2 % 4];
  m.raw_min = core::coded_min(e.type, m.trellis);
  m.raw_bits = 8 * format::symbol_bytes(e.type) - (m.trellis != 0);
  auto fill = [&](std::vector<int32_t>* values, int64_t count, int low, int high) {
    const bool same = below(4) == 0;
    for (int64_t i = 0; i < count; ++i) values->push_back(same && i > 0 ? values->back() : within(low, high));
  };
  if (below(2)) fill(&m.line_start, m.lines, core::kMinStart, core::kMaxStart);
  for (core::Adaptation& a : m.adaptation)
    if (!steady && below(2)) a = {1 + below(15), 1 + below(16)};
  m.class_shift = below(4);
  m.class_origin = within(-48, 40);
  m.classes.resize(size_t(steady && below(2) ? 1 : 1 + below(20)));
  for (core::ClassShape& c : m.classes) c = {within(-6, 6), below(core::kShapes)};
  auto predictor = [&] {
    auto p = std::make_shared<core::Predictor>();
    std::vector<int64_t> periods;
    for (int64_t d = 2; d <= m.columns; ++d)
      if (m.columns % d == 0) periods.push_back(d);
    p->stationary = below(3) == 0;
    p->period = below(3) != 0 ? m.columns : periods[size_t(below(int(periods.size())))];
    p->window = below(2) && p->period > 2 ? 1 + below(int(p->period - 1)) : p->period - 1;
    p->shift = 1 + below(core::kMaxShift);
    const int most = below(2) ? 128 : 10;
    fill(&p->coefficients, p->stationary ? p->window : core::coefficient_count(p->period, p->window), -most, most - 1);
    if (below(2)) fill(&p->scale, p->period, 0, 10);
    return p;
  };
  for (int n = below(3); n > 0; --n) m.given.push_back(predictor());
  for (int n = below(3); n > 0; --n) m.own.push_back(predictor());
  m.parts.resize(size_t(1 + (trial % 3 == 0 ? below(5) : 0)));
  for (core::MatrixPart& part : m.parts) {
    const int number = below(1 + int(m.given.size() + m.own.size()));
    if (number > 0 && !steady) part.predictor = number <= int(m.given.size()) ? m.given[size_t(number - 1)] : m.own[size_t(number - 1) - m.given.size()];
    fill(&part.scale, m.columns, trial % 11 == 0 ? core::kMinScale : 0, trial % 11 == 0 ? core::kMaxScale : 24);
    if (below(2) && !steady) fill(&part.mean, m.columns, 8 * format::symbol_min(core::counted_as(e.type)), 8 * format::symbol_max(core::counted_as(e.type)));
  }
  if (m.parts.size() > 1)
    for (int64_t i = 0; i < m.lines; ++i) m.part.push_back(below(int(m.parts.size())));
  if (below(3) == 0 && !steady) {
    m.has_given_reference = true;
    m.given_transposed = below(2) != 0;
    fill(&m.given_factor, m.lines, -core::kMaxFactor, core::kMaxFactor);
    for (int64_t i = 0; i < m.numel() * format::symbol_bytes(e.type); ++i) e.given.push_back(uint8_t(rng()));
  }
  if (below(2) && !steady) {
    m.alternating = trial % 3 == 1;
    m.reference.assign(size_t(m.lines), -1);
    for (int64_t i = 0; i < m.lines; ++i) {  // each refers to one that comes later, so there is no cycle
      m.factor.push_back(i + 1 < m.lines && below(2) ? within(-core::kMaxFactor, core::kMaxFactor) : 0);
      if (m.factor.back() != 0) m.reference[size_t(i)] = int32_t(i + 1 + below(int(m.lines - i - 1)));
    }
  }
  std::normal_distribution<double> bell(0, std::exp2(below(e.type == SymbolType::kI16 ? 11 : 6)));
  uint32_t state = 0;
  for (int64_t i = 0; i < m.numel(); ++i) {
    int v = int(std::lround(bell(rng))) + (e.type == SymbolType::kU8 ? 128 : 0);
    v = std::max<int>(format::symbol_min(e.type), std::min<int>(format::symbol_max(e.type), v));
    if (m.trellis != 0) {
      if (i % m.columns == 0) state = 0;
      v = (v & ~1) | int(state & 1);
      state = state >> 1 ^ (v & 1) * core::trellis_odd(m.trellis) ^ (v >> 1 & 1) * core::trellis_parity(m.trellis);
    }
    for (int b = 0; b < format::symbol_bytes(e.type); ++b) e.symbols.push_back(uint8_t(v >> 8 * b));
  }
  return e;
}

inline core::MatrixLines lines_of(const Example& e, const core::MatrixTables& tables, const core::LineOrder& order, uint8_t* symbols) {
  return core::make_matrix_lines(e.model, tables, order, e.type, symbols, e.given.data());
}

struct CodedMatrix {
  std::vector<std::vector<uint8_t>> chunks;  // each exactly its size, so that a sanitizer sees every byte beyond
  std::vector<core::ChunkEntry> entries;
};

inline CodedMatrix encode(const core::MatrixCoder& coder, const Example& e) {
  core::LineOrder order;
  EXPECT_EQ(core::make_line_order(e.model, &order), Status::kOk);
  const core::MatrixTables tables(e.model, e.type);
  std::vector<uint8_t> symbols = e.symbols;
  const core::MatrixLines lines = lines_of(e, tables, order, symbols.data());
  const core::ContextEncodeTables contexts = core::make_context_encode_tables(e.model, e.type);
  core::MatrixEncoder encoder(coder, lines, tables, contexts, e.model.raw_bits, e.model.raw_min);
  CodedMatrix coded;
  for (int64_t c = 0; c < order.chunks(); ++c) {
    core::EncodedChunk chunk;
    EXPECT_EQ(encoder.encode(order.chunk_part[size_t(c)], order.chunk_begin[size_t(c)], order.chunk_lines(c), &chunk), Status::kOk);
    coded.chunks.emplace_back(chunk.begin(), chunk.begin() + chunk.bytes());
    coded.entries.push_back(chunk.entry);
    EXPECT_EQ(core::check_chunk(chunk.entry, order.chunk_lines(c) * e.model.columns), Status::kOk);
  }
  return coded;
}

inline int level_of(const core::LineOrder& order, int64_t chunk) {
  int level = 0;
  while (order.level_begin[size_t(level) + 1] <= chunk) ++level;
  return level;
}

inline Status decode(const core::MatrixCoder& coder, const Example& e, const CodedMatrix& coded, std::vector<uint8_t>* symbols) {
  core::LineOrder order;
  EXPECT_EQ(core::make_line_order(e.model, &order), Status::kOk);
  const core::MatrixTables tables(e.model, e.type);
  symbols->assign(e.symbols.size(), 0xEE);
  const core::MatrixLines lines = lines_of(e, tables, order, symbols->data());
  const core::ContextDecodeTables contexts = core::make_context_decode_tables(e.model);
  const core::SteadyTables steady = core::make_steady_tables(e.model, tables);
  std::vector<core::SteadyRows> steady_rows;
  for (size_t part = 0; part < e.model.parts.size() && !steady.none(); ++part) steady_rows.push_back(core::steady_rows_of(e.model, tables, steady, int(part), e.type));
  std::vector<core::MatrixBand> bands;
  for (int i = 0; i < core::kSteadyStreams; ++i) bands.emplace_back(tables, e.type);
  std::vector<core::MatrixBand*> free;
  for (core::MatrixBand& band : bands) free.push_back(&band);
  for (int64_t c = 0; c < order.chunks();) {
    std::vector<core::MatrixDecodeJob> together;
    const int part = order.chunk_part[size_t(c)], level = level_of(order, c);
    for (; c < order.chunks() && order.chunk_part[size_t(c)] == part && level_of(order, c) == level && int(together.size()) < core::kSteadyStreams; ++c) {
      const size_t i = size_t(c);
      together.push_back({&lines, &tables.rows(part), contexts.slots(), order.chunk_begin[i], order.chunk_lines(c), coded.chunks[i].data(), coded.chunks[i].data() + coded.chunks[i].size(), coded.entries[i], e.model.raw_bits,
                          e.model.raw_min, steady.none() ? nullptr : &steady_rows[size_t(part)]});
    }
    if (const Status s = coder.decode_chunks(together.data(), int(together.size()), free.data()); s != Status::kOk) return s;
  }
  return Status::kOk;
}

}  // namespace ans::testing
