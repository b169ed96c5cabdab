// Chunks of matrix streams by an emulated warp: decoding what the host encodes, encoding what the host would, and damage.
#define ANS_TARGET target_emulated_warp
#include "cpu/target_macros.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/log2_table.h"
#include "core/matrix/warp_matrix.h"
#include "emulated_block.h"
#include "matrix_examples.h"

namespace ans {
namespace {

using core::Status;
using format::SymbolType;
using testing::CodedMatrix;
using testing::EmulatedWarp;
using testing::Example;
namespace warp = core::ANS_TARGET;

// What a warp needs to know, in memory of its own: a sanitizer sees every byte beyond.
struct Prepared {
  Prepared(const Example& e, std::vector<uint8_t>* symbols) : tables(e.model, e.type), decoding(core::make_context_decode_tables(e.model)), scratch(scratch_bytes()) {
    EXPECT_EQ(core::make_line_order(e.model, &order), Status::kOk);
    const core::MatrixModel& m = e.model;
    const int64_t bytes = format::symbol_bytes(e.type);
    matrix.own = {symbols->data(), m.columns * bytes, bytes};
    if (m.has_given_reference) matrix.given = {const_cast<uint8_t*>(e.given.data()), m.columns * bytes, bytes}, matrix.given_factor = m.given_factor.data();
    if (!order.line.empty()) matrix.order = order.line.data();
    if (!m.factor.empty()) matrix.factor = m.factor.data(), matrix.reference = m.reference.data();
    matrix.start = tables.start();
    matrix.tables = decoding.slots();
    matrix.raw_min = m.raw_min, matrix.raw_bits = m.raw_bits, matrix.type = e.type, matrix.alternating = m.alternating;
  }
  size_t scratch_bytes() const { return size_t(warp::kMatrixScratchBytes + 4 * format::kLanes * tables.max_pairs()); }

