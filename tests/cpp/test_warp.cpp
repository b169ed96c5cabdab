// What a warp computes, on an emulated one: the kernels' templates against the host's backends.
#define ANS_TARGET target_emulated_warp
#include "cpu/target_macros.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "core/chunk_decoder.h"
#include "core/chunk_encoder.h"
#include "core/normalize.h"
#include "core/warp_decoder.h"
#include "core/warp_jobs.h"
#include "cpu/backends.h"
#include "emulated_block.h"

namespace ans {
namespace {

using core::Status;
using format::SymbolType;
using testing::EmulatedWarp;
namespace warp = core::ANS_TARGET;

// Symbols, their table, and one chunk of them, as the scalar backend writes it.
struct Coded {
  std::vector<uint8_t> symbols;
  core::FrequencyTable table;
  std::vector<uint8_t> bytes;  // exactly the chunk: behind it nothing may be read
  core::ChunkEntry entry{};
};

Coded make_coded(std::mt19937& rng, int n, double spread, double outliers) {
  Coded c;
  std::normal_distribution<double> normal(0.0, spread);
  for (int i = 0; i < n; ++i) {
    const bool far = std::uniform_real_distribution<double>()(rng) < outliers;
    c.symbols.push_back(uint8_t(int(std::max(-127.0, std::min(127.0, std::round(far ? normal(rng) * 20 : normal(rng)))))));
  }
  uint64_t counts[256] = {};
  for (uint8_t s : c.symbols) ++counts[uint8_t(s + 128)];
  c.table = core::build_table(counts, SymbolType::kI8);
  core::EncodeTable encode;
  core::make_encode_table(c.table, SymbolType::kI8, &encode);
  core::EncodeScratch scratch;
  std::vector<core::EncodedChunk> chunks;
  core::ChunkEncoder encoder(cpu::kScalar.coder, encode, scratch);
  EXPECT_EQ(encoder.encode(c.symbols.data(), n, n, 0, 1, &chunks), Status::kOk);
  c.bytes.assign(chunks[0].begin(), chunks[0].begin() + chunks[0].bytes());
  c.entry = chunks[0].entry;
  return c;
}

struct Decoded {
  std::vector<int> symbols;  // 1000: none
  uint32_t state[32];
  Status status;
};

Decoded decode_by_warp(const core::FrequencyTable& frequencies, const std::vector<uint8_t>& bytes, int64_t symbols, unsigned misaligned, unsigned seed) {
  const auto decode = std::make_unique<core::DecodeTable>();
  core::make_decode_table(frequencies, SymbolType::kI8, true, decode.get());
  const auto memory = std::make_unique<uint8_t[]>(bytes.size() + misaligned);
  std::memcpy(memory.get() + misaligned, bytes.data(), bytes.size());
  const warp::WarpTable table{decode->slots, decode->first_value, decode->escape_index, decode->raw_bits, decode->first_value + decode->raw_offset};
  const warp::WarpChunk chunk{memory.get() + misaligned, memory.get() + misaligned + bytes.size(), symbols};
  alignas(4) uint16_t ring[warp::WarpWords<EmulatedWarp>::kRingWords];
  Decoded d;
  d.symbols.assign(size_t(symbols), 1000);
  Status status[32];
  EmulatedWarp::run(
      [&] {
        auto sink = [&](int64_t i, int32_t symbol) { d.symbols[size_t(i)] = symbol; };
        status[EmulatedWarp::lane()] = table.escape_index >= 0 ? warp::decode_chunk_rows<EmulatedWarp, true>(table, chunk, ring, d.state, sink)
                                                               : warp::decode_chunk_rows<EmulatedWarp, false>(table, chunk, ring, d.state, sink);
      },
      seed);
  for (Status s : status) EXPECT_EQ(s, status[0]);
  d.status = status[0];
  return d;
}

Status decode_by_host(const Coded& c, const std::vector<uint8_t>& bytes) {
  const auto decode = std::make_unique<core::DecodeTable>();
  core::make_decode_table(c.table, SymbolType::kI8, true, decode.get());
  std::vector<uint8_t> out(c.symbols.size());
  const core::ChunkJob job{decode.get(), bytes.data(), bytes.data() + bytes.size(), {int32_t(bytes.size() / 2), c.entry.tail}, int64_t(c.symbols.size()), out.data(), nullptr, 0};
  return core::ChunkDecoder(cpu::kScalar.coder).decode(&job, 1);
}

TEST(EmulatedWarp, LanesMeet) {
  uint32_t ballots[32], shuffled[32];
  EmulatedWarp::run([&] {
    const unsigned l = EmulatedWarp::lane();
    ballots[l] = EmulatedWarp::ballot(l % 3 == 0);
    shuffled[l] = EmulatedWarp::shuffle(100 + l, l + 1);
  });
  for (unsigned l = 0; l < 32; ++l) {
    EXPECT_EQ(ballots[l], 0x49249249u);
    EXPECT_EQ(shuffled[l], 100 + (l + 1) % 32);
  }
}

TEST(EmulatedWarp, ALaneThatIsMissingIsAnError) {
  EXPECT_THROW(EmulatedWarp::run([] {
    if (EmulatedWarp::lane() != 7) EmulatedWarp::sync();
  }), std::logic_error);
  EXPECT_THROW(EmulatedWarp::run([] { EmulatedWarp::lane() == 7 ? void(EmulatedWarp::ballot(true)) : EmulatedWarp::sync(); }), std::logic_error);
}

TEST(Warp, DecodesTheRowsOfAChunk) {
  std::mt19937 rng(3);
  for (int trial = 0; trial < 60; ++trial) {
    const int n = 1025 + int(rng() % 4000);
    const Coded c = make_coded(rng, n, trial % 4 == 0 ? 0.4 : 1 + double(rng() % 30), trial % 3 == 0 ? 0.0 : trial % 3 == 1 ? 0.002 : 0.2);
    const Decoded d = decode_by_warp(c.table, c.bytes, n - c.entry.tail, unsigned(trial % 4), unsigned(trial));
    ASSERT_EQ(d.status, Status::kOk);
    for (size_t i = 0; i < d.symbols.size(); ++i) ASSERT_EQ(d.symbols[i], int8_t(c.symbols[i])) << "symbol " << i << " of trial " << trial;
    const auto table = std::make_unique<core::DecodeTable>();
    core::make_decode_table(c.table, SymbolType::kI8, false, table.get());
    auto sink = [&](int i, uint32_t symbol) { EXPECT_EQ(uint8_t(symbol), c.symbols[d.symbols.size() + size_t(i)]); };
    const core::StatePieces pieces{d.state};
    ASSERT_EQ(Status::kOk, table->buckets == 64    ? core::decode_tail<64>(*table, pieces, c.entry.tail, sink)
                           : table->buckets == 128 ? core::decode_tail<128>(*table, pieces, c.entry.tail, sink)
                                                   : core::decode_tail<256>(*table, pieces, c.entry.tail, sink));
  }
}

TEST(Warp, NamesDamageAsTheHostDoes) {
  std::mt19937 rng(4);
  int errors = 0;
  for (int trial = 0; trial < 150; ++trial) {
    const Coded c = make_coded(rng, 1100 + int(rng() % 300), 1 + double(rng() % 20), trial % 2 == 0 ? 0.0 : 0.05);
    std::vector<uint8_t> bytes = c.bytes;
    if (trial % 5 == 0) bytes.resize(bytes.size() - 2 * (1 + rng() % 9));
    else if (trial % 5 == 1) bytes.insert(bytes.end(), 2 * (1 + rng() % 9), uint8_t(rng()));
    else bytes[rng() % bytes.size()] ^= uint8_t(1 << rng() % 8);
    const Status host = decode_by_host(c, bytes);
    const Decoded d = decode_by_warp(c.table, bytes, int64_t(c.symbols.size()) - c.entry.tail, unsigned(trial % 4), unsigned(trial));
    if (d.status == Status::kOk) EXPECT_TRUE(host == Status::kOk || host == Status::kTailStateMismatch || host == Status::kTailEmpty) << core::status_name(host);
    else EXPECT_EQ(d.status, host) << core::status_name(d.status) << ", host: " << core::status_name(host);
    errors += d.status != Status::kOk;
  }
  EXPECT_GT(errors, 50);
}

TEST(Warp, EncodesRowsAsTheHostDoes) {
  std::mt19937 rng(5);
  using L = warp::Lanes32<warp::VectorWarp<EmulatedWarp>>;
  for (int trial = 0; trial < 40; ++trial) {
    const Coded c = make_coded(rng, 1200, 1 + double(rng() % 30), trial % 2 == 0 ? 0.0 : 0.01);
    core::EncodeTable table;
    core::make_encode_table(c.table, SymbolType::kI8, &table);
    const int active = trial % 3 == 0 ? 0 : 1 + int(rng() % 31), rows = 20;
    std::vector<uint8_t> index(rows * 32 + 64);
    for (auto& i : index) {
      do i = uint8_t(rng() % unsigned(c.table.core_size));
      while (c.table.freq[i] == 0);
    }
    uint32_t start[32], expected[32], state[32];
    for (auto& x : start) x = 65536u + rng() % 65536;
    alignas(4) uint8_t expected_words[4096], words[4096];
    std::copy(start, start + 32, expected);
    std::copy(start, start + 32, state);
    core::EncodeStream host{expected, expected_words + 4096, index.data() + rows * 32};
    if (active > 0) cpu::kScalar.coder.encode_partial_row(table, &host, active);
    host.index = index.data();
    cpu::kScalar.coder.encode_rows(table, &host, 1, rows);
    const uint8_t* end = nullptr;
    EmulatedWarp::run(
        [&] {
          core::EncodeStream own{state, words + 4096, index.data() + rows * 32};
          if (active > 0) warp::encode_partial_row<L>(table, &own, active);
          own.index = index.data();
          EmulatedWarp::sync();
          warp::encode_rows<L, 1>(table, &own, rows);
          end = own.words;
        },
        unsigned(trial));
    ASSERT_EQ(words + 4096 - end, expected_words + 4096 - host.words);
    ASSERT_EQ(0, std::memcmp(end, host.words, size_t(words + 4096 - end)));
    for (int l = 0; l < 32; ++l) ASSERT_EQ(state[l], expected[l]) << "lane " << l;
  }
}

TEST(WarpJobs, ATableCanLieBehindAnother) { EXPECT_EQ(core::kWarpTableBytes % alignof(core::DecodeTable), 0u); }

TEST(WarpJobs, EveryChunkHasOneWarpInABlockOfItsTable) {
  std::mt19937 rng(6);
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<int32_t> begin{0};
    for (unsigned t = rng() % 9; t > 0; --t) begin.push_back(begin.back() + int32_t(rng() % 20));  // also tables without chunks
    std::vector<int> warps_of(size_t(begin.back()));
    for (const core::WarpBlock& block : core::plan_blocks(begin, 8)) {
      ASSERT_GE(block.jobs, 1);
      ASSERT_LE(block.jobs, 8);
      ASSERT_GE(block.first_job, begin[size_t(block.table)]);
      ASSERT_LE(block.first_job + block.jobs, begin[size_t(block.table) + 1]);
      for (int j = 0; j < block.jobs; ++j) ++warps_of[size_t(block.first_job + j)];
    }
    for (int warps : warps_of) ASSERT_EQ(warps, 1);
  }
}

}  // namespace
}  // namespace ans
