// The quantizer's loops as a compiled backend offers them.
#pragma once
#include <cstdint>

#include "core/quantize_arithmetic.h"
#include "format/bitstream.h"

namespace ans::core {

struct QuantizeKernels {
  void (*row_statistics)(const void* row, FloatType type, int64_t columns, RowStatistics* result);
  // Symbols of n weights of one row; scale is unpack_scale's. False if some weight is NaN or infinite.
  bool (*quantize)(const void* weight, FloatType type, int64_t n, float scale, int32_t limit, int8_t* symbols);
  // Weights of n symbols of one row. column_factor: of their columns, or null.
  void (*dequantize)(const void* symbols, format::SymbolType symbol_type, int64_t n, float scale, const float* column_factor, void* weight, FloatType type);
};

}  // namespace ans::core
