// Whole streams of chunks through every backend, and damaged ones, without torch: what the sanitizers run on.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>

#include "core/chunk_decoder.h"
#include "core/chunk_encoder.h"
#include "core/normalize.h"
#include "core/table_code.h"
#include "cpu/backends.h"

namespace ans {
namespace {

using core::ChunkEntry;
using core::Status;
using format::SymbolType;

struct Coded {
  std::vector<uint8_t> payload;  // exactly its size, so that a sanitizer sees every byte beyond
  std::vector<ChunkEntry> entries;
};

std::vector<uint8_t> random_symbols(std::mt19937& rng, SymbolType type, int64_t n, int kind) {
  std::vector<uint8_t> bytes;
  std::normal_distribution<double> bell(0, kind % 4 == 0 ? 0.3 : kind % 4 == 1 ? 3 : kind % 4 == 2 ? 20 : 60);
  for (int64_t i = 0; i < n; ++i) {
    const bool wild = kind >= 4 && rng() % 200 == 0;
    int v = wild ? int(rng() % 65536) - 32768 : int(std::lround(bell(rng)));
    if (type == SymbolType::kU8) v += 100;
    v = std::max<int>(format::symbol_min(type), std::min<int>(format::symbol_max(type), v));
    bytes.push_back(uint8_t(v));
    if (type == SymbolType::kI16) bytes.push_back(uint8_t(v >> 8));
  }
  return bytes;
}

core::FrequencyTable table_for(const std::vector<uint8_t>& bytes, SymbolType type) {
  std::vector<uint64_t> counts(size_t(format::symbol_values(type)), 0);
  const size_t width = size_t(format::symbol_bytes(type));
  for (size_t i = 0; i + width <= bytes.size(); i += width) {
    const int v = type == SymbolType::kU8 ? bytes[i] : type == SymbolType::kI8 ? int8_t(bytes[i]) : int16_t(bytes[i] | bytes[i + 1] << 8);
    ++counts[size_t(v - format::symbol_min(type))];
  }
  return core::build_table(counts.data(), type);
}

Coded encode(const core::RowCoder& coder, const core::FrequencyTable& table, SymbolType type, const std::vector<uint8_t>& bytes, int64_t n, int64_t chunk_symbols) {
  const auto prepared = std::make_unique<core::EncodeTable>();
  core::make_encode_table(table, type, prepared.get());
  core::EncodeScratch scratch;
  core::ChunkEncoder encoder(coder, *prepared, scratch);
  std::vector<core::EncodedChunk> chunks;
  Coded coded;
  EXPECT_EQ(encoder.encode(bytes.data(), n, chunk_symbols, 0, core::chunk_count(n, chunk_symbols), &chunks), Status::kOk);
  for (const core::EncodedChunk& chunk : chunks) {
    coded.payload.insert(coded.payload.end(), chunk.begin(), chunk.begin() + chunk.bytes());
    coded.entries.push_back(chunk.entry);
  }
  coded.payload.shrink_to_fit();
  return coded;
}

std::unique_ptr<core::DecodeTable> prepare(const core::RowCoder& coder, const core::FrequencyTable& table, SymbolType type) {
  std::unique_ptr<core::DecodeTable> prepared(new core::DecodeTable);
  const bool with_slots = coder.uses_slots(format::bucket_count(table.alphabet_size()), format::symbol_bytes(type));
  core::make_decode_table(table, type, with_slots, prepared.get());
  return prepared;
}

// Jobs for all chunks, to symbols at `out` or to weights.
std::vector<core::ChunkJob> jobs_of(const Coded& coded, const core::DecodeTable& table, int64_t n, int64_t chunk_symbols, uint8_t* out, const core::WeightTarget* weights) {
  std::vector<core::ChunkJob> jobs;
  const uint8_t *chunk = coded.payload.data(), *end = chunk + coded.payload.size();
  for (size_t i = 0; i < coded.entries.size(); ++i) {
    const int64_t first = int64_t(i) * chunk_symbols;
    jobs.push_back({&table, chunk, end, coded.entries[i], core::symbols_in_chunk(n, chunk_symbols, int64_t(i)), weights == nullptr ? out + first * table.symbol_bytes : nullptr,
                    weights, first});
    chunk += 2 * int64_t(coded.entries[i].words);
  }
  return jobs;
}

Status decode(const core::RowCoder& coder, const std::vector<core::ChunkJob>& jobs) { return std::make_unique<core::ChunkDecoder>(coder)->decode(jobs.data(), int64_t(jobs.size())); }

Status decode(const core::RowCoder& coder, const core::FrequencyTable& table, SymbolType type, const Coded& coded, int64_t n, int64_t chunk_symbols, std::vector<uint8_t>* out) {
  const auto prepared = prepare(coder, table, type);
  out->assign(size_t(n * format::symbol_bytes(type)), 0xEE);
  return decode(coder, jobs_of(coded, *prepared, n, chunk_symbols, out->data(), nullptr));
}

TEST(Chunks, EveryBackendDecodesWhatEveryBackendEncodes) {
  std::mt19937 rng(7);
  for (int trial = 0; trial < 60; ++trial) {
    const SymbolType type = SymbolType(trial % 3);
    const int64_t n = trial < 10 ? trial : 1 + rng() % 9000;
    const auto bytes = random_symbols(rng, type, n, int(rng() % 8));
    const auto table = table_for(bytes, type);
    const int64_t chunk_symbols = 1 + rng() % 4000;
    Coded first;
    for (const cpu::Backend* from : cpu::available_backends()) {
      const Coded coded = encode(from->coder, table, type, bytes, n, chunk_symbols);
      if (first.entries.empty()) first = coded;
      ASSERT_EQ(first.payload, coded.payload) << from->name << " trial " << trial;
      for (const cpu::Backend* to : cpu::available_backends()) {
        std::vector<uint8_t> out;
        ASSERT_EQ(decode(to->coder, table, type, coded, n, chunk_symbols, &out), Status::kOk) << from->name << " to " << to->name << " trial " << trial;
        ASSERT_EQ(out, bytes) << from->name << " to " << to->name << " trial " << trial;
      }
      int64_t consumed = 0;
      std::vector<ChunkEntry> entries;
      if (n == 0) continue;
      std::vector<uint8_t> stream = core::write_directory(coded.entries.data(), int64_t(coded.entries.size()));
      const int64_t directory_bytes = int64_t(stream.size());
      stream.insert(stream.end(), coded.payload.begin(), coded.payload.end());
      ASSERT_EQ(core::read_directory(stream.data(), int64_t(stream.size()), n, chunk_symbols, &entries, &consumed), Status::kOk);
      ASSERT_EQ(consumed, directory_bytes);
      for (size_t i = 0; i < entries.size(); ++i) ASSERT_TRUE(entries[i].words == coded.entries[i].words && entries[i].tail == coded.entries[i].tail);
    }
  }
}

TEST(Chunks, DamageIsFoundOrDecodesInsideTheBuffersAndTheSameEverywhere) {
  std::mt19937 rng(8);
  for (int trial = 0; trial < 400; ++trial) {
    const SymbolType type = SymbolType(trial % 3);
    const int64_t n = 1 + rng() % 3000;
    const auto bytes = random_symbols(rng, type, n, int(rng() % 8));
    const auto table = table_for(bytes, type);
    const int64_t chunk_symbols = 1 + rng() % 1500;
    Coded coded = encode(cpu::available_backends().front()->coder, table, type, bytes, n, chunk_symbols);
    for (int k = int(rng() % 4); k >= 0; --k) coded.payload[rng() % coded.payload.size()] ^= uint8_t(1 + rng() % 255);
    if (rng() % 3 == 0) {  // a directory that lies within its rules
      const size_t i = rng() % coded.entries.size();
      const int64_t symbols = core::symbols_in_chunk(n, chunk_symbols, int64_t(i));
      ChunkEntry e{coded.entries[i].words, int32_t(rng() % uint64_t(std::min<int64_t>(symbols, format::kMaxTail) + 1))};
      if (core::check_chunk(e, symbols) == Status::kOk) coded.entries[i] = e;
    }
    Status expected_status = Status::kOk;
    std::vector<uint8_t> expected;
    for (const cpu::Backend* backend : cpu::available_backends()) {
      std::vector<uint8_t> out;
      const Status status = decode(backend->coder, table, type, coded, n, chunk_symbols, &out);
      if (backend == cpu::available_backends().front()) expected_status = status, expected = out;
      ASSERT_EQ(expected_status == Status::kOk, status == Status::kOk) << backend->name << " trial " << trial;
      if (status == Status::kOk) {
        ASSERT_EQ(expected, out) << backend->name << " trial " << trial;
      }
    }
  }
}

TEST(Chunks, WeightsAreThoseOfTheSymbolsAndDamageStaysInsideTheBuffers) {
  std::mt19937 rng(10);
  for (int trial = 0; trial < 150; ++trial) {
    const SymbolType type = SymbolType(trial % 3);
    const int64_t columns = trial % 4 == 0 ? 1 + rng() % 90 : 32 * (1 + rng() % 5);
    const int64_t rows = 1 + rng() % 120, n = rows * columns;
    const int64_t chunk_symbols = trial % 5 == 0 ? 1 + rng() % 4000 : columns * (1 + rng() % 60);
    const auto bytes = random_symbols(rng, type, n, int(rng() % 8));
    const auto table = table_for(bytes, type);
    Coded coded = encode(cpu::available_backends().front()->coder, table, type, bytes, n, chunk_symbols);
    const bool damaged = trial % 2 == 1;
    if (damaged) coded.payload[rng() % coded.payload.size()] ^= uint8_t(1 + rng() % 255);
    std::vector<core::Float16> scale;
    for (int64_t r = 0; r < rows; ++r) scale.push_back(core::Float16{uint16_t(rng() % 31744 + (rng() % 8 == 0 ? 32768 : 0))});
    if (trial % 7 == 0) scale[rng() % scale.size()] = core::Float16{0x7c00};  // infinity
    const core::FloatType weight_type = core::FloatType(rng() % 3);
    std::vector<uint8_t> expected;
    Status expected_status = Status::kOk;
    for (const cpu::Backend* backend : cpu::available_backends()) {
      std::vector<uint8_t> weight(size_t(n * core::float_bytes(weight_type)));
      const core::WeightTarget target{&backend->quantizer, type, scale.data(), 0, columns, weight_type, weight.data()};
      const auto prepared = prepare(backend->coder, table, type);
      const Status status = decode(backend->coder, jobs_of(coded, *prepared, n, chunk_symbols, nullptr, &target));
      if (backend == cpu::available_backends().front()) expected_status = status;
      ASSERT_EQ(expected_status == Status::kOk, status == Status::kOk) << backend->name << " trial " << trial;
      if (status != Status::kOk) {
        ASSERT_TRUE(damaged);
        continue;
      }
      if (expected.empty()) {
        std::vector<uint8_t> symbols;
        ASSERT_EQ(decode(backend->coder, table, type, coded, n, chunk_symbols, &symbols), Status::kOk);
        std::vector<uint8_t> plain(weight.size());
        core::WeightTarget by_symbols = target;
        by_symbols.weight = plain.data();
        by_symbols.write(symbols.data(), 0, n);
        expected = plain;
      }
      ASSERT_EQ(expected, weight) << backend->name << " trial " << trial;
    }
  }
}

// Chunks of many streams, with all kinds of tables, some to symbols and some to weights, in one go: what each gives alone.
TEST(Chunks, StreamsSideBySideGiveWhatTheyGiveAlone) {
  std::mt19937 rng(11);
  for (int trial = 0; trial < 40; ++trial) {
    struct Stream {
      SymbolType type;
      int64_t n, columns, chunk_symbols;
      std::vector<uint8_t> symbols;
      core::FrequencyTable table;
      Coded coded;
      std::vector<core::Float16> scale;
      core::FloatType weight_type;
      bool to_weights;
    };
    std::vector<Stream> streams(size_t(1 + rng() % 12));
    const bool alike = trial % 2 == 0;  // int6, which the fastest kernels take
    for (Stream& s : streams) {
      s.type = alike ? SymbolType::kI8 : SymbolType(rng() % 3);
      s.columns = alike ? 32 * int64_t(1 + rng() % 6) : 1 + int64_t(rng() % 100);
      const int64_t rows = 1 + int64_t(rng() % 150);
      s.n = rows * s.columns;
      s.chunk_symbols = alike ? s.columns * int64_t(1 + rng() % 40) : 1 + int64_t(rng() % 5000);
      s.symbols = random_symbols(rng, s.type, s.n, alike ? 1 + 4 * int(rng() % 2) : int(rng() % 8));
      s.table = table_for(s.symbols, s.type);
      s.coded = encode(cpu::available_backends().front()->coder, s.table, s.type, s.symbols, s.n, s.chunk_symbols);
      for (int64_t r = 0; r < rows; ++r) s.scale.push_back(core::Float16{uint16_t(rng() % 31744)});
      s.weight_type = core::FloatType(rng() % 3);
      s.to_weights = trial % 4 < 2;
    }
    if (trial % 8 >= 6) streams[0].to_weights = true;  // both kinds
    for (const cpu::Backend* backend : cpu::available_backends()) {
      std::vector<std::unique_ptr<core::DecodeTable>> tables;
      std::vector<core::WeightTarget> targets;
      std::vector<std::vector<uint8_t>> outs;
      std::vector<core::ChunkJob> jobs;
      for (const Stream& s : streams) {
        tables.push_back(prepare(backend->coder, s.table, s.type));
        outs.emplace_back(size_t(s.n * (s.to_weights ? core::float_bytes(s.weight_type) : format::symbol_bytes(s.type))), 0xEE);
        targets.push_back({&backend->quantizer, s.type, s.scale.data(), 0, s.columns, s.weight_type, outs.back().data()});
      }
      for (size_t i = 0; i < streams.size(); ++i) {
        const Stream& s = streams[i];
        const auto more = jobs_of(s.coded, *tables[i], s.n, s.chunk_symbols, outs[i].data(), s.to_weights ? &targets[i] : nullptr);
        jobs.insert(jobs.end(), more.begin(), more.end());
      }
      ASSERT_EQ(decode(backend->coder, jobs), Status::kOk) << backend->name << " trial " << trial;
      for (size_t i = 0; i < streams.size(); ++i) {
        const Stream& s = streams[i];
        std::vector<uint8_t> expected = s.symbols;
        if (s.to_weights) {
          expected.assign(outs[i].size(), 0);
          core::WeightTarget alone = targets[i];
          alone.weight = expected.data();
          alone.write(s.symbols.data(), 0, s.n);
        }
        ASSERT_EQ(expected, outs[i]) << backend->name << " trial " << trial << " stream " << i;
      }
    }
  }
}

TEST(TableCode, AnyBytesAreATableOrANamedError) {
  std::mt19937 rng(9);
  for (int trial = 0; trial < 200000; ++trial) {
    std::vector<uint8_t> data(rng() % 40);
    for (auto& b : data) b = uint8_t(rng() % 3 == 0 ? rng() : rng() & rng());
    core::FrequencyTable table;
    int64_t consumed = -1;
    const SymbolType type = SymbolType(trial % 3);
    if (core::read_table(data.data(), int64_t(data.size()), type, &table, &consumed) != Status::kOk) continue;
    ASSERT_LE(consumed, int64_t(data.size()));
    int sum = 0;
    for (int i = 0; i < table.alphabet_size(); ++i) sum += table.freq[size_t(i)];
    ASSERT_EQ(sum, format::kSlots);
    core::make_alias_table(table);
  }
}

}  // namespace
}  // namespace ans
