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

}  // namespace

cudaError_t decode_matrices(const MatrixLaunch& d, const int64_t* level_begin, int64_t levels, cudaStream_t stream) {
  for (int64_t l = 0; l < levels; ++l) {
    const int64_t first = level_begin[l], end = level_begin[l + 1], warps = end - first < d.warps ? end - first : d.warps;
    if (const cudaError_t e = launch(DecodeMatrices{d, first, end, warps}, warps, stream); e != cudaSuccess) return e;
  }
  return cudaSuccess;
}

}  // namespace ans::cuda
