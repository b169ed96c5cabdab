// Quantizing rows: launch geometry around core/quantize_arithmetic.h.
#include "core/quantize_arithmetic.h"
#include "cuda/launch.h"

namespace ans::cuda {
namespace {

using core::BFloat16;

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int64_t kMaxBlocks = 1 << 20;
static_assert(core::kRowLanes == kWarp, "a warp is the 32 lanes of a row");

// Fewest blocks that cover `work` items of `per_block`; kernels stride over the grid, so a cap does no harm.
unsigned grid_size(int64_t work, int64_t per_block) {
  const int64_t blocks = (work - 1) / per_block + 1;
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

template <class Function>
cudaError_t with_float_type(FloatType type, const Function& function) {
  switch (type) {
    case FloatType::kFloat32:
      return function(float{});
    case FloatType::kBFloat16:
      return function(BFloat16{});
    case FloatType::kFloat16:
      return function(Float16{});
  }
  return cudaErrorInvalidValue;
}

// ---- statistics: one warp per row ----

template <class Weight>
__global__ void row_scale_kernel(const Weight* weight, int64_t rows, int64_t columns, int bits, double clip_sigmas,
                                 float* scales, uint32_t* status) {
  const int lane = threadIdx.x % kWarp;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp; row < rows; row += warps) {
    const Weight* elements = weight + row * columns;
    core::RowStatistics own{};
#pragma unroll 4
    for (int64_t j = lane; j < columns; j += kWarp) {
      core::accumulate(own.sum, own.sum_sq, own.max_abs_bits, core::to_float(elements[j]));
    }
    for (int off = kWarp / 2; off > 0; off /= 2) {
      core::RowStatistics other;
      other.sum = __shfl_down_sync(0xffffffffu, own.sum, off);
      other.sum_sq = __shfl_down_sync(0xffffffffu, own.sum_sq, off);
      other.max_abs_bits = __shfl_down_sync(0xffffffffu, own.max_abs_bits, off);
      own = core::fold(own, other);  // lanes >= off fold what nobody reads
    }
    if (lane == 0) {
      if (!core::is_finite_row(own)) atomicOr(status, kStatusNotFinite);
      scales[row] = core::row_scale(own, columns, bits, clip_sigmas);
    }
  }
}

// ---- scales to fp16: the extremes of all rows first, then each row ----

// Bit patterns of positive floats order like the floats. Both words are maxima that start at 0, so one memset prepares them.
struct ScaleExtremes {
  uint32_t largest;             // bits of the largest scale
  uint32_t smallest_inverted;  // ~bits of the smallest nonzero scale; 0 where there is none
};
static_assert(sizeof(ScaleExtremes) == kPackScaleScratchBytes, "launch.h names the size");

__global__ void scale_extremes_kernel(const float* row_scale, int64_t rows, ScaleExtremes* extremes, uint32_t* status) {
  uint32_t largest = 0;
  uint32_t smallest_inverted = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; row < rows; row += stride) {
    const float scale = row_scale[row];
    const uint32_t bits = core::float_bits(scale);
    if (!(scale >= 0.0f) || bits == 0x7f800000u) {
      atomicOr(status, kStatusBadScale);
    } else if (scale > 0.0f) {
      largest = max(largest, bits);
      smallest_inverted = max(smallest_inverted, ~bits);
    }
  }
  largest = __reduce_max_sync(0xffffffffu, largest);
  smallest_inverted = __reduce_max_sync(0xffffffffu, smallest_inverted);
  if (threadIdx.x % kWarp == 0) {
    atomicMax(&extremes->largest, largest);
    atomicMax(&extremes->smallest_inverted, smallest_inverted);
  }
}

__global__ void pack_scale_kernel(const float* row_scale, int64_t rows, const ScaleExtremes* extremes, Float16* scale,
                                  int32_t* exponent) {
  const int32_t shared_exponent = core::scale_exponent(core::float_from_bits(~extremes->smallest_inverted),
                                                       core::float_from_bits(extremes->largest));
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t row = first; row < rows; row += stride) scale[row] = core::pack_scale(row_scale[row], shared_exponent);
  if (first == 0) *exponent = shared_exponent;
}

// ---- elementwise over a matrix with one scale per row ----

// Calls function(i, true scale of its row) for every element i = row * columns + column. A block covers a tile of whole or
// partial rows, as wide as the matrix allows, so that neighbouring threads touch neighbouring elements; the division and the
// fp64 arithmetic of the scale happen once per tile.
constexpr int kTileSteps = 8;

template <class Function>
__device__ void for_each_scaled(int64_t rows, int64_t columns, const Float16* scale, const int32_t* exponent,
                                const Function& function) {
  const int32_t shared_exponent = *exponent;
  const int64_t tile_columns = static_cast<int64_t>(blockDim.x) * kTileSteps;
  const int64_t tiles_across = (columns - 1) / tile_columns + 1;
  const int64_t tiles = ((rows - 1) / blockDim.y + 1) * tiles_across;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t row = tile / tiles_across * blockDim.y + threadIdx.y;
    if (row >= rows) continue;
    const float row_scale = core::unpack_scale(scale[row], shared_exponent);
    const int64_t begin = tile % tiles_across * tile_columns;
    const int64_t end = begin + tile_columns < columns ? begin + tile_columns : columns;
    for (int64_t column = begin + threadIdx.x; column < end; column += blockDim.x) function(row * columns + column, row_scale);
  }
}

