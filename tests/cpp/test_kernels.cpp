// The kernels of cuda/ on the emulated GPU, called as the operators call them, in memory of exactly the size that they may touch (scripts/test.sh --sanitize watches).
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "core/chunk_encoder.h"
#include "core/histogram.h"
#include "core/log2_table.h"
#include "core/normalize.h"
#include "core/quantize_arithmetic.h"
#include "cpu/backends.h"
#include "cuda/launch.h"

namespace ans {
namespace {

using core::Status;
using format::SymbolType;

// n values at an address that is `misaligned` bytes beyond a multiple of 16, with nothing allocated around them.
template <class T>
struct Exact {
  explicit Exact(int64_t n, int misaligned = 0) : bytes(new uint8_t[size_t(n) * sizeof(T) + size_t(misaligned)]), data(reinterpret_cast<T*>(bytes.get() + misaligned)), size(n) {}
  Exact(const std::vector<T>& values, int misaligned = 0) : Exact(int64_t(values.size()), misaligned) {
    if (!values.empty()) std::memcpy(static_cast<void*>(data), values.data(), values.size() * sizeof(T));
  }
  std::unique_ptr<uint8_t[]> bytes;
  T* data;
  int64_t size;
  T* begin() { return data; }
};

struct Matrix {
  std::vector<uint8_t> symbols;
  int64_t chunk_symbols;
  core::FrequencyTable table;
  std::vector<uint8_t> payload;
  std::vector<core::ChunkEntry> entries;
};

Matrix make_matrix(std::mt19937& rng, int n, int64_t chunk_symbols, double spread, double outliers) {
  Matrix m;
  m.chunk_symbols = chunk_symbols;
  std::normal_distribution<double> normal(0.0, spread);
  for (int i = 0; i < n; ++i) {
    const bool far = std::uniform_real_distribution<double>()(rng) < outliers;
    m.symbols.push_back(uint8_t(int(std::max(-127.0, std::min(127.0, std::round(far ? normal(rng) * 20 : normal(rng)))))));
  }
  uint64_t counts[256] = {};
  core::histogram(m.symbols.data(), SymbolType::kI8, n, counts);
  m.table = core::build_table(counts, SymbolType::kI8);
  core::EncodeTable encode;
  core::make_encode_table(m.table, SymbolType::kI8, &encode);
  core::EncodeScratch scratch;
  std::vector<core::EncodedChunk> chunks;
  const auto encoder = std::make_unique<core::ChunkEncoder>(cpu::kScalar.coder, encode, scratch);
  EXPECT_EQ(encoder->encode(m.symbols.data(), n, chunk_symbols, 0, core::chunk_count(n, chunk_symbols), &chunks), Status::kOk);
  for (const core::EncodedChunk& c : chunks) {
    m.payload.insert(m.payload.end(), c.begin(), c.begin() + c.bytes());
    m.entries.push_back(c.entry);
  }
  return m;
}

std::vector<Matrix> make_matrices(unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<Matrix> matrices;
  for (int i = 0; i < 9; ++i) {
    const int n = 1 + int(rng() % 6000);
    matrices.push_back(make_matrix(rng, n, i % 3 == 0 ? n : 1 + int(rng() % 2500), i % 4 == 0 ? 0.4 : 1 + double(rng() % 30), i % 3 == 0 ? 0.0 : 0.02));
  }
  return matrices;
}

TEST(Kernels, EncodeAsTheHostDoes) {
  std::vector<Matrix> matrices = make_matrices(1);
  const auto tables = std::make_unique<core::EncodeTable[]>(matrices.size());
  std::vector<core::EncodeJob> jobs;
  std::vector<int32_t> begin{0};
  std::vector<Exact<uint8_t>> sources;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const Matrix& m = matrices[i];
    core::make_encode_table(m.table, SymbolType::kI8, &tables[i]);
    sources.emplace_back(m.symbols, int(i % 4));
    const int64_t n = int64_t(m.symbols.size());
    for (int64_t c = 0; c < core::chunk_count(n, m.chunk_symbols); ++c)
      jobs.push_back({sources.back().data + c * m.chunk_symbols, core::symbols_in_chunk(n, m.chunk_symbols, c), int32_t(i), int32_t(i)});
    begin.push_back(int32_t(jobs.size()));
  }
  const int64_t count = int64_t(jobs.size());
  const std::vector<core::WarpBlock> blocks = core::plan_blocks(begin, cuda::kEncodeWarps);
  Exact<uint16_t> costs(32 * count), logs(std::vector<uint16_t>(core::mantissa_logs().begin(), core::mantissa_logs().end()));
  Exact<uint32_t> states(32 * count), status(std::vector<uint32_t>(matrices.size()));
  Exact<int64_t> escapes(count), room(std::vector<int64_t>(size_t(count + 1))), room_begin(count + 1), words(std::vector<int64_t>(size_t(count + 1))), words_begin(count + 1);
  Exact<int32_t> entries(2 * count);
  cuda::EncodeLaunch d{blocks.data(), int64_t(blocks.size()), jobs.data(),  count,        tables.get(),      logs.data, costs.data, states.data, escapes.data,
                       room.data,     room_begin.data,       nullptr,      entries.data, words.data,        words_begin.data,      status.data};
  ASSERT_EQ(cuda::encode_costs(d, nullptr), cudaSuccess);
  size_t scratch_bytes = 1;
  uint8_t scan_scratch;
  ASSERT_EQ(cuda::prefix_sums(&scan_scratch, &scratch_bytes, room.data, room_begin.data, count + 1, nullptr), cudaSuccess);
  Exact<uint16_t> scratch(room_begin.data[count]);
  d.scratch = scratch.data;
  ASSERT_EQ(cuda::encode_chunks(d, nullptr), cudaSuccess);
  ASSERT_EQ(cuda::prefix_sums(&scan_scratch, &scratch_bytes, words.data, words_begin.data, count + 1, nullptr), cudaSuccess);
  std::vector<Exact<uint8_t>> payloads;
  std::vector<core::EncodedPlace> places;
  for (size_t i = 0; i < matrices.size(); ++i) {
    ASSERT_EQ(status.data[i], 0u);
    payloads.emplace_back(int64_t(matrices[i].payload.size()), int(i % 5));
    places.push_back({payloads.back().data, begin[i]});
  }
  ASSERT_EQ(cuda::place_chunks(d, places.data(), nullptr), cudaSuccess);
  for (size_t i = 0; i < matrices.size(); ++i) {
    for (size_t c = 0; c < matrices[i].entries.size(); ++c) {
      ASSERT_EQ(entries.data[2 * (size_t(begin[i]) + c)], matrices[i].entries[c].words) << "chunk " << c << " of matrix " << i;
      ASSERT_EQ(entries.data[2 * (size_t(begin[i]) + c) + 1], matrices[i].entries[c].tail);
    }
    ASSERT_EQ(0, std::memcmp(payloads[i].data, matrices[i].payload.data(), matrices[i].payload.size())) << "matrix " << i;
  }
}

// Decodes one matrix from `payload` by the kernels: `symbols` has room for exactly its symbols.
Status decode(const Matrix& m, const std::vector<core::ChunkEntry>& entries, Exact<uint8_t>& payload, Exact<uint8_t>& symbols) {
  const auto table = std::make_unique<core::DecodeTable>();
  core::make_decode_table(m.table, SymbolType::kI8, false, table.get());
  std::vector<core::WarpJob> jobs;
  const uint8_t* chunk = payload.data;
  for (size_t c = 0; c < entries.size(); ++c) {
    const int64_t first = int64_t(c) * m.chunk_symbols;
    jobs.push_back({chunk, chunk + 2 * entries[c].words, symbols.data + first, core::symbols_in_chunk(symbols.size, m.chunk_symbols, int64_t(c)), first, entries[c].tail, 0});
    chunk += 2 * entries[c].words;
  }
  const int64_t count = int64_t(jobs.size());
  const std::vector<core::WarpBlock> blocks = core::plan_blocks({0, int32_t(count)}, cuda::kDecodeWarps);
  const std::vector<int32_t> table_of_job(jobs.size(), 0);
  Exact<uint32_t> states(32 * count);
  uint32_t status = 0;
  const cuda::DecodeLaunch d{blocks.data(), int64_t(blocks.size()), jobs.data(), table_of_job.data(), count, reinterpret_cast<const uint8_t*>(table.get()), nullptr, states.data, &status};
  EXPECT_EQ(cuda::decode(d, SymbolType::kI8, nullptr), cudaSuccess);
  return Status(int(status));
}

TEST(Kernels, DecodeWhatTheHostEncodes) {
  int i = 0;
  for (const Matrix& m : make_matrices(2)) {
    Exact<uint8_t> payload(m.payload, i++ % 4), symbols(int64_t(m.symbols.size()));
    ASSERT_EQ(decode(m, m.entries, payload, symbols), Status::kOk);
    ASSERT_EQ(0, std::memcmp(symbols.data, m.symbols.data(), m.symbols.size()));
  }
}

TEST(Kernels, DamagedChunksTouchNothingElse) {
  std::mt19937 rng(3);
  const std::vector<Matrix> matrices = make_matrices(3);
  int errors = 0;
  for (int trial = 0; trial < 200; ++trial) {
    const Matrix& m = matrices[size_t(trial) % matrices.size()];
    std::vector<uint8_t> bytes = m.payload;
    std::vector<core::ChunkEntry> entries = m.entries;
    for (unsigned k = 1 + rng() % 3; k > 0; --k) bytes[rng() % bytes.size()] ^= uint8_t(1 << rng() % 8);
    if (trial % 3 == 0) {  // a directory that lies, as far as check_chunk() lets it
      core::ChunkEntry& e = entries[rng() % entries.size()];
      const int32_t words = e.words;
      e.words = std::max(1, e.words - int32_t(rng() % 40));
      e.tail = int32_t(rng() % 1025);
      const size_t c = size_t(&e - entries.data());
      if (core::check_chunk(e, core::symbols_in_chunk(int64_t(m.symbols.size()), m.chunk_symbols, int64_t(c))) != Status::kOk) continue;
      bytes.resize(bytes.size() - size_t(2 * (words - e.words)));
    }
    Exact<uint8_t> payload(bytes, trial % 4), symbols(int64_t(m.symbols.size()));
    errors += decode(m, entries, payload, symbols) != Status::kOk;
  }
  EXPECT_GT(errors, 100);
}

TEST(Kernels, RowsAndTilesOfManyMatrices) {
  std::mt19937 rng(4);
  std::normal_distribution<float> normal;
  const int64_t shapes[][2] = {{7, 96}, {3, 33}, {0, 5}, {65, 1}, {2, 2048}, {4, 0}, {40, 130}};
  std::vector<Exact<float>> weights, row_scale;
  std::vector<Exact<core::Float16>> scale;
  std::vector<Exact<int32_t>> exponent;
  std::vector<Exact<int8_t>> symbols;
  std::vector<cuda::RowScaleJob> scale_jobs;
  std::vector<cuda::PackScaleJob> pack_jobs;
  std::vector<cuda::QuantizeJob> quantize_jobs;
  int64_t rows = 0, tiles = 0;
  for (const auto& [r, c] : shapes) {
    std::vector<float> w(static_cast<size_t>(r * c));
    for (float& x : w) x = normal(rng);
    weights.emplace_back(w, int(weights.size() % 2) * 4);
    row_scale.emplace_back(r);
    scale.emplace_back(r);
    exponent.emplace_back(1);
    symbols.emplace_back(r * c, int(symbols.size() % 3));
    scale_jobs.push_back({weights.back().data, row_scale.back().data, c, rows, core::FloatType::kFloat32});
    pack_jobs.push_back({row_scale.back().data, scale.back().data, exponent.back().data, rows});
    quantize_jobs.push_back({weights.back().data, scale.back().data, exponent.back().data, symbols.back().data, r * c, c, tiles, core::FloatType::kFloat32});
    rows += r;
    tiles += cuda::quantize_tiles(r * c);
  }
  const int count = int(scale_jobs.size());
  Exact<uint32_t> status(std::vector<uint32_t>(size_t(count), 0));
  Exact<uint8_t> extremes(count * int64_t(cuda::kPackScaleScratchBytes));
  ASSERT_EQ(cuda::row_scales(scale_jobs.data(), count, rows, 6, 4.5, status.data, nullptr), cudaSuccess);
  ASSERT_EQ(cuda::pack_scales(pack_jobs.data(), count, rows, extremes.data, status.data, nullptr), cudaSuccess);
  ASSERT_EQ(cuda::quantize_rows(quantize_jobs.data(), count, tiles, 6, status.data, nullptr), cudaSuccess);
  for (int m = 0; m < count; ++m) {
    ASSERT_EQ(status.data[m], 0u);
    const auto& [r, c] = shapes[m];
    for (int64_t row = 0; row < r; ++row) {
      core::RowStatistics statistics;
      cpu::kScalar.quantizer.row_statistics(weights[size_t(m)].data + row * c, core::FloatType::kFloat32, c, &statistics);
      ASSERT_EQ(row_scale[size_t(m)].data[row], core::row_scale(statistics, c, 6, 4.5)) << "row " << row << " of matrix " << m;
      std::vector<int8_t> expected(static_cast<size_t>(c));
      cpu::kScalar.quantizer.quantize(weights[size_t(m)].data + row * c, core::FloatType::kFloat32, c, core::unpack_scale(scale[size_t(m)].data[row], *exponent[size_t(m)].data), 31, expected.data());
      ASSERT_EQ(0, c == 0 ? 0 : std::memcmp(expected.data(), symbols[size_t(m)].data + row * c, size_t(c)));
    }
  }
}

TEST(Kernels, AJobIsFoundByItsItems) {
  std::mt19937 rng(5);
  for (int trial = 0; trial < 200; ++trial) {
    struct Job {
      int64_t first;
    };
    std::vector<Job> jobs;
    std::vector<int> owner;  // of every item
    const int64_t base = trial % 2 == 0 ? 0 : int64_t{1} << 40;  // beyond 32 bits: items of a job that is larger than all memory
    if (base != 0) jobs.push_back({0});
    for (unsigned j = 1 + rng() % 9; j > 0; --j) {
      jobs.push_back({base + int64_t(owner.size())});
      owner.insert(owner.end(), rng() % 4, int(jobs.size()) - 1);
    }
    for (size_t i = 0; i < owner.size(); ++i) ASSERT_EQ(core::find_job(jobs.data(), int(jobs.size()), base + int64_t(i)), owner[i]);
    if (base != 0) {
      ASSERT_EQ(core::find_job(jobs.data(), int(jobs.size()), base - 1), 0);
    }
  }
}

TEST(Kernels, CopiesEveryByteWhateverTheAlignment) {
  std::mt19937 rng(6);
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<uint8_t> bytes(rng() % 70);
    for (uint8_t& b : bytes) b = uint8_t(rng());
    Exact<uint8_t> from(bytes, trial % 8), to(int64_t(bytes.size()), trial / 8 % 8);
    const core::CopyJob job{from.data, to.data, from.size};
    ASSERT_EQ(cuda::copy_all(&job, 1, nullptr), cudaSuccess);
    ASSERT_EQ(0, bytes.empty() ? 0 : std::memcmp(bytes.data(), to.data, bytes.size()));
  }
}