  core::LineOrder order;
  core::MatrixTables tables;
  core::ContextDecodeTables decoding;
  std::vector<uint8_t> scratch;
  core::WarpMatrix matrix{};
};

Status decode_by_warp(const Example& e, const CodedMatrix& coded, unsigned seed, std::vector<uint8_t>* symbols) {
  symbols->assign(e.symbols.size(), 0xEE);
  Prepared p(e, symbols);
  alignas(4) uint16_t ring[warp::WarpWords<EmulatedWarp>::kRingWords];
  for (int64_t c = 0; c < p.order.chunks(); ++c) {
    const std::vector<uint8_t>& chunk = coded.chunks[size_t(c)];
    const core::MatrixJob job{chunk.data(), chunk.data() + chunk.size(), p.order.chunk_begin[size_t(c)], p.order.chunk_lines(c), coded.entries[size_t(c)].tail, 0, 0};
    Status status[32];
    EmulatedWarp::run(
        [&] {
          status[EmulatedWarp::lane()] =
              warp::decode_matrix_chunk<EmulatedWarp>(p.matrix, p.tables.rows(p.order.chunk_part[size_t(c)]), job, warp::matrix_scratch(p.scratch.data()), ring);
        },
        seed);
    for (Status s : status) EXPECT_EQ(s, status[0]);
    if (status[0] != Status::kOk) return status[0];
  }
  return Status::kOk;
}

TEST(WarpMatrix, DecodesWhatTheHostEncodes) {
  std::mt19937 rng(11);
  for (int trial = 0; trial < 60; ++trial) {
    const Example e = testing::make_example(rng, trial);
    const CodedMatrix coded = testing::encode(cpu::available_backends().front()->matrices, e);
    std::vector<uint8_t> symbols;
    ASSERT_EQ(decode_by_warp(e, coded, unsigned(trial), &symbols), Status::kOk) << "trial " << trial;
    ASSERT_EQ(symbols, e.symbols) << "trial " << trial;
  }
}

TEST(WarpMatrix, DamageIsFoundWhereTheHostFindsIt) {
  std::mt19937 rng(12);
  int errors = 0;
  for (int trial = 0; trial < 150; ++trial) {
    const Example e = testing::make_example(rng, trial);
    CodedMatrix coded = testing::encode(cpu::available_backends().front()->matrices, e);
    const size_t which = rng() % coded.chunks.size();
    std::vector<uint8_t>& chunk = coded.chunks[which];
    if (trial % 4 == 0 && chunk.size() > 4 + 2 * size_t(format::kStateWords)) {
      chunk.resize(chunk.size() - 2 * (1 + rng() % 2));
      coded.entries[which].words = int32_t(chunk.size() / 2);
    } else {
      for (int k = int(rng() % 3); k >= 0; --k) chunk[rng() % chunk.size()] ^= uint8_t(1 + rng() % 255);
    }
    std::vector<uint8_t> expected, symbols;
    const Status host = testing::decode(cpu::available_backends().front()->matrices, e, coded, &expected);
    const Status found = decode_by_warp(e, coded, unsigned(trial), &symbols);
    ASSERT_EQ(host == Status::kOk, found == Status::kOk) << core::status_name(host) << ", by the warp " << core::status_name(found) << ", trial " << trial;
    if (found == Status::kOk) {
      ASSERT_EQ(expected, symbols);
    }
    errors += found != Status::kOk;
  }
  EXPECT_GT(errors, 75);
}

TEST(WarpMatrix, EncodesAsTheHostDoes) {
  std::mt19937 rng(13);
  for (int trial = 0; trial < 60; ++trial) {
    const Example e = testing::make_example(rng, trial);
    const CodedMatrix coded = testing::encode(cpu::available_backends().front()->matrices, e);
    std::vector<uint8_t> own = e.symbols;
    Prepared p(e, &own);
    const core::ContextEncodeTables contexts = core::make_context_encode_tables(e.model, e.type);
    const std::vector<uint32_t> entries = contexts.entries();
    const warp::WarpPlaces places{entries.data(), e.model.raw_min, e.model.raw_bits};
    for (int64_t c = 0; c < p.order.chunks(); ++c) {
      const core::ChunkShape shape{p.order.chunk_lines(c), e.model.columns};
      const core::MatrixEncodeJob job{p.order.chunk_begin[size_t(c)], shape.lines, 0, 0, 0};
      std::vector<uint32_t> rows(size_t(shape.rows() * format::kLanes));
      std::vector<uint16_t> raw(size_t(shape.symbols()), 0), words(size_t(core::matrix_room_end(0, shape.symbols())), 0xABCD);
      uint16_t cost[format::kLanes];
      int64_t escapes = 0;
      EmulatedWarp::run(
          [&] {
            const int64_t found = warp::find_chunk_symbols<EmulatedWarp>(p.matrix, p.tables.rows(p.order.chunk_part[size_t(c)]), job, places, warp::matrix_scratch(p.scratch.data()), rows.data(),
                                                                         cost, raw.data());
            if (EmulatedWarp::lane() == 0) escapes = found;
          },
          unsigned(trial));
      ASSERT_GE(escapes, 0);
      const core::PlacedSymbols symbols{contexts.table.get(), rows.data(), raw.data() + escapes, shape};
      uint16_t* const end = words.data() + words.size();
      core::ChunkEntry entry{0, int32_t(shape.symbols())};
      if (shape.symbols() <= format::kMaxTail) {
        entry.words = core::encode_narrow_chunk(symbols, end);
      } else {
        const core::Seeds seeds = core::choose_matrix_seeds(symbols, cost, {core::mantissa_logs().data()}, end - core::kSeedTailWords);
        entry.tail = seeds.tail;
        EmulatedWarp::run(
            [&] {
              const int count = warp::encode_chunk_symbols<EmulatedWarp>(symbols, shape.symbols() - seeds.tail, raw.data(), escapes - seeds.tail_escapes, e.model.raw_bits, seeds.states,
                                                                         reinterpret_cast<uint8_t*>(end));
              if (EmulatedWarp::lane() == 0) entry.words = count;
            },
            unsigned(trial));
      }
      ASSERT_EQ(entry.words, coded.entries[size_t(c)].words) << "trial " << trial;
      ASSERT_EQ(entry.tail, coded.entries[size_t(c)].tail);
      const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(end - entry.words);
      ASSERT_EQ(std::vector<uint8_t>(bytes, bytes + 2 * entry.words), coded.chunks[size_t(c)]) << "trial " << trial;
    }
  }
}

}  // namespace
}  // namespace ans
