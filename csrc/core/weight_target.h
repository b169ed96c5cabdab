// Where decoded symbols become weights: a matrix with a scale for every row.
#pragma once
#include <algorithm>
#include <cstdint>

#include "core/quantize_kernels.h"

namespace ans::core {

inline int64_t float_bytes(FloatType type) { return type == FloatType::kFloat32 ? 4 : 2; }

struct WeightTarget {
  const QuantizeKernels* kernels;
  format::SymbolType symbol_type;
  const Float16* scale;  // of every row of the matrix
  int32_t exponent;
  int64_t columns;
  FloatType type;
  uint8_t* weight;  // the matrix
  const float* column_factor = nullptr;  // [columns]: what weights are multiplied by, before they are rounded; or null

  float row_scale(int64_t row) const { return unpack_scale(scale[row], exponent); }
  uint8_t* at(int64_t element) const { return weight + element * float_bytes(type); }

  // Weights of the elements [begin, end); `symbols` begins at element `begin`.
  void write(const void* symbols, int64_t begin, int64_t end) const {
    const uint8_t* source = static_cast<const uint8_t*>(symbols);
    for (int64_t i = begin; i < end;) {
      const int64_t row = i / columns, row_end = std::min(end, (row + 1) * columns);
      kernels->dequantize(source + (i - begin) * format::symbol_bytes(symbol_type), symbol_type, row_end - i, row_scale(row), column_factor == nullptr ? nullptr : column_factor + (i - row * columns), at(i), type);
      i = row_end;
    }
  }
};

}  // namespace ans::core
