// Quantizing the rows of any number of matrices: statistics (a warp for a row), scales to fp16 (a thread for a row), elements (a warp for a tile). The arithmetic is
// core/quantize_arithmetic.h's.
#include "cuda/device.cuh"  // first: core/ is compiled for what it names

#include "core/quantize_arithmetic.h"
#include "core/warp_rows.h"
#include "cuda/launch.h"
#include "cuda/report.cuh"

namespace ans::cuda {
namespace {

using core::BFloat16;
namespace warp = core::ANS_TARGET;

constexpr int kBlockThreads = 256, kWarps = kBlockThreads / 32;

struct RowScales {
  static constexpr int kThreads = kBlockThreads, kBlocks = 4;
  struct Shared {};
  const RowScaleJob* jobs;
  int count;
  int64_t rows;
  int bits;
  double clip_sigmas;
  uint32_t* status;

  template <class T>
  ANS_INLINE static core::RowStatistics statistics(const RowScaleJob& job, int64_t row) {
    return warp::row_statistics<Warp>(static_cast<const T*>(job.weight) + row * job.columns, job.columns);
  }
  ANS_INLINE void operator()(Shared&) const {
    const int64_t number = Block::number() * kWarps + Block::warp();
    if (number >= rows) return;
    const int at = core::find_job(jobs, count, number);
    const RowScaleJob job = jobs[at];
    const int64_t row = number - job.first;
    const core::RowStatistics found = job.type == FloatType::kFloat32    ? statistics<float>(job, row)
                                      : job.type == FloatType::kBFloat16 ? statistics<BFloat16>(job, row)
                                                                         : statistics<Float16>(job, row);
    if (Warp::lane() != 0) return;
    if (!core::is_finite_row(found)) report(status, at, core::Status::kNotFinite);
    job.row_scale[row] = core::row_scale(found, job.columns, bits, clip_sigmas);
  }
};

// Bit patterns of positive floats order like the floats. Both words are maxima that start at 0, so one memset prepares them.
struct ScaleExtremes {
  uint32_t largest;            // bits of the largest scale
  uint32_t smallest_inverted;  // ~bits of the smallest nonzero scale; 0 where there is none
};
static_assert(sizeof(ScaleExtremes) == kPackScaleScratchBytes, "launch.h names the size");

struct FindExtremes {
  static constexpr int kThreads = kBlockThreads, kBlocks = 4;
  struct Shared {};
  const PackScaleJob* jobs;
  int count;
  int64_t rows;
  ScaleExtremes* extremes;
  uint32_t* status;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t number = Block::number() * kThreads + Block::thread();
    const bool mine = number < rows;  // lanes without a row see the last one again
    const int64_t row = mine ? number : rows - 1;
    const int at = core::find_job(jobs, count, row);
    const float scale = jobs[at].row_scale[row - jobs[at].first];
    const uint32_t bits = core::float_bits(scale);
    const bool bad = !(scale >= 0.0f) || bits == 0x7f800000u;
    if (bad) report(status, at, core::Status::kNotFinite);
    uint32_t largest = bad || scale == 0.0f ? 0 : bits, smallest_inverted = bad || scale == 0.0f ? 0 : ~bits;
    // Nearly all warps are inside one matrix: one lane speaks for all.
    const bool one_matrix = Warp::ballot(uint32_t(at) == Warp::shuffle(uint32_t(at), 0)) == ~0u;
    if (one_matrix) {
      largest = warp::max_of_lanes<Warp>(largest);
      smallest_inverted = warp::max_of_lanes<Warp>(smallest_inverted);
      if (Warp::lane() != 0) return;
    }
    atomic_max(&extremes[at].largest, largest);
    atomic_max(&extremes[at].smallest_inverted, smallest_inverted);
  }
};

ANS_INLINE int32_t exponent_of(const ScaleExtremes& e) { return core::scale_exponent(core::float_from_bits(~e.smallest_inverted), core::float_from_bits(e.largest)); }

struct PackScales {
  static constexpr int kThreads = kBlockThreads, kBlocks = 4;
  struct Shared {};
  const PackScaleJob* jobs;
  int count;
  int64_t rows;
  const ScaleExtremes* extremes;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t number = Block::number() * kThreads + Block::thread();
    if (number < count) *jobs[number].exponent = exponent_of(extremes[number]);  // also of matrices without rows
    if (number >= rows) return;
    const int at = core::find_job(jobs, count, number);
    const PackScaleJob job = jobs[at];
    job.scale[number - job.first] = core::pack_scale(job.row_scale[number - job.first], exponent_of(extremes[at]));
  }
};

struct QuantizeRows {
  static constexpr int kThreads = kBlockThreads, kBlocks = 4;
  struct Shared {};
  const QuantizeJob* jobs;
  int count;
  int64_t tiles;
  int32_t limit;
  uint32_t* status;

