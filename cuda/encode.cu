// Encoding: what symbols cost and how much room chunks need (a warp for a chunk), where the lanes start and tails (a thread), rows (a warp), and the chunks side by side (a
// block). Between these, prefix sums by CUB say where a chunk lies.
#include "cuda/device.cuh"  // first: core/ is compiled for what it names

#include <cub/device/device_scan.cuh>

#include "core/warp_encoder.h"
#include "cuda/launch.h"
#include "cuda/report.cuh"

namespace ans::cuda {
namespace {

using core::EncodeJob;
using core::EncodeTable;
using core::WarpBlock;
namespace warp = core::ANS_TARGET;

constexpr int kWarps = kEncodeWarps;

// Tables of a block, made by all its threads.
struct SharedCosts {
  uint32_t entry[warp::kPlaces];
  ANS_INLINE void load(const EncodeTable& table, int threads) {
    for (int u = Block::thread(); u < warp::kPlaces; u += threads) entry[u] = warp::entry_at(table, uint32_t(u));
  }
};
struct SharedSteps {
  alignas(8) uint32_t steps[2 * warp::kPlaces];
  uint16_t slot_of[format::kSlots];
  ANS_INLINE void load(const EncodeTable& table, int threads) {
    for (int u = Block::thread(); u < warp::kPlaces; u += threads) {
      const uint32_t index = warp::entry_at(table, uint32_t(u)) & 0xFF;
      steps[2 * u] = table.packed[index];
      steps[2 * u + 1] = table.reciprocal[index];
    }
    for (int i = Block::thread(); i < format::kSlots; i += threads) slot_of[i] = table.slot_of[i];
  }
};

// In a block of plan_blocks(): fills the shared tables, and then calls work(number, table) in every warp that has a chunk.
template <class Shared, class Work>
ANS_INLINE void for_own_chunk(const EncodeLaunch& d, Shared& shared, int threads, const Work& work) {
  const WarpBlock block = d.blocks[Block::number()];
  const EncodeTable& table = d.tables[block.table];
  shared.load(table, threads);
  Block::sync();
  const int w = Block::warp();
  if (w < block.jobs) work(int64_t{block.first_job} + w, table);
}

struct EncodeCosts {
  static constexpr int kThreads = 32 * kWarps, kBlocks = 8;
  using Shared = SharedCosts;
  EncodeLaunch d;

  ANS_INLINE void operator()(Shared& shared) const {
    for_own_chunk(d, shared, kThreads, [&](int64_t number, const EncodeTable& table) { work(shared, number, table); });
  }
  ANS_INLINE void work(const Shared& shared, int64_t number, const EncodeTable& table) const {
    const EncodeJob job = d.jobs[number];
    const warp::WarpCostTable in{shared.entry, table.first_value, table.raw_min, table.raw_bits};
    uint16_t* const cost = d.costs + 32 * number;
    const warp::ChunkCosts found = table.symbol_bytes == 1 ? warp::sum_costs<Warp>(in, static_cast<const uint8_t*>(job.symbols), job.count, cost)
                                                           : warp::sum_costs<Warp>(in, static_cast<const uint16_t*>(job.symbols), job.count, cost);
    if (Warp::lane() != 0) return;
    d.escapes[number] = found.escapes;
    d.room[number] = warp::chunk_room_words(found.bits, job.count, found.escapes, table.raw_bits);
    if (found.invalid) report(d.status, job.stream, core::Status::kSymbolNotInTable);
  }
};

struct EncodeSeeds {
  static constexpr int kThreads = 32, kBlocks = 12;  // few: every step waits for the one before it, and so many multiprocessors share the work
  struct Shared {};
  EncodeLaunch d;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t number = Block::number() * kThreads + Block::thread();
    if (number >= d.job_count) return;
    const EncodeJob job = d.jobs[number];
    if (d.status[job.stream] != 0) return;
    const EncodeTable& table = d.tables[job.table];
    uint16_t* const begin = d.scratch + d.room_begin[number];
    if (job.count <= format::kMaxTail) {
      uint8_t* const end = reinterpret_cast<uint8_t*>(d.scratch + d.room_begin[number + 1]);
      const int words = warp::encode_narrow(table, job.symbols, job.count, end);
      d.entries[2 * number] = words;
      d.entries[2 * number + 1] = int32_t(job.count);
      d.words[number] = words;
      return;
    }
    const core::Seeds seeds = warp::choose_seeds_of(table, job.symbols, job.count, d.costs + 32 * number, {d.mantissa_logs}, begin);
    d.entries[2 * number + 1] = seeds.tail;
    d.escapes[number] -= seeds.tail_escapes;
    for (int i = 0; i < format::kLanes; ++i) d.states[32 * number + i] = seeds.states[i];
  }
};

struct EncodeRows {
  static constexpr int kThreads = 32 * kWarps, kBlocks = 8;
  using Shared = SharedSteps;
  EncodeLaunch d;

