// Which threads do what: plain data for the kernels, made on the host, and how a thread finds its part.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/coder_tables.h"
#include "core/float_formats.h"
#include "core/host_device.h"

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

// A chunk to encode.
struct EncodeJob {
  const void* symbols;
  int64_t count;
  int32_t table, stream;
};

// Where the chunks of a stream go: the first of them is `first_job`.
struct EncodedPlace {
  uint8_t* to;
  int64_t first_job;
};

// Bytes to copy.
struct CopyJob {
  const void* from;
  void* to;
  int64_t bytes;
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

// Which of `count` jobs has item `number`, where job j has items jobs[j].first up to the next job's (jobs may have none).
template <class Job>
ANS_HD int find_job(const Job* jobs, int count, int64_t number) {
  int low = 0, high = count;  // jobs[low].first <= number < jobs[high].first
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (jobs[middle].first <= number) low = middle;
    else high = middle;
  }
  return low;
}

// Thread `thread` of `threads` copies its part. Anything may be misaligned; 4 bytes at a time are written, to neighbouring threads' neighbouring addresses.
ANS_HD void copy_part(const CopyJob& job, int thread, int threads) {
  const uint8_t* const from = static_cast<const uint8_t*>(job.from);
  uint8_t* const to = static_cast<uint8_t*>(job.to);
  const int64_t to_aligned = int64_t(-reinterpret_cast<uintptr_t>(to) & 3), head = to_aligned < job.bytes ? to_aligned : job.bytes;
  const int64_t pieces = (job.bytes - head) / 4, tail = head + 4 * pieces;
  const uint8_t* const begin = from + head;
  const unsigned shift = unsigned(reinterpret_cast<uintptr_t>(begin) & 3);
  uint32_t* const out = reinterpret_cast<uint32_t*>(to + head);
  if (shift == 0) {
    for (int64_t i = thread; i < pieces; i += threads) out[i] = reinterpret_cast<const uint32_t*>(begin)[i];
  } else {
    // From two aligned pieces of 4 bytes, except at the ends, where these would reach beyond the bytes.
    for (int64_t i = thread; i < pieces; i += threads) {
      const uint8_t* const p = begin + 4 * i;
      if (i > 0 && i + 1 < pieces) {
        const uint32_t* const aligned = reinterpret_cast<const uint32_t*>(p - shift);
        out[i] = aligned[0] >> 8 * shift | aligned[1] << (32 - 8 * shift);
      } else {
        out[i] = uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
      }
    }
  }
  for (int64_t i = thread; i < head; i += threads) to[i] = from[i];
  for (int64_t i = tail + thread; i < job.bytes; i += threads) to[i] = from[i];
}

}  // namespace ans::core