  template <class T>
  ANS_INLINE uint32_t tile(const QuantizeJob& job, int64_t number) const {
    uint32_t max_abs_bits = 0;
    warp::convert_tile<Warp>(number - job.first, static_cast<const T*>(job.weight), job.symbols, job.numel, job.columns, job.scale, *job.exponent, [&](T weight, float row_scale) {
      const float x = core::to_float(weight);
      const uint32_t abs_bits = core::float_bits(x) & 0x7fffffffu;
      max_abs_bits = max_abs_bits > abs_bits ? max_abs_bits : abs_bits;
      return int8_t(core::quantize_symbol(x, row_scale, limit));
    });
    return max_abs_bits;
  }
  ANS_INLINE void operator()(Shared&) const {
    const int64_t number = Block::number() * kWarps + Block::warp();
    if (number >= tiles) return;
    const int at = core::find_job(jobs, count, number);
    const QuantizeJob job = jobs[at];
    const uint32_t max_abs_bits = job.type == FloatType::kFloat32    ? tile<float>(job, number)
                                  : job.type == FloatType::kBFloat16 ? tile<BFloat16>(job, number)
                                                                     : tile<Float16>(job, number);
    if (max_abs_bits >= 0x7f800000u) report(status, at, core::Status::kNotFinite);
  }
};

template <class Symbol, class T>
struct Dequantize {
  static constexpr int kThreads = kBlockThreads, kBlocks = 4;
  struct Shared {};
  const Symbol* symbols;
  const Float16* scale;
  const int32_t* exponent;
  T* weight;
  int64_t numel, columns;
  const float* column_factor;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t number = Block::number() * kWarps + Block::warp();
    if (number * warp::kTile >= numel) return;
    if (column_factor != nullptr) {
      warp::for_each_scaled<Warp, 1>(number, numel, columns, scale, *exponent, [&](int64_t i, float row_scale) {
        weight[i] = core::from_float<T>(core::multiply(core::dequantize_symbol(symbols[i], row_scale), column_factor[i % columns]));
      });
      return;
    }
    warp::convert_tile<Warp>(number, symbols, weight, numel, columns, scale, *exponent,
                             [](Symbol symbol, float row_scale) { return core::from_float<T>(core::dequantize_symbol(symbol, row_scale)); });
  }
};

template <class Symbol, class T>
cudaError_t launch_dequantize(const void* symbols, int64_t rows, int64_t columns, const Float16* scale, const int32_t* exponent, void* weight, const float* column_factor, cudaStream_t stream) {
  const Dequantize<Symbol, T> kernel{static_cast<const Symbol*>(symbols), scale, exponent, static_cast<T*>(weight), rows * columns, columns, column_factor};
  return launch(kernel, blocks_for(rows * columns, warp::kTile * kWarps), stream);
}

template <class Symbol>
cudaError_t launch_dequantize(const void* symbols, int64_t rows, int64_t columns, const Float16* scale, const int32_t* exponent, void* weight, FloatType type, const float* column_factor, cudaStream_t stream) {
  switch (type) {
    case FloatType::kFloat32: return launch_dequantize<Symbol, float>(symbols, rows, columns, scale, exponent, weight, column_factor, stream);
    case FloatType::kBFloat16: return launch_dequantize<Symbol, BFloat16>(symbols, rows, columns, scale, exponent, weight, column_factor, stream);
    case FloatType::kFloat16: return launch_dequantize<Symbol, Float16>(symbols, rows, columns, scale, exponent, weight, column_factor, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int64_t quantize_tiles(int64_t numel) { return blocks_for(numel, warp::kTile); }

cudaError_t row_scales(const RowScaleJob* jobs, int count, int64_t rows, int bits, double clip_sigmas, uint32_t* status, cudaStream_t stream) {
  return launch(RowScales{jobs, count, rows, bits, clip_sigmas, status}, blocks_for(rows, kWarps), stream);
}

cudaError_t pack_scales(const PackScaleJob* jobs, int count, int64_t rows, void* scratch, uint32_t* status, cudaStream_t stream) {
  auto* extremes = static_cast<ScaleExtremes*>(scratch);
  if (const cudaError_t e = cudaMemsetAsync(extremes, 0, size_t(count) * sizeof *extremes, stream); e != cudaSuccess) return e;
  if (const cudaError_t e = launch(FindExtremes{jobs, count, rows, extremes, status}, blocks_for(rows, kBlockThreads), stream); e != cudaSuccess) return e;
  return launch(PackScales{jobs, count, rows, extremes}, blocks_for(rows > count ? rows : count, kBlockThreads), stream);
}

cudaError_t quantize_rows(const QuantizeJob* jobs, int count, int64_t tiles, int bits, uint32_t* status, cudaStream_t stream) {
  return launch(QuantizeRows{jobs, count, tiles, core::symbol_limit(bits), status}, blocks_for(tiles, kWarps), stream);
}

cudaError_t dequantize(const void* symbols, SymbolType symbol_type, int64_t rows, int64_t columns, const Float16* scale, const int32_t* exponent, void* weight, FloatType type,
                       const float* column_factor, cudaStream_t stream) {
  switch (symbol_type) {
    case SymbolType::kI8: return launch_dequantize<int8_t>(symbols, rows, columns, scale, exponent, weight, type, column_factor, stream);
    case SymbolType::kU8: return launch_dequantize<uint8_t>(symbols, rows, columns, scale, exponent, weight, type, column_factor, stream);
    case SymbolType::kI16: return launch_dequantize<int16_t>(symbols, rows, columns, scale, exponent, weight, type, column_factor, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace ans::cuda
