// Launchers of the CUDA kernels. No torch here and no device code, so a .cpp may include it.
//
// Conventions: every pointer is a device pointer unless it is said to be a host variable; arrays are contiguous; sizes are
// int64_t; work is queued on `stream` and not waited for; the result is the launch's error. What is empty is legal and
// launches nothing. Most launchers do any number of arrays at once: a job says what to do with one, and where its items (rows, tiles, blocks) begin among those of all, in ascending order (`first`).
// `status` has a 32-bit word for every job, zeroed by the caller: it becomes a core::Status, that of the first error found.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "core/coder_tables.h"
#include "core/float_formats.h"
#include "core/matrix/matrix_jobs.h"
#include "core/status.h"
#include "core/warp_jobs.h"
#include "format/bitstream.h"

namespace ans::cuda {

using core::Float16;
using core::FloatType;
using format::SymbolType;

// ---- cuda/histogram.cu ----

// counts[256] = how often each value occurs in bytes[count]. Signed symbols are counted as the bytes that they are: CUB's histogram of 8-bit samples leaves out negative ones.
// CUB's two phases: with scratch null, sets *scratch_bytes (a host variable) and launches nothing.
cudaError_t byte_histogram(void* scratch, size_t* scratch_bytes, const uint8_t* bytes, int64_t count, int64_t* counts, cudaStream_t stream);

struct HistogramJob {
  const void* symbols;
  const uint8_t* contexts;  // of every symbol; null: all are 0
  int64_t numel;
  int64_t* counts;          // [num_contexts][symbol_values(type)], zeroed by the caller
  int64_t first, blocks;    // histogram_blocks(numel)
  int num_contexts;         // 1 … 256
  int lowest, bins;         // symbol_min(type), symbol_values(type)
  SymbolType type;
};
int64_t histogram_blocks(int64_t numel);
// kInvalidArgument: a context is not below num_contexts.
cudaError_t histograms(const HistogramJob* jobs, int count, int64_t blocks, uint32_t* status, cudaStream_t stream);

// ---- cuda/quantize.cu: core/quantize_arithmetic.h says what is computed ----

// row_scale[rows] from weight[rows][columns]; `first` counts rows; clip_sigmas is positive, or core::kClipAbsmax. kNotFinite: a weight is NaN or infinite.
struct RowScaleJob {
  const void* weight;
  float* row_scale;
  int64_t columns, first;
  FloatType type;
};
cudaError_t row_scales(const RowScaleJob* jobs, int count, int64_t rows, int bits, double clip_sigmas, uint32_t* status, cudaStream_t stream);

// scale[rows] and exponent[1] from row_scale[rows]; `first` counts rows; scratch is kPackScaleScratchBytes for every job. kNotFinite: a row scale is negative, NaN or infinite.
constexpr size_t kPackScaleScratchBytes = 8;
struct PackScaleJob {
  const float* row_scale;
  Float16* scale;
  int32_t* exponent;
  int64_t first;
};
cudaError_t pack_scales(const PackScaleJob* jobs, int count, int64_t rows, void* scratch, uint32_t* status, cudaStream_t stream);

// symbols[numel] from weight[numel], scale[numel / columns] and exponent[1]; `first` counts tiles: quantize_tiles(numel). kNotFinite: a weight is NaN or infinite.
struct QuantizeJob {
  const void* weight;
  const Float16* scale;
  const int32_t* exponent;
  int8_t* symbols;
  int64_t numel, columns, first;
  FloatType type;
};
int64_t quantize_tiles(int64_t numel);
cudaError_t quantize_rows(const QuantizeJob* jobs, int count, int64_t tiles, int bits, uint32_t* status, cudaStream_t stream);

// weight[rows][columns] = symbols[rows][columns] * scale[rows] * 2^exponent[0] * column_factor[columns] (null: 1), rounded to `type`.
cudaError_t dequantize(const void* symbols, SymbolType symbol_type, int64_t rows, int64_t columns, const Float16* scale, const int32_t* exponent, void* weight, FloatType type,
                       const float* column_factor, cudaStream_t stream);

// ---- cuda/encode.cu ----

constexpr int kEncodeWarps = 4;  // of a block

// All arrays are in device memory; those of a chunk are by job. What is scratch or a result is for the kernels to fill.
struct EncodeLaunch {
  const core::WarpBlock* blocks;  // plan_blocks(…, kEncodeWarps)
  int64_t block_count;
  const core::EncodeJob* jobs;  // by table; the chunks of a stream one after another
  int64_t job_count;
  const core::EncodeTable* tables;
  const uint16_t* mantissa_logs;  // core::mantissa_logs()
  uint16_t* costs;                // scratch, [jobs][32]
  uint32_t* states;               // scratch, [jobs][32]
  int64_t* escapes;               // scratch, [jobs]
  int64_t* room;                  // of encode_costs(): words that a chunk may take; [jobs], and a 0
  const int64_t* room_begin;      // prefix sums of `room`
  uint16_t* scratch;              // as many words as these add up to; 4-byte aligned
  int32_t* entries;               // of encode_chunks(): the chunk directory, [jobs][2]
  int64_t* words;                 // of encode_chunks(): the same words again; [jobs], and a 0
  const int64_t* words_begin;     // prefix sums of `words`
  uint32_t* status;               // of every stream: 0, or a core::Status
};

// In this order; between them prefix_sums() of room and of words.
cudaError_t encode_costs(const EncodeLaunch& launch, cudaStream_t stream);
cudaError_t encode_chunks(const EncodeLaunch& launch, cudaStream_t stream);
// The chunks of stream i one after another, from places[i].to on.
cudaError_t place_chunks(const EncodeLaunch& launch, const core::EncodedPlace* places, cudaStream_t stream);

// sums[i] = values[0] + … + values[i - 1], i < count. CUB's two phases: with scratch null, sets *scratch_bytes (a host variable) and launches nothing.
cudaError_t prefix_sums(void* scratch, size_t* scratch_bytes, const int64_t* values, int64_t* sums, int64_t count, cudaStream_t stream);

// Does all these copies.
cudaError_t copy_all(const core::CopyJob* jobs, int64_t count, cudaStream_t stream);

// ---- cuda/decode.cu ----

constexpr int kDecodeWarps = 4;  // of a block

// All arrays are in device memory.
struct DecodeLaunch {
  const core::WarpBlock* blocks;  // plan_blocks(…, kDecodeWarps)
  int64_t block_count;
  const core::WarpJob* jobs;  // by table
  const int32_t* table_of_job;
  int64_t job_count;
  const uint8_t* tables;             // of core::kWarpTableBytes each
  const core::WarpWeights* weights;  // of every stream; null for symbols
  uint32_t* states;                  // scratch: 32 for every job
  uint32_t* status;                  // of every stream: 0, or a core::Status
};

// Symbols of `type` to where the jobs say. Damaged chunks write anything, but only there, and are reported.
cudaError_t decode(const DecodeLaunch& launch, SymbolType type, cudaStream_t stream);

// The same, as weights.
cudaError_t decode_dequantize(const DecodeLaunch& launch, SymbolType type, FloatType weight_type, cudaStream_t stream);

// ---- cuda/matrix.cu ----

constexpr size_t kMatrixScratchBytes = 4352;  // of a warp, beside 128 for every pair of columns that its matrices' predictors have
constexpr int64_t kMatrixWarps = 4096;        // more at once are of no use

// All arrays are in device memory.
struct MatrixLaunch {
  const core::MatrixJob* jobs;  // by level
  const core::WarpMatrix* matrices;
  const core::MatrixRows* rows;
  uint8_t* scratch;       // of every warp
  int64_t scratch_bytes;  // of one: a multiple of 128
  int64_t warps;          // at once
  uint32_t* status;       // of every matrix: 0, or a core::Status
};

// Decodes jobs [level_begin[0], level_begin[levels]), each level (level_begin is a host variable) after the one before it, whose lines it may refer to. Damaged chunks write
// anything, but only into their matrices, and are reported.
cudaError_t decode_matrices(const MatrixLaunch& launch, const int64_t* level_begin, int64_t levels, cudaStream_t stream);

// All arrays are in device memory, but `matrix` itself. What is scratch or a result is for the kernel to fill.
struct MatrixEncodeLaunch {
  core::WarpMatrix matrix;  // `own` is only read; without tables
  const core::MatrixEncodeJob* jobs;
  int64_t job_count;
  const core::MatrixRows* rows;
  const uint32_t* entries_of;       // core::symbol_entry() of every context and residual + 128: [contexts][256]
  const core::EncodeTable* tables;  // [contexts]
  const uint16_t* mantissa_logs;    // core::mantissa_logs()
  uint8_t* scratch;                 // as for decoding
  int64_t scratch_bytes, warps;
  uint32_t* symbols;                // scratch: [rows of all chunks][32]
  uint16_t* raw;                    // scratch: [symbols]
  int64_t* escapes;                 // scratch: [jobs]
  uint16_t* costs;                  // scratch: [jobs][32]
  uint32_t* states;                 // scratch: [jobs][32]
  uint16_t* words;                  // those of a chunk end at core::matrix_room_end()
  int32_t* entries;                 // the chunk directory, [jobs][2]
  uint32_t* status;                 // one
};
cudaError_t encode_matrix(const MatrixEncodeLaunch& launch, cudaStream_t stream);

// ---- cuda/trellis.cu ----

// All arrays are in device memory.
struct TrellisLaunch {
  const void* weights;          // [rows][columns]
  FloatType type;
  const float* row_step;        // [rows]
  const float* column_step;     // [columns] or null
  const uint8_t* column_class;  // [columns] or null
  const uint32_t* costs;        // [classes][core::kColumnCosts]
  const uint32_t* ways;         // core::trellis_ways()
  int64_t rows, columns;
  int64_t warps;                // at once, each for 32 rows at a time
  uint32_t* scratch;            // 128 numbers for every column and warp
  int16_t* symbols;             // [rows][columns]
  unsigned long long* counts;   // [classes][core::kColumnCosts], zeroed by the caller
  unsigned long long* error;    // one, zeroed by the caller
  uint32_t* status;             // one
};
// kNotFinite: a weight is NaN or infinite; kSymbolOutOfRange: one is too many steps large.
cudaError_t quantize_trellis(const TrellisLaunch& launch, int states, cudaStream_t stream);

// As TrellisLaunch, with feedback (core/trellis/feedback_search.h).
struct FeedbackLaunch {
  TrellisLaunch rows;       // `scratch`: core::FeedbackScratch::bytes() for every warp; `error` is not used
  int survivors;            // 1 to core::kMaxSurvivors paths for every state
  const float* feedback;    // [columns][stride]
  int64_t stride;
  const float* weight;      // [columns]
  double* row_error;        // [rows]
};
// states 0: each integer for itself.
cudaError_t quantize_feedback(const FeedbackLaunch& launch, int states, cudaStream_t stream);

}  // namespace ans::cuda
