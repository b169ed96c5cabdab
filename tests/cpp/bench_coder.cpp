// Speed of the coder below torch: every backend over the entropy axis and over chunk sizes. Bytes are symbols.
// Build: cmake -DANS_BENCHMARKS=ON; run: bench_coder [--benchmark_filter=...]
#include <benchmark/benchmark.h>

#include <cmath>
#include <memory>
#include <random>
#include <string>

#include "core/chunk_decoder.h"
#include "core/chunk_encoder.h"
#include "core/histogram.h"
#include "core/normalize.h"
#include "cpu/backends.h"

namespace ans {
namespace {

constexpr int64_t kSymbols = 1 << 22;

struct Data {
  explicit Data(double sigma) {
    std::mt19937 rng(1);
    std::normal_distribution<double> bell(0, sigma);
    for (int64_t i = 0; i < kSymbols; ++i) symbols.push_back(int8_t(std::max(-127.0, std::min(127.0, std::round(bell(rng))))));
    std::vector<uint64_t> counts(256);
    core::histogram(symbols.data(), format::SymbolType::kI8, kSymbols, counts.data());
    const core::FrequencyTable table = core::build_table(counts.data(), format::SymbolType::kI8);
    core::make_encode_table(table, format::SymbolType::kI8, encode.get());
    core::make_decode_table(table, format::SymbolType::kI8, true, decode.get());
  }
  std::vector<int8_t> symbols;
  std::unique_ptr<core::EncodeTable> encode = std::make_unique<core::EncodeTable>();
  std::unique_ptr<core::DecodeTable> decode = std::make_unique<core::DecodeTable>();
};

void encode(benchmark::State& state, const cpu::Backend* backend, double sigma, int64_t chunk_symbols) {
  const Data data(sigma);
  core::EncodeScratch scratch;
  core::ChunkEncoder encoder(backend->coder, *data.encode, scratch);
  int64_t bytes = 0;
  for (auto _ : state) {
    std::vector<core::EncodedChunk> chunks;
    const core::Status status = encoder.encode(data.symbols.data(), kSymbols, chunk_symbols, 0, core::chunk_count(kSymbols, chunk_symbols), &chunks);
    if (status != core::Status::kOk) state.SkipWithError(core::status_name(status));
    bytes = 0;
    for (core::EncodedChunk& chunk : chunks) {
      bytes += chunk.bytes();
      scratch.spare.push_back(std::move(chunk.buffer));
    }
  }
  state.SetBytesProcessed(state.iterations() * kSymbols);
  state.counters["bits_per_symbol"] = 8.0 * double(bytes) / double(kSymbols);
}

void decode(benchmark::State& state, const cpu::Backend* backend, double sigma, int64_t chunk_symbols) {
  const Data data(sigma);
  const int64_t chunks = core::chunk_count(kSymbols, chunk_symbols);
  std::vector<core::EncodedChunk> encoded;
  core::EncodeScratch scratch;
  core::ChunkEncoder encoder(backend->coder, *data.encode, scratch);
  if (encoder.encode(data.symbols.data(), kSymbols, chunk_symbols, 0, chunks, &encoded) != core::Status::kOk) state.SkipWithError("encode");
  std::vector<int8_t> out(kSymbols);
  std::vector<core::ChunkJob> jobs;
  for (int64_t i = 0; i < chunks; ++i) {
    const core::EncodedChunk& chunk = encoded[size_t(i)];
    uint8_t* first = reinterpret_cast<uint8_t*>(out.data()) + i * chunk_symbols;
    jobs.push_back({data.decode.get(), chunk.begin(), chunk.begin() + chunk.bytes(), chunk.entry, core::symbols_in_chunk(kSymbols, chunk_symbols, i), first, nullptr, 0});
  }
  core::ChunkDecoder decoder(backend->coder);
  for (auto _ : state) {
    const core::Status status = decoder.decode(jobs.data(), chunks);
    if (status != core::Status::kOk) state.SkipWithError(core::status_name(status));
  }
  if (out != data.symbols) state.SkipWithError("decoded something else");
  state.SetBytesProcessed(state.iterations() * kSymbols);
}

void count(benchmark::State& state, double sigma) {
  const Data data(sigma);
  for (auto _ : state) {
    uint64_t counts[256] = {};
    core::histogram(data.symbols.data(), format::SymbolType::kI8, kSymbols, counts);
    benchmark::DoNotOptimize(counts);
  }
  state.SetBytesProcessed(state.iterations() * kSymbols);
}

void register_all() {
  for (double sigma : {0.3, 1.0, 2.4, 7.0, 15.0, 40.0}) {
    const std::string at = "/sigma:" + std::to_string(sigma).substr(0, 4);
    benchmark::RegisterBenchmark(("histogram" + at).c_str(), count, sigma);
    for (const cpu::Backend* backend : cpu::available_backends()) {
      for (int64_t chunk_symbols : {int64_t{1} << 13, int64_t{1} << 16, int64_t{1} << 20}) {
        if (chunk_symbols != 1 << 16 && sigma != 7.0) continue;
        const std::string name = std::string("/") + backend->name + at + "/chunk:" + std::to_string(chunk_symbols);
        benchmark::RegisterBenchmark(("encode" + name).c_str(), encode, backend, sigma, chunk_symbols);
        benchmark::RegisterBenchmark(("decode" + name).c_str(), decode, backend, sigma, chunk_symbols);
      }
    }
  }
}

}  // namespace
}  // namespace ans

int main(int argc, char** argv) {
  ans::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