TEST(Kernels, CountInSharedMemoryAndBeyond) {
  std::mt19937 rng(7);
  std::vector<int16_t> symbols(40000);
  std::normal_distribution<double> normal(0.0, 2500.0);
  for (int16_t& s : symbols) s = int16_t(std::lround(normal(rng)));
  std::vector<uint8_t> contexts(symbols.size());
  for (uint8_t& c : contexts) c = uint8_t(rng() % 3);
  Exact<int64_t> counts(std::vector<int64_t>(3 * 65536, 0));
  Exact<int16_t> source(symbols);
  uint32_t status = 0;
  const cuda::HistogramJob job{source.data, contexts.data(), source.size, counts.data, 0, cuda::histogram_blocks(source.size), 3, -32768, 65536, SymbolType::kI16};
  ASSERT_EQ(cuda::histograms(&job, 1, job.blocks, &status, nullptr), cudaSuccess);
  ASSERT_EQ(status, 0u);
  std::vector<uint64_t> expected(3 * 65536, 0);
  ASSERT_TRUE(core::histogram_by_context(symbols.data(), SymbolType::kI16, contexts.data(), int64_t(symbols.size()), 3, expected.data()));
  ASSERT_EQ(0, std::memcmp(expected.data(), counts.data, expected.size() * 8));
}

}  // namespace
}  // namespace ans
