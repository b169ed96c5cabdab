// Matrix streams without torch: headers, every backend against every other, damage.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "core/matrix/fit.h"
#include "core/matrix/fit_threads.h"
#include "core/matrix/int_array.h"
#include "core/matrix/predictor_sets.h"
#include "cpu/backends.h"
#include "matrix_examples.h"

namespace ans {
namespace {

using core::MatrixModel;
using core::Status;
using format::SymbolType;
using testing::decode;
using testing::encode;
using testing::Example;
using testing::make_example;
using Coded = testing::CodedMatrix;

TEST(Matrix, ArraysAreReadAsWritten) {
  std::mt19937 rng(1);
  for (int trial = 0; trial < 300; ++trial) {
    const int64_t count = rng() % 400;
    std::vector<int32_t> values;
    for (int64_t i = 0; i < count; ++i) values.push_back(int32_t(rng() % (trial % 3 == 0 ? 200u : 5u)) - (trial % 5 == 0 ? 1000 : 2) + (trial % 7 == 0 ? int32_t(i) : 0));
    const std::vector<uint8_t> bytes = core::write_array(values.data(), count);
    const uint8_t* at = bytes.data();
    std::vector<int32_t> read;
    ASSERT_EQ(core::read_array(&at, bytes.data() + bytes.size(), count, -2000, 2000, &read), Status::kOk) << trial;
    ASSERT_EQ(at, bytes.data() + bytes.size());
    ASSERT_EQ(read, values);
    for (size_t size = 0; size < bytes.size(); ++size) {
      const std::vector<uint8_t> front(bytes.begin(), bytes.begin() + int64_t(size));
      at = front.data();
      ASSERT_NE(core::read_array(&at, front.data() + size, count, -2000, 2000, &read), Status::kOk);
    }
    if (count > 0) {
      at = bytes.data();
      const int32_t highest = *std::max_element(values.begin(), values.end());
      ASSERT_EQ(core::read_array(&at, bytes.data() + bytes.size(), count, -2000, highest - 1, &read), Status::kParameterOutOfRange);
    }
  }
}

TEST(Matrix, HeadersAreReadAsWritten) {
  std::mt19937 rng(2);
  for (int trial = 0; trial < 200; ++trial) {
    const Example e = make_example(rng, trial);
    const std::vector<uint8_t> bytes = core::write_matrix_model(e.model);
    MatrixModel read;
    int64_t consumed = 0;
    ASSERT_EQ(core::read_matrix_model(bytes.data(), int64_t(bytes.size()), e.model.numel(), e.type, e.model.given, &read, &consumed), Status::kOk) << trial;
    ASSERT_EQ(consumed, int64_t(bytes.size()));
    ASSERT_EQ(core::write_matrix_model(read), bytes);
    ASSERT_EQ(read.reference, e.model.reference);
    for (size_t size = 0; size < bytes.size(); size += 1 + size / 50) {
      const std::vector<uint8_t> front(bytes.begin(), bytes.begin() + int64_t(size));
      ASSERT_NE(core::read_matrix_model(front.data(), int64_t(size), e.model.numel(), e.type, e.model.given, &read, &consumed), Status::kOk);
    }
    for (int k = 0; k < 40; ++k) {  // damaged ones are refused, or make sense
      std::vector<uint8_t> damaged = bytes;
      damaged[rng() % damaged.size()] ^= uint8_t(1u << rng() % 8);
      if (core::read_matrix_model(damaged.data(), int64_t(damaged.size()), e.model.numel(), e.type, e.model.given, &read, &consumed) != Status::kOk) continue;
      core::LineOrder order;
      if (core::make_line_order(read, &order) != Status::kOk) continue;
      ASSERT_EQ(order.chunk_begin.back(), read.lines);
    }
  }
}

TEST(Matrix, EveryBackendDecodesWhatEveryBackendEncodes) {
  std::mt19937 rng(3);
  for (int trial = 0; trial < 200; ++trial) {
    const Example e = make_example(rng, trial, trial >= 80);
    Coded first;
    for (const cpu::Backend* from : cpu::available_backends()) {
      const Coded coded = encode(from->matrices, e);
      if (first.entries.empty()) first = coded;
      ASSERT_EQ(first.chunks, coded.chunks) << from->name << " trial " << trial;
    }
    for (const cpu::Backend* to : cpu::available_backends()) {
      std::vector<uint8_t> symbols;
      ASSERT_EQ(decode(to->matrices, e, first, &symbols), Status::kOk) << to->name << " trial " << trial;
      ASSERT_EQ(symbols, e.symbols) << to->name << " trial " << trial;
    }
  }
}

TEST(Matrix, DamageIsFoundOrDecodesTheSameEverywhere) {
  std::mt19937 rng(4);
  for (int trial = 0; trial < 500; ++trial) {
    const Example e = make_example(rng, trial, trial >= 300);
    Coded coded = encode(cpu::available_backends().front()->matrices, e);
    std::vector<uint8_t>& chunk = coded.chunks[rng() % coded.chunks.size()];
    for (int k = int(rng() % 3); k >= 0; --k) chunk[rng() % chunk.size()] ^= uint8_t(1 + rng() % 255);
    Status expected_status = Status::kOk;
    std::vector<uint8_t> expected;
    for (const cpu::Backend* backend : cpu::available_backends()) {
      std::vector<uint8_t> symbols;
      const Status status = decode(backend->matrices, e, coded, &symbols);
      if (backend == cpu::available_backends().front()) expected_status = status, expected = symbols;
      ASSERT_EQ(expected_status, status) << backend->name << " trial " << trial;
      if (status == Status::kOk) {
        ASSERT_EQ(expected, symbols) << backend->name << " trial " << trial;
      }
    }
  }
}

// A whole stream, but for the model byte.
std::vector<uint8_t> stream_of(const Example& e, const Coded& coded) {
  std::vector<uint8_t> stream = core::write_matrix_model(e.model);
  const std::vector<uint8_t> directory = core::write_directory(coded.entries.data(), int64_t(coded.entries.size()));
  stream.insert(stream.end(), directory.begin(), directory.end());
  for (const auto& chunk : coded.chunks) stream.insert(stream.end(), chunk.begin(), chunk.end());
  return stream;
}

Status decode_stream(const core::MatrixCoder& coder, const Example& from, const std::vector<uint8_t>& stream, std::vector<uint8_t>* symbols) {
  Example e = from;
  Coded coded;
  core::LineOrder order;
  int64_t header = 0, directory = 0;
  const int64_t size = int64_t(stream.size());
  if (const Status s = core::read_matrix_model(stream.data(), size, from.model.numel(), e.type, from.model.given, &e.model, &header); s != Status::kOk) return s;
  if (e.model.has_given_reference && e.given.empty()) return Status::kReferenceMissing;
  if (const Status s = core::make_line_order(e.model, &order); s != Status::kOk) return s;
  const auto symbols_in = [&](int64_t chunk) { return order.chunk_lines(chunk) * e.model.columns; };
  if (const Status s = core::read_directory(stream.data() + header, size - header, order.chunks(), symbols_in, &coded.entries, &directory); s != Status::kOk) return s;
  const uint8_t* at = stream.data() + header + directory;
  for (const core::ChunkEntry& entry : coded.entries) {
    coded.chunks.emplace_back(at, at + 2 * int64_t(entry.words));
    at += 2 * int64_t(entry.words);
  }
  return decode(coder, e, coded, symbols);
}

TEST(Matrix, DamagedStreamsAreRefusedOrDecodeTheSameEverywhere) {
  std::mt19937 rng(9);
  for (int trial = 0; trial < 150; ++trial) {
    const Example e = make_example(rng, trial);
    const std::vector<uint8_t> whole = stream_of(e, encode(cpu::available_backends().front()->matrices, e));
    const size_t header = core::write_matrix_model(e.model).size();
    for (int k = 0; k < 20; ++k) {
      std::vector<uint8_t> damaged = whole;
      const size_t first = k % 4 == 0 ? damaged.size() : std::min<size_t>(header + 4, damaged.size());
      damaged[rng() % (k % 2 == 0 ? std::min<size_t>(first, 24) : first)] ^= uint8_t(1u << rng() % 8);
      Status expected_status = Status::kOk;
      std::vector<uint8_t> expected;
      for (const cpu::Backend* backend : cpu::available_backends()) {
        std::vector<uint8_t> symbols;
        const Status status = decode_stream(backend->matrices, e, damaged, &symbols);
        if (backend == cpu::available_backends().front()) expected_status = status, expected = symbols;
        ASSERT_EQ(expected_status, status) << backend->name << " trial " << trial;
        if (status == Status::kOk) {
          ASSERT_EQ(expected, symbols) << backend->name << " trial " << trial;
        }
      }
    }
  }
}

TEST(Matrix, LinesThatReferToEachOtherAreRefused) {
  MatrixModel m;
  m.lines = 5, m.columns = 8, m.chunk_lines = 2;
  m.factor = {8, 0, 8, 8, 8};
  m.reference = {2, -1, 3, 1, 4};
  core::LineOrder order;
  EXPECT_EQ(core::make_line_order(m, &order), Status::kReferenceCycle);  // line 4 is its own reference
  m.reference[4] = 0;
  ASSERT_EQ(core::make_line_order(m, &order), Status::kOk);
  EXPECT_EQ(order.line, (std::vector<int32_t>{1, 3, 2, 0, 4}));
  EXPECT_EQ(order.chunk_begin, (std::vector<int64_t>{0, 1, 2, 3, 4, 5}));
  m.reference[3] = 0;
  EXPECT_EQ(core::make_line_order(m, &order), Status::kReferenceCycle);
}

TEST(Matrix, TablesSumUpAndPreferWhatIsNear) {
  for (int log_scale = core::kMinLogScale; log_scale <= core::kMaxLogScale; log_scale += 7)
    for (int shape = 0; shape < core::kShapes; ++shape)
      for (int phase = 0; phase < core::kPhases; ++phase)
        for (int buckets = 64; buckets <= 256; buckets *= 2) {
          const core::FrequencyTable t = core::class_table(log_scale, shape, phase, buckets);
          int sum = 0;
          for (int i = 0; i < t.alphabet_size(); ++i) sum += t.freq[size_t(i)];
          ASSERT_EQ(sum, format::kSlots);
          ASSERT_GT(t.freq[0], 0);
          ASSERT_GT(t.freq[size_t(t.core_size)], 0);
          ASSERT_LT(t.alphabet_size(), buckets);
          ASSERT_GE(t.first_value, core::residual_range(buckets).first);
        }
}

// Lines whose columns depend on each other, of two kinds, some like the line before.
std::vector<uint8_t> related_lines(std::mt19937& rng, int64_t lines, int64_t columns) {
  std::normal_distribution<double> bell(0, 3);
  std::vector<uint8_t> symbols;
  std::vector<double> before(size_t(columns), 0);
  for (int64_t i = 0; i < lines; ++i) {
    const double along = i % 2 == 0 ? 0.8 : -0.6;
    double last = 0;
    for (int64_t j = 0; j < columns; ++j) {
      last = along * last + bell(rng) * (j % 4 == 0 ? 2 : 1) + (i % 5 == 4 ? before[size_t(j)] : 0) / 2;
      before[size_t(j)] = last;
      symbols.push_back(uint8_t(std::lround(std::max(-100.0, std::min(100.0, last)))));
    }
  }
  return symbols;
}

TEST(MatrixFit, IsTheSameOnEveryBackendAndSmallerThanWithout) {
  std::mt19937 rng(5);
  constexpr int64_t kColumns = 20;
  for (const int64_t lines : {1, 31, 300}) {
    const std::vector<uint8_t> symbols = related_lines(rng, lines, kColumns), given = related_lines(rng, lines, kColumns);
    std::vector<uint8_t> first;
    for (const cpu::Backend* backend : cpu::available_backends()) {
      const core::LineSet set{symbols.data(), SymbolType::kI8, lines, kColumns};
      core::FitInput input{};
      input.lines = set;
      input.type = set.type, input.lowest = -100, input.highest = 100;
      core::FitOptions options;
      const core::FitResult plain = core::fit_matrix(backend->matrices, core::one_thread, input, options);
      for (const core::FittedPredictor& p : core::fit_predictor_set(backend->matrices, core::one_thread, {set, set}, 3).predictors)
        input.predictors.push_back(std::make_shared<const core::Predictor>(p.predictor));
      input.own = true;
      input.given = given.data();
      options.nearest = true;
      const core::FitResult fitted = core::fit_matrix(backend->matrices, core::one_thread, input, options);
      if (lines == 300) {
        EXPECT_LT(fitted.symbol_bits, plain.symbol_bits * 95 / 100);
      }
      const std::vector<uint8_t> header = core::write_matrix_model(fitted.model);
      if (first.empty()) first = header;
      ASSERT_EQ(first, header) << backend->name << " " << lines;
      Example e{SymbolType::kI8, fitted.model, symbols, given};
      std::vector<uint8_t> decoded;
      ASSERT_EQ(decode(backend->matrices, e, encode(backend->matrices, e), &decoded), Status::kOk);
      ASSERT_EQ(decoded, symbols);
    }
  }
}

TEST(MatrixFit, GramsAreExact) {
  std::mt19937 rng(6);
  for (const int64_t columns : {2, 9, 40}) {
    const int64_t lines = 1000;
    const std::vector<uint8_t> symbols = related_lines(rng, lines, columns);
    for (const cpu::Backend* backend : cpu::available_backends()) {
      core::Gram gram;
      gram.columns = columns;
      core::add_to_gram(backend->matrices, core::one_thread, symbols.data(), true, lines, columns, &gram);
      for (int64_t k = 0; k < columns; ++k)
        for (int64_t l = 0; l < columns; ++l) {
          int64_t sum = 0;
          for (int64_t i = 0; i < lines; ++i) sum += int8_t(symbols[size_t(i * columns + k)]) * int8_t(symbols[size_t(i * columns + l)]);
          ASSERT_EQ(gram.product[size_t(k * columns + l)], sum) << backend->name;
        }
    }
  }
}

}  // namespace
}  // namespace ans
