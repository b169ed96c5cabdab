// Launchers of the CUDA kernels. No torch here and no device code, so a .cpp may include it.
//
// Conventions: every pointer is a device pointer unless it is named *_host or says otherwise; arrays are contiguous; sizes are
// int64_t; work is queued on `stream` and not waited for; the result is the launch's error. An empty array is legal and
// launches nothing that reads it. What a kernel finds wrong with its data it ORs into `*status`, one 32-bit word that the
// caller has zeroed and reads after synchronizing.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "core/float_formats.h"
#include "core/warp_jobs.h"
#include "format/bitstream.h"

namespace ans::cuda {

using core::Float16;
using core::FloatType;
using format::SymbolType;

enum Status : uint32_t {
  kStatusNotFinite = 1,          // a weight is NaN or infinite
  kStatusContextOutOfRange = 2,  // a context is not below num_contexts
  kStatusBadScale = 4,           // a row scale is negative, NaN or infinite
};

// ---- cuda/histogram.cu ----

// counts[symbol_values(type)] = how often each value occurs in symbols[numel]; bin 0 is the lowest value of the type.
// CUB's two phases: with scratch null, sets *scratch_bytes (a host variable) and launches nothing.
cudaError_t histogram(void* scratch, size_t* scratch_bytes, const void* symbols, SymbolType type, int64_t numel,
                      int64_t* counts, cudaStream_t stream);

// counts[num_contexts][symbol_values(type)], symbol i being counted in histogram contexts[i]; num_contexts is 1 ... 256.
cudaError_t histogram_by_context(const void* symbols, SymbolType type, const uint8_t* contexts, int64_t numel,
                                 int64_t num_contexts, int64_t* counts, uint32_t* status, cudaStream_t stream);

// ---- cuda/quantize.cu: core/quantize_arithmetic.h says what is computed ----

// row_scale[rows] from weight[rows][columns]; clip_sigmas is positive, or core::kClipAbsmax.
cudaError_t row_scale(const void* weight, FloatType type, int64_t rows, int64_t columns, int bits, double clip_sigmas,
                      float* row_scale, uint32_t* status, cudaStream_t stream);

// scale[rows] and exponent[1] from row_scale[rows]; scratch is kPackScaleScratchBytes.
constexpr size_t kPackScaleScratchBytes = 8;
cudaError_t pack_scale(const float* row_scale, int64_t rows, void* scratch, Float16* scale, int32_t* exponent,
                       uint32_t* status, cudaStream_t stream);

// symbols[rows][columns] from weight[rows][columns], scale[rows] and exponent[1].
cudaError_t quantize_rows(const void* weight, FloatType type, int64_t rows, int64_t columns, const Float16* scale,
                          const int32_t* exponent, int bits, int8_t* symbols, uint32_t* status, cudaStream_t stream);

// weight[rows][columns] = symbols[rows][columns] * scale[rows] * 2^exponent[0], rounded to `type`.
cudaError_t dequantize(const void* symbols, SymbolType symbol_type, int64_t rows, int64_t columns, const Float16* scale,
                       const int32_t* exponent, void* weight, FloatType type, cudaStream_t stream);

// ---- cuda/decode.cu ----

constexpr int kDecodeWarps = 8;  // of a block

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

}  // namespace ans::cuda
