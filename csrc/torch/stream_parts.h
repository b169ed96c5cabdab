// A stream of BITSTREAM.md taken apart, in host memory; and the same for pieces that come one by one.
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/directory.h"
#include "core/frequency_table.h"
#include "core/table_code.h"
#include "torch/checks.h"

namespace ans::ops {

inline void check_chunk_symbols(const char* op, int64_t chunk_symbols) {
  ANS_CHECK_ARGUMENT(chunk_symbols >= 1 && chunk_symbols <= format::kMaxChunkSymbols, op, "chunk_symbols is ", chunk_symbols, ", not in 1 ... ", format::kMaxChunkSymbols);
}

inline void check_directory(const char* op, const Tensor& directory) {
  ANS_CHECK_ARGUMENT(directory.scalar_type() == ScalarType::Int && directory.dim() == 2 && directory.size(1) == 2, op, "directory is not an int32 tensor [chunks, 2]");
}

// A directory for `numel` symbols.
inline void check_directory(const char* op, const Tensor& directory, int64_t numel, int64_t chunk_symbols) {
  check_chunk_symbols(op, chunk_symbols);
  ANS_CHECK_ARGUMENT(numel >= 0, op, "numel is negative");
  check_directory(op, directory);
  ANS_CHECK_ARGUMENT(directory.size(0) == core::chunk_count(numel, chunk_symbols), op, "directory has ", directory.size(0), " chunks; ", numel, " symbols in chunks of ", chunk_symbols,
                     " need ", core::chunk_count(numel, chunk_symbols));
}

// Entries of a directory that check_directory() has passed.
inline std::vector<core::ChunkEntry> checked_entries(const char* op, const int32_t* directory, int64_t numel, int64_t chunk_symbols) {
  std::vector<core::ChunkEntry> entries;
  for (int64_t i = 0; i < core::chunk_count(numel, chunk_symbols); ++i) {
    entries.push_back({directory[2 * i], directory[2 * i + 1]});
    check_status(op, core::check_chunk(entries.back(), core::symbols_in_chunk(numel, chunk_symbols, i)), "bad chunk directory");
  }
  return entries;
}

inline void check_payload_bytes(const char* op, const std::vector<core::ChunkEntry>& entries, int64_t bytes) {
  int64_t position = 0;
  for (const core::ChunkEntry& e : entries) position += 2 * int64_t(e.words);
  if (position > bytes) check_status(op, core::Status::kPayloadTruncated, "the payload is shorter than the directory says");
  if (position < bytes) check_status(op, core::Status::kPayloadTrailing, "the payload is longer than the directory says");
}

// A table and nothing else.
inline core::FrequencyTable parse_table(const char* op, const uint8_t* bytes, int64_t size, format::SymbolType type) {
  core::FrequencyTable result;
  int64_t consumed = 0;
  check_status(op, core::read_table(bytes, size, type, &result, &consumed), "bad table");
  ANS_CHECK_ARGUMENT(consumed == size, op, "bytes follow the table");
  return result;
}

// A stream taken apart; everything but the chunks themselves is checked. `which` begins the text of an error, if there are several.
struct StreamParts {
  StreamParts(const char* op, const std::string& which, const uint8_t* p, int64_t size, int64_t numel, format::SymbolType type) {
    const int64_t width = format::symbol_bytes(type);
    auto check = [&](core::Status status, const char* why) {
      if (status != core::Status::kOk) check_status(op, status, (which + why).c_str());
    };
    auto require = [&](bool condition, core::Status status, const char* why) { check(condition ? core::Status::kOk : status, why); };
    ANS_CHECK_ARGUMENT(numel >= 0, op, "numel is negative");
    require(size >= 1, core::Status::kStreamTruncated, "the stream is empty");
    require(p[0] <= uint8_t(format::Model::kMatrix), core::Status::kUnknownModel, "the stream has a model that this version does not know");
    model = format::Model(p[0]);
    if (model == format::Model::kRaw) {
      require(numel <= (std::numeric_limits<int64_t>::max() - 1) / width && size - 1 == numel * width, core::Status::kBodySizeMismatch, "a raw stream has another size than its symbols");
      return;
    }
    require(numel >= 1, core::Status::kEmptyStreamModel, "only a raw stream holds no symbols");
    if (model == format::Model::kConstant) {
      require(size - 1 == width, core::Status::kBodySizeMismatch, "a constant stream holds one symbol");
      return;
    }
    if (model == format::Model::kMatrix) return;  // matrix_stream.h reads the rest
    int64_t at = 1;
    bool more = model == format::Model::kOrder0;
    if (!more) chunk_symbols = numel;
    for (int shift = 0; more; shift += 7, ++at) {
      require(at < size, core::Status::kStreamTruncated, "the stream ends in its header");
      require(shift < 28, core::Status::kChunkSizeOutOfRange, "chunk_symbols is out of range");
      chunk_symbols |= int64_t(p[at] & 127) << shift;
      more = p[at] >= 128;
    }
    const bool in_range = chunk_symbols >= 1 && chunk_symbols <= format::kMaxChunkSymbols && (model == format::Model::kOrder0OneChunk || chunk_symbols < numel);
    require(in_range, core::Status::kChunkSizeOutOfRange, "chunk_symbols is out of range");
    int64_t table_bytes = 0, directory_bytes = 0;
    check(core::read_table(p + at, size - at, type, &table, &table_bytes), "bad table");
    table_begin = at;
    table_end = at + table_bytes;
    check(core::read_directory(p + table_end, size - table_end, numel, chunk_symbols, &entries, &directory_bytes), "bad chunk directory");
    payload_begin = table_end + directory_bytes;
  }
  // Of pieces: the payload begins the bytes.
  StreamParts(const core::FrequencyTable& table_in, std::vector<core::ChunkEntry> entries_in, int64_t chunk_symbols_in)
      : model(format::Model::kOrder0), chunk_symbols(chunk_symbols_in), payload_begin(0), table(table_in), entries(std::move(entries_in)) {}

  format::Model model;
  int64_t chunk_symbols = 0, table_begin = 1, table_end = 1, payload_begin = 1;
  core::FrequencyTable table;
  std::vector<core::ChunkEntry> entries;
};

inline std::string name_stream(size_t i, size_t count) { return name_of("stream", i, count); }

// Status words as decoding leaves them, one for every stream.
inline void check_decoded_status(const char* op, const int32_t* status, size_t count) {
  for (size_t i = 0; i < count; ++i) check_status(op, core::Status(status[i]), (name_stream(i, count) + "the payload is damaged").c_str());
}

}  // namespace ans::ops
