// Chunk directories (BITSTREAM.md, section 5).
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "core/status.h"
#include "format/bitstream.h"

namespace ans::core {

struct ChunkEntry {
  int32_t words;  // size in 16-bit words
  int32_t tail;   // symbols at its end that the single coder holds
};

inline int64_t chunk_count(int64_t numel, int64_t chunk_symbols) { return numel / chunk_symbols + (numel % chunk_symbols != 0); }
inline int64_t symbols_in_chunk(int64_t numel, int64_t chunk_symbols, int64_t chunk) {
  const int64_t rest = numel - chunk * chunk_symbols;
  return rest < chunk_symbols ? rest : chunk_symbols;
}

// What section 5 demands of one entry.
Status check_chunk(const ChunkEntry& entry, int64_t symbols);

// The last chunk's words are not written: they follow from the stream's size.
std::vector<uint8_t> write_directory(const ChunkEntry* entries, int64_t chunks);

// Parses the directory at the front of `data`, which ends with the stream, and checks every entry (one or more); `*consumed` is the directory's size in bytes.
// Allocates no more than the bits at hand can announce.
Status read_directory(const uint8_t* data, int64_t size, int64_t numel, int64_t chunk_symbols, std::vector<ChunkEntry>* entries, int64_t* consumed);
// The same for so many chunks of symbols_in(chunk) symbols each.
Status read_directory(const uint8_t* data, int64_t size, int64_t chunks, const std::function<int64_t(int64_t)>& symbols_in, std::vector<ChunkEntry>* entries, int64_t* consumed);

}  // namespace ans::core
