// What the operators on tables, chunks and streams share.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/chunk_decoder.h"
#include "core/directory.h"
#include "core/frequency_table.h"
#include "cpu/backends.h"
#include "torch/checks.h"
#include "torch/parallel.h"
#include "torch/scratch_pool.h"
#include "torch/stream_parts.h"

namespace ans::ops {

using core::ChunkEntry;
using core::Status;
using format::SymbolType;

// Chunks as the threads encoded them: each part is a run of chunks, in order.
struct EncodedParts {
  // The last chunks lie where they were encoded, those before them one after another: many small buffers would be paged in slowly.
  struct Part {
    std::unique_ptr<core::EncodeScratch> scratch = ScratchPool::instance().take();
    std::vector<core::EncodedChunk> chunks;
    core::ByteBuffer joined;
    std::vector<ChunkEntry> entries;  // of all chunks

    void join(int64_t expected_bytes) {
      joined.reserve(expected_bytes);
      for (core::EncodedChunk& chunk : chunks) {
        joined.append(chunk.begin(), chunk.bytes());
        scratch->spare.push_back(std::move(chunk.buffer));
      }
      chunks.clear();
    }
    int64_t bytes() const {
      int64_t total = joined.size();
      for (const core::EncodedChunk& chunk : chunks) total += chunk.bytes();
      return total;
    }
  };
  std::map<int64_t, Part> parts;  // by first chunk

  EncodedParts() = default;
  EncodedParts(EncodedParts&&) = default;
  EncodedParts& operator=(EncodedParts&&) = delete;
  ~EncodedParts() {
    for (auto& [first, part] : parts) {
      for (core::EncodedChunk& chunk : part.chunks) part.scratch->spare.push_back(std::move(chunk.buffer));
      ScratchPool::instance().give_back(std::move(part.scratch));
    }
  }
  int64_t bytes() const {
    int64_t total = 0;
    for (const auto& [first, part] : parts) total += part.bytes();
    return total;
  }
  void copy_to(uint8_t* out) const {
    for (const auto& [first, part] : parts) {
      if (part.joined.size() > 0) std::memcpy(out, part.joined.data(), size_t(part.joined.size()));
      out += part.joined.size();
      for (const core::EncodedChunk& chunk : part.chunks) {
        std::memcpy(out, chunk.begin(), size_t(chunk.bytes()));
        out += chunk.bytes();
      }
    }
  }
  std::vector<ChunkEntry> entries() const {
    std::vector<ChunkEntry> all;
    for (const auto& [first, part] : parts) all.insert(all.end(), part.entries.begin(), part.entries.end());
    return all;
  }
};

// Encodes all chunks of an array, on torch's threads. Raises SymbolNotInTable; `which` begins its text.
EncodedParts encode_chunks(const char* op, const std::string& which, const void* data, SymbolType type, int64_t numel, const core::FrequencyTable& table, int64_t chunk_symbols);

inline void write_entries(const std::vector<ChunkEntry>& entries, int32_t* out) {
  for (const ChunkEntry& e : entries) {
    *out++ = e.words;
    *out++ = e.tail;
  }
}

// Payload and directory of a stream, checked against each other.
struct Chunks {
  Chunks(const char* op, const Tensor& payload_in, const Tensor& directory, int64_t numel_in, int64_t chunk_symbols_in) : numel(numel_in), chunk_symbols(chunk_symbols_in) {
    check_bytes(op, "payload", payload_in);
    check_directory(op, directory, numel, chunk_symbols);
    bytes.emplace(torch::stable::contiguous(payload_in));
    const Tensor source = torch::stable::contiguous(directory);
    entries = checked_entries(op, source.const_data_ptr<int32_t>(), numel, chunk_symbols);
    place(op, static_cast<const uint8_t*>(bytes->const_data_ptr()), bytes->numel());
  }
  // Entries that read_directory() has checked, and the bytes behind them.
  Chunks(const char* op, const uint8_t* payload, int64_t payload_bytes, std::vector<ChunkEntry> checked, int64_t numel_in, int64_t chunk_symbols_in)
      : numel(numel_in), chunk_symbols(chunk_symbols_in), entries(std::move(checked)) {
    place(op, payload, payload_bytes);
  }
  // One job per chunk: to symbols at `out` or, if there is a target, to its weights.
  void append_jobs(const core::DecodeTable& table, uint8_t* out, const core::WeightTarget* weights, std::vector<core::ChunkJob>* jobs) const {
    const uint8_t* chunk = begin;
    for (size_t i = 0; i < entries.size(); ++i) {
      const int64_t first = int64_t(i) * chunk_symbols;
      uint8_t* first_symbol = weights == nullptr ? out + first * table.symbol_bytes : nullptr;
      jobs->push_back({&table, chunk, begin + size, entries[i], core::symbols_in_chunk(numel, chunk_symbols, int64_t(i)), first_symbol, weights, first});
      chunk += 2 * int64_t(entries[i].words);
    }
  }

  void place(const char* op, const uint8_t* payload, int64_t payload_bytes) {
    begin = payload;
    size = payload_bytes;
    check_payload_bytes(op, entries, size);
  }

  int64_t numel, chunk_symbols;
  std::optional<Tensor> bytes;  // keeps the payload
  const uint8_t* begin = nullptr;
  int64_t size = 0;
  std::vector<ChunkEntry> entries;
};

// A table for a backend, which also does the jobs, on torch's threads: one that is selected in between might need other tables.
std::unique_ptr<core::DecodeTable> prepare_table(const cpu::Backend& backend, const core::FrequencyTable& table, SymbolType type);
Status do_jobs(const cpu::Backend& backend, const std::vector<core::ChunkJob>& jobs);

// Checked: where the symbols of a matrix of weights go. Keeps the scales.
struct WeightDestination {
  WeightDestination(const char* op, const Tensor& weight, const Tensor& scale, const Tensor& exponent, SymbolType symbol_type);
  Tensor scales;
  core::WeightTarget target;
};

}  // namespace ans::ops