struct TileShape {
  dim3 block;
  unsigned blocks;
};

TileShape tile_shape(int64_t rows, int64_t columns) {
  unsigned width = 1;
  while (width < kThreads && static_cast<int64_t>(width) * kTileSteps < columns) width *= 2;
  const unsigned height = kThreads / width;
  const int64_t tiles_across = (columns - 1) / (static_cast<int64_t>(width) * kTileSteps) + 1;
  const int64_t tiles = ((rows - 1) / height + 1) * tiles_across;
  return {dim3(width, height), grid_size(tiles, 1)};
}

template <class Weight>
__global__ void quantize_rows_kernel(const Weight* weight, int64_t rows, int64_t columns, const Float16* scale,
                                     const int32_t* exponent, int limit, int8_t* symbols, uint32_t* status) {
  for_each_scaled(rows, columns, scale, exponent, [&](int64_t i, float row_scale) {
    const float element = core::to_float(weight[i]);
    if ((core::float_bits(element) & 0x7fffffffu) >= 0x7f800000u) atomicOr(status, kStatusNotFinite);
    symbols[i] = static_cast<int8_t>(core::quantize_symbol(element, row_scale, limit));
  });
}

template <class Symbol, class Weight>
__global__ void dequantize_kernel(const Symbol* symbols, int64_t rows, int64_t columns, const Float16* scale,
                                  const int32_t* exponent, Weight* weight) {
  for_each_scaled(rows, columns, scale, exponent, [&](int64_t i, float row_scale) {
    weight[i] = core::from_float<Weight>(core::dequantize_symbol(symbols[i], row_scale));
  });
}

template <class Symbol>
cudaError_t launch_dequantize(const void* symbols, int64_t rows, int64_t columns, const Float16* scale,
                              const int32_t* exponent, void* weight, FloatType type, cudaStream_t stream) {
  const TileShape shape = tile_shape(rows, columns);
  return with_float_type(type, [&](auto sample) {
    dequantize_kernel<<<shape.blocks, shape.block, 0, stream>>>(static_cast<const Symbol*>(symbols), rows, columns, scale,
                                                                exponent, static_cast<decltype(sample)*>(weight));
    return cudaGetLastError();
  });
}

}  // namespace

cudaError_t row_scale(const void* weight, FloatType type, int64_t rows, int64_t columns, int bits, double clip_sigmas,
                      float* row_scale, uint32_t* status, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return with_float_type(type, [&](auto sample) {
    row_scale_kernel<<<grid_size(rows, kThreads / kWarp), kThreads, 0, stream>>>(
        static_cast<const decltype(sample)*>(weight), rows, columns, bits, clip_sigmas, row_scale, status);
    return cudaGetLastError();
  });
}

cudaError_t pack_scale(const float* row_scale, int64_t rows, void* scratch, Float16* scale, int32_t* exponent,
                       uint32_t* status, cudaStream_t stream) {
  auto* extremes = static_cast<ScaleExtremes*>(scratch);
  const cudaError_t cleared = cudaMemsetAsync(extremes, 0, sizeof *extremes, stream);
  if (cleared != cudaSuccess) return cleared;
  const unsigned blocks = grid_size(rows > 0 ? rows : 1, kThreads);  // no rows still have an exponent
  scale_extremes_kernel<<<blocks, kThreads, 0, stream>>>(row_scale, rows, extremes, status);
  pack_scale_kernel<<<blocks, kThreads, 0, stream>>>(row_scale, rows, extremes, scale, exponent);
  return cudaGetLastError();
}

cudaError_t quantize_rows(const void* weight, FloatType type, int64_t rows, int64_t columns, const Float16* scale,
                          const int32_t* exponent, int bits, int8_t* symbols, uint32_t* status, cudaStream_t stream) {
  if (rows == 0 || columns == 0) return cudaSuccess;
  const TileShape shape = tile_shape(rows, columns);
  return with_float_type(type, [&](auto sample) {
    quantize_rows_kernel<<<shape.blocks, shape.block, 0, stream>>>(
        static_cast<const decltype(sample)*>(weight), rows, columns, scale, exponent,
        core::symbol_limit(bits), symbols, status);
    return cudaGetLastError();
  });
}

cudaError_t dequantize(const void* symbols, SymbolType symbol_type, int64_t rows, int64_t columns, const Float16* scale,
                       const int32_t* exponent, void* weight, FloatType type, cudaStream_t stream) {
  if (rows == 0 || columns == 0) return cudaSuccess;
  switch (symbol_type) {
    case SymbolType::kI8:
      return launch_dequantize<int8_t>(symbols, rows, columns, scale, exponent, weight, type, stream);
    case SymbolType::kU8:
      return launch_dequantize<uint8_t>(symbols, rows, columns, scale, exponent, weight, type, stream);
    case SymbolType::kI16:
      return launch_dequantize<int16_t>(symbols, rows, columns, scale, exponent, weight, type, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace ans::cuda