  ANS_INLINE void operator()(Shared& shared) const {
    for_own_chunk(d, shared, kThreads, [&](int64_t number, const EncodeTable& table) { work(shared, number, table); });
  }
  ANS_INLINE void work(const Shared& shared, int64_t number, const EncodeTable& table) const {
    const EncodeJob job = d.jobs[number];
    if (job.count <= format::kMaxTail || d.status[job.stream] != 0) return;
    const uint32_t escape = table.escape_index >= 0 ? table.packed[table.escape_index] : 0;
    const warp::WarpEncodeTable in{shared.steps, shared.slot_of, escape, table.first_value, table.raw_min, table.raw_bits};
    const int count = int(job.count) - d.entries[2 * number + 1];
    uint8_t* const begin = reinterpret_cast<uint8_t*>(d.scratch + d.room_begin[number]);
    uint8_t* const end = reinterpret_cast<uint8_t*>(d.scratch + d.room_begin[number + 1]);
    const uint32_t* const start = d.states + 32 * number;
    const int words = table.symbol_bytes == 1 ? warp::encode_chunk_rows<Warp>(in, static_cast<const uint8_t*>(job.symbols), count, d.escapes[number], start, begin, end)
                                              : warp::encode_chunk_rows<Warp>(in, static_cast<const uint16_t*>(job.symbols), count, d.escapes[number], start, begin, end);
    if (Warp::lane() != 0) return;
    if (words == 0) report(d.status, job.stream, core::Status::kSymbolsChanged);
    d.entries[2 * number] = words;
    d.words[number] = words;
  }
};

struct PlaceChunks {
  static constexpr int kThreads = 256, kBlocks = 4;
  struct Shared {};
  EncodeLaunch d;
  const core::EncodedPlace* places;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t number = Block::number();
    const core::EncodedPlace place = places[d.jobs[number].stream];
    const int64_t words = d.words_begin[number + 1] - d.words_begin[number];
    uint8_t* const to = place.to + 2 * (d.words_begin[number] - d.words_begin[place.first_job]);
    core::copy_part({d.scratch + d.room_begin[number + 1] - words, to, 2 * words}, Block::thread(), kThreads);
  }
};

struct CopyAll {
  static constexpr int kThreads = 256, kBlocks = 4;
  struct Shared {};
  const core::CopyJob* jobs;

  ANS_INLINE void operator()(Shared&) const { core::copy_part(jobs[Block::number()], Block::thread(), kThreads); }
};

}  // namespace

cudaError_t prefix_sums(void* scratch, size_t* scratch_bytes, const int64_t* values, int64_t* sums, int64_t count, cudaStream_t stream) {
  return cub::DeviceScan::ExclusiveSum(scratch, *scratch_bytes, values, sums, count, stream);
}

cudaError_t encode_costs(const EncodeLaunch& d, cudaStream_t stream) { return launch(EncodeCosts{d}, d.block_count, stream); }

cudaError_t encode_chunks(const EncodeLaunch& d, cudaStream_t stream) {
  if (const cudaError_t e = launch(EncodeSeeds{d}, blocks_for(d.job_count, EncodeSeeds::kThreads), stream); e != cudaSuccess) return e;
  return launch(EncodeRows{d}, d.block_count, stream);
}

cudaError_t place_chunks(const EncodeLaunch& d, const core::EncodedPlace* places, cudaStream_t stream) { return launch(PlaceChunks{d, places}, d.job_count, stream); }

cudaError_t copy_all(const core::CopyJob* jobs, int64_t count, cudaStream_t stream) { return launch(CopyAll{jobs}, count, stream); }

}  // namespace ans::cuda
