// What the fused decoder shares with dequantize.
#pragma once
#include <cstdint>

#include "core/float_formats.h"
#include "format/bitstream.h"

namespace ans::ops {

int64_t float_bytes(core::FloatType type);

// Weights of the elements [begin, end) of a matrix with `columns` columns; `symbols` begins at element `begin`, `scale` and `weight` at the matrix.
void dequantize_range(const void* symbols, format::SymbolType symbol_type, const core::Float16* scale, int32_t exponent, int64_t columns, int64_t begin, int64_t end,
                      void* weight, core::FloatType type);

}  // namespace ans::ops
