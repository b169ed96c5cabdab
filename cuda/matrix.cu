// Matrix streams: a warp for a chunk.
#include "cuda/device.cuh"
#include "cuda/launch.h"
#include "cuda/report.cuh"

#include "core/matrix/warp_matrix.h"

namespace ans::cuda {
namespace {

namespace warp = core::ANS_TARGET;

static_assert(kMatrixScratchBytes == size_t(warp::kMatrixScratchBytes), "launch.h says how much");

struct DecodeMatrices {
  static constexpr int kThreads = 32, kBlocks = 8;
  struct Shared {
    uint32_t ring[warp::WarpWords<Warp>::kRingWords / 2];
  };
  MatrixLaunch d;
  int64_t first, end, warps;

  ANS_INLINE void operator()(Shared& shared) const {
    const warp::MatrixScratch scratch = warp::matrix_scratch(d.scratch + Block::number() * d.scratch_bytes);
    for (int64_t i = first + Block::number(); i < end; i += warps) {
      const core::MatrixJob job = d.jobs[i];
      const core::WarpMatrix matrix = d.matrices[job.matrix];
      const core::MatrixRows rows = d.rows[job.rows];
      const core::Status s = warp::decode_matrix_chunk<Warp>(matrix, rows, job, scratch, reinterpret_cast<uint16_t*>(shared.ring));
      if (Warp::lane() == 0) report(d.status, job.matrix, s);
      Warp::sync();  // the next chunk takes the same memory
    }
  }
};

struct FindMatrixSymbols {
  static constexpr int kThreads = 32, kBlocks = 8;
  struct Shared {};
  MatrixEncodeLaunch d;

  ANS_INLINE void operator()(Shared&) const {
    const warp::MatrixScratch scratch = warp::matrix_scratch(d.scratch + Block::number() * d.scratch_bytes);
    const core::WarpMatrix matrix = d.matrix;
    const warp::WarpPlaces places{d.entries_of, matrix.raw_min, matrix.raw_bits};
    for (int64_t i = Block::number(); i < d.job_count; i += d.warps) {
      const core::MatrixEncodeJob job = d.jobs[i];
      const core::MatrixRows rows = d.rows[job.rows];
      const int64_t escapes = warp::find_chunk_symbols<Warp>(matrix, rows, job, places, scratch, d.symbols + 32 * job.first_row, d.costs + 32 * i, d.raw + job.first_symbol);
      if (Warp::lane() != 0) continue;
      d.escapes[i] = escapes;
      if (escapes < 0) report(d.status, 0, core::Status(int(-escapes)));
    }
  }
};

// Of chunk i, what those take who code its symbols.
ANS_INLINE core::PlacedSymbols symbols_of(const MatrixEncodeLaunch& d, int64_t i, const core::MatrixEncodeJob& job) {
  return {d.tables, d.symbols + 32 * job.first_row, d.raw + job.first_symbol + d.escapes[i], {job.lines, d.rows[job.rows].columns}};
}
ANS_INLINE uint16_t* room_end(const MatrixEncodeLaunch& d, int64_t i, const core::MatrixEncodeJob& job, const core::PlacedSymbols& symbols) {
  return d.words + core::matrix_room_end(i, job.first_symbol + symbols.shape.symbols());
}

struct EncodeMatrixSeeds {
  static constexpr int kThreads = 32, kBlocks = 12;  // few: every step waits for the one before it
  struct Shared {};
  MatrixEncodeLaunch d;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t i = Block::number() * kThreads + Block::thread();
    if (i >= d.job_count || d.status[0] != 0) return;
    const core::MatrixEncodeJob job = d.jobs[i];
    const core::PlacedSymbols symbols = symbols_of(d, i, job);
    const int64_t n = symbols.shape.symbols();
    uint16_t* const end = room_end(d, i, job, symbols);
    int32_t* const entry = d.entries + 2 * i;
    if (n <= format::kMaxTail) {
      entry[0] = core::encode_narrow_chunk(symbols, end);
      entry[1] = int32_t(n);
      return;
    }
    const core::Seeds seeds = core::choose_matrix_seeds(symbols, d.costs + 32 * i, {d.mantissa_logs}, end - core::kSeedTailWords);
    entry[1] = seeds.tail;
    d.escapes[i] -= seeds.tail_escapes;
    for (int lane = 0; lane < format::kLanes; ++lane) d.states[32 * i + lane] = seeds.states[lane];
  }
};

struct EncodeMatrixRows {
  static constexpr int kThreads = 32, kBlocks = 16;
  struct Shared {};
  MatrixEncodeLaunch d;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t i = Block::number();
    const core::MatrixEncodeJob job = d.jobs[i];
    const core::PlacedSymbols symbols = symbols_of(d, i, job);
    const int64_t n = symbols.shape.symbols();
    if (n <= format::kMaxTail || d.status[0] != 0) return;  // the status is the same for all lanes: kernels before this one wrote it
    const int words = warp::encode_chunk_symbols<Warp>(symbols, n - d.entries[2 * i + 1], d.raw + job.first_symbol, d.escapes[i], d.matrix.raw_bits, d.states + 32 * i,
                                                       reinterpret_cast<uint8_t*>(room_end(d, i, job, symbols)));
    if (Warp::lane() == 0) d.entries[2 * i] = words;
  }
};

}  // namespace

cudaError_t encode_matrix(const MatrixEncodeLaunch& d, cudaStream_t stream) {
  if (const cudaError_t e = launch(FindMatrixSymbols{d}, d.warps, stream); e != cudaSuccess) return e;
  if (const cudaError_t e = launch(EncodeMatrixSeeds{d}, blocks_for(d.job_count, EncodeMatrixSeeds::kThreads), stream); e != cudaSuccess) return e;
  return launch(EncodeMatrixRows{d}, d.job_count, stream);
}

cudaError_t decode_matrices(const MatrixLaunch& d, const int64_t* level_begin, int64_t levels, cudaStream_t stream) {
  for (int64_t l = 0; l < levels; ++l) {
    const int64_t first = level_begin[l], end = level_begin[l + 1], warps = end - first < d.warps ? end - first : d.warps;
    if (const cudaError_t e = launch(DecodeMatrices{d, first, end, warps}, warps, stream); e != cudaSuccess) return e;
  }
  return cudaSuccess;
}

}  // namespace ans::cuda
