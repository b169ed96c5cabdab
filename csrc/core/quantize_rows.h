// Loops of the quantizer over rows, for one target's compiler to vectorise; the arithmetic is quantize_arithmetic.h's.
#pragma once
#include <cstring>

#include "core/quantize_kernels.h"

namespace ans::core {
namespace ANS_TARGET {

template <class T>
ANS_NOINLINE void row_statistics_of(const T* row, int64_t columns, RowStatistics* result) {
  double sum[kRowLanes] = {}, sum_sq[kRowLanes] = {};
  uint32_t max_abs_bits[kRowLanes] = {};
  int64_t j = 0;
  for (; j + kRowLanes <= columns; j += kRowLanes)
    for (int l = 0; l < kRowLanes; ++l) accumulate(sum[l], sum_sq[l], max_abs_bits[l], to_float(row[j + l]));
  for (int l = 0; j < columns; ++j, ++l) accumulate(sum[l], sum_sq[l], max_abs_bits[l], to_float(row[j]));
  RowStatistics lanes[kRowLanes];
  for (int l = 0; l < kRowLanes; ++l) lanes[l] = {sum[l], sum_sq[l], max_abs_bits[l]};
  for (int off = kRowLanes / 2; off > 0; off /= 2)
    for (int l = 0; l < off; ++l) lanes[l] = fold(lanes[l], lanes[l + off]);
  *result = lanes[0];
}

template <class T>
ANS_NOINLINE bool quantize_of(const T* weight, int64_t n, float scale, int32_t limit, int8_t* symbols) {
  uint32_t max_abs_bits = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float x = to_float(weight[i]);
    const uint32_t abs_bits = float_bits(x) & 0x7fffffffu;
    max_abs_bits = abs_bits > max_abs_bits ? abs_bits : max_abs_bits;
    symbols[i] = int8_t(quantize_symbol(x, scale, limit));
  }
  return max_abs_bits < 0x7f800000u;
}

template <class Symbol, class T>
ANS_NOINLINE void dequantize_of(const Symbol* symbols, int64_t n, float scale, const float* column_factor, T* weight) {
  if (column_factor == nullptr) {
    for (int64_t i = 0; i < n; ++i) weight[i] = from_float<T>(dequantize_symbol(int32_t(symbols[i]), scale));
  } else {
    for (int64_t i = 0; i < n; ++i) weight[i] = from_float<T>(multiply(dequantize_symbol(int32_t(symbols[i]), scale), column_factor[i]));
  }
}

inline void row_statistics(const void* row, FloatType type, int64_t columns, RowStatistics* result) {
  switch (type) {
    case FloatType::kFloat32: return row_statistics_of(static_cast<const float*>(row), columns, result);
    case FloatType::kBFloat16: return row_statistics_of(static_cast<const BFloat16*>(row), columns, result);
    case FloatType::kFloat16: return row_statistics_of(static_cast<const Float16*>(row), columns, result);
  }
}

inline bool quantize(const void* weight, FloatType type, int64_t n, float scale, int32_t limit, int8_t* symbols) {
  switch (type) {
    case FloatType::kFloat32: return quantize_of(static_cast<const float*>(weight), n, scale, limit, symbols);
    case FloatType::kBFloat16: return quantize_of(static_cast<const BFloat16*>(weight), n, scale, limit, symbols);
    case FloatType::kFloat16: return quantize_of(static_cast<const Float16*>(weight), n, scale, limit, symbols);
  }
  return false;
}

template <class Symbol>
void dequantize_to(const Symbol* symbols, int64_t n, float scale, const float* column_factor, void* weight, FloatType type) {
  switch (type) {
    case FloatType::kFloat32: return dequantize_of(symbols, n, scale, column_factor, static_cast<float*>(weight));
    case FloatType::kBFloat16: return dequantize_of(symbols, n, scale, column_factor, static_cast<BFloat16*>(weight));
    case FloatType::kFloat16: return dequantize_of(symbols, n, scale, column_factor, static_cast<Float16*>(weight));
  }
}

inline void dequantize(const void* symbols, format::SymbolType symbol_type, int64_t n, float scale, const float* column_factor, void* weight, FloatType type) {
  switch (symbol_type) {
    case format::SymbolType::kI8: return dequantize_to(static_cast<const int8_t*>(symbols), n, scale, column_factor, weight, type);
    case format::SymbolType::kU8: return dequantize_to(static_cast<const uint8_t*>(symbols), n, scale, column_factor, weight, type);
    case format::SymbolType::kI16: return dequantize_to(static_cast<const int16_t*>(symbols), n, scale, column_factor, weight, type);
  }
}

}  // namespace ANS_TARGET
}  // namespace ans::core
