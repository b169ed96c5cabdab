// Which warp decodes which chunk: plain data for the kernels, made on the host.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/coder_tables.h"
#include "core/float_formats.h"

namespace ans::core {

// Tables lie in device memory without their slot form, which every block makes for itself in shared memory.
constexpr size_t kWarpTableBytes = (offsetof(DecodeTable, slots) + alignof(DecodeTable) - 1) / alignof(DecodeTable) * alignof(DecodeTable);
static_assert(kWarpTableBytes <= sizeof(DecodeTable), "so many bytes are copied");

// A chunk whose entry has passed check_chunk(). Pointers are those of the device.
struct WarpJob {
  const uint8_t* begin;
  const uint8_t* end;
  void* out;        // of its first symbol; not for weights
  int64_t symbols;
  int64_t element;  // its first one in the matrix of weights
  int32_t tail;
  int32_t stream;
};

// Where a stream's weights go.
struct WarpWeights {
  const Float16* scale;  // of every row
  const int32_t* exponent;
  int64_t columns;
  void* weight;
};

// Chunks of one table, one for each warp of a block.
struct WarpBlock {
  int32_t table, first_job, jobs;
};

// Blocks for jobs [begin[t], begin[t + 1]) of table t.
inline std::vector<WarpBlock> plan_blocks(const std::vector<int32_t>& begin, int warps) {
  std::vector<WarpBlock> blocks;
  for (size_t t = 0; t + 1 < begin.size(); ++t)
    for (int32_t first = begin[t]; first < begin[t + 1]; first += warps) blocks.push_back({int32_t(t), first, std::min(warps, begin[t + 1] - first)});
  return blocks;
}

}  // namespace ans::core
