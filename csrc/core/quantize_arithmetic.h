// The quantizer's arithmetic, once for every device: statistics of a row, its scale, packing scales to fp16, one symbol.
//
// Symbols and scales must not depend on where they were computed, so every sum here has one order and every operation one
// rounding. The order: a row is dealt to kRowLanes lanes (element j belongs to lane j mod 32), each lane adds its elements in
// ascending order, and the lanes are folded by `for off in 16, 8, 4, 2, 1: lane[l] += lane[l + off]`. A warp does this with
// shuffles, SIMD with registers, a plain loop with an array. The build forbids contraction into fused multiply-adds
// (-ffp-contract=off, --fmad=false); on the device the operations that could be contracted are spelled as intrinsics as well.
#pragma once

#include <cstdint>

#include "core/float_formats.h"
#include "core/host_device.h"

namespace ans::core {

constexpr int kRowLanes = 32;
constexpr int kMinBits = 2;
constexpr int kMaxBits = 8;

// Stands for "no clip_sigmas": the row's largest magnitude becomes the largest symbol.
constexpr double kClipAbsmax = 0.0;

// Row scales are at most 2^127, so that rounding to fp16 cannot carry the largest one to infinity.
constexpr float kMaxRowScale = 0x1p127f;

ANS_HD double add(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dadd_rn(a, b);
#else
  return a + b;
#endif
}

ANS_HD double multiply(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

ANS_HD double square_root(double x) {
#if defined(__CUDA_ARCH__)
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

ANS_HD float divide(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

ANS_HD float multiply(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

// The largest symbol of a width: 2^(bits-1) - 1. The range is symmetric, so -2^(bits-1) never occurs.
ANS_HD int symbol_limit(int bits) { return (1 << (bits - 1)) - 1; }

// ---- statistics of a row ----

// What one lane has seen, or a whole row after folding. All zero is the empty state.
struct RowStatistics {
  double sum;
  double sum_sq;
  uint32_t max_abs_bits;  // bits of the largest |x|: magnitudes order like their bit patterns, and inf and NaN come out on top
};

// Adds the next element. The square of an fp32 number is exact in fp64. (Separate fields, so that SIMD code may keep 32 lanes
// as one array per field.)
ANS_HD void accumulate(double& sum, double& sum_sq, uint32_t& max_abs_bits, float x) {
  const double wide = x;
  const uint32_t abs_bits = float_bits(x) & 0x7fffffffu;
  sum = add(sum, wide);
  sum_sq = add(sum_sq, multiply(wide, wide));
  max_abs_bits = abs_bits > max_abs_bits ? abs_bits : max_abs_bits;
}

// One fold of the tree: the statistics of lane l joined by those of lane l + off.
ANS_HD RowStatistics fold(const RowStatistics& a, const RowStatistics& b) {
  return {add(a.sum, b.sum), add(a.sum_sq, b.sum_sq), a.max_abs_bits > b.max_abs_bits ? a.max_abs_bits : b.max_abs_bits};
}

ANS_HD bool is_finite_row(const RowStatistics& row) { return row.max_abs_bits < 0x7f800000u; }

// The scale of a finite row of `columns` elements: clip_sigmas * standard deviation / symbol_limit, or largest magnitude /
// symbol_limit for kClipAbsmax. The latter also serves a row whose deviation is zero or is nothing but the rounding of these
// sums (below 2^-18 of the row's root mean square): clip_sigmas of that would saturate every element.
ANS_HD float row_scale(const RowStatistics& row, int64_t columns, int bits, double clip_sigmas) {
  const double limit = symbol_limit(bits);
  double scale = static_cast<double>(float_from_bits(row.max_abs_bits)) / limit;
  if (clip_sigmas != kClipAbsmax && columns > 1) {
    const double mean = row.sum / static_cast<double>(columns);
    const double squares = add(row.sum_sq, -multiply(row.sum, mean));
    if (squares > multiply(row.sum_sq, 0x1p-36)) {
      const double deviation = square_root(squares / static_cast<double>(columns - 1));
      scale = multiply(clip_sigmas, deviation) / limit;
    }
  }
  const float rounded = static_cast<float>(scale);
  return rounded < kMaxRowScale ? rounded : kMaxRowScale;
}

// ---- scales as fp16 with one exponent per tensor: scale = fp16 * 2^exponent ----

// The exponent for scales whose nonzero values lie in [smallest, largest] (largest 0: there are none). Ordinary scales take 0;
// otherwise the largest lands in [2^14, 2^15), which leaves the small ones the most room.
ANS_HD int32_t scale_exponent(float smallest, float largest) {
  if (largest == 0.0f || (smallest >= 0x1p-14f && largest < 0x1p15f)) return 0;
  return floor_log2(largest) - 14;
}

// `exponent` is scale_exponent's result. A nonzero scale stays nonzero: a tiny row keeps the signs of its elements.
ANS_HD Float16 pack_scale(float scale, int32_t exponent) {
  const double scaled = multiply(static_cast<double>(scale), power_of_two(-exponent));
  const Float16 packed = from_float<Float16>(static_cast<float>(scaled));
  return packed.bits == 0 && scale > 0.0f ? Float16{1} : packed;
}

// The scale that quantize and dequantize work with. Any exponent is legal (it may come from a damaged file): beyond +-512
// the result is 0 or infinity anyway.
ANS_HD float unpack_scale(Float16 scale, int32_t exponent) {
  const int clamped = exponent < -512 ? -512 : exponent > 512 ? 512 : exponent;
  return static_cast<float>(multiply(static_cast<double>(to_float(scale)), power_of_two(clamped)));
}

// ---- one element ----

// round(weight / scale), halves to even, clamped to +-limit; scale is unpack_scale's result. A scale that is not positive
// gives 0. Clamping comes first (the limit is an integer, so the order does not matter), then adding and subtracting 1.5 * 2^23
// rounds in the adder, without a rounding instruction that baseline x86-64 lacks.
ANS_HD int32_t quantize_symbol(float weight, float scale, int32_t limit) {
  const float bound = static_cast<float>(limit);
  const float quotient = divide(weight, scale);
  const float below = quotient < bound ? quotient : bound;
  const float clamped = below > -bound ? below : -bound;
  const float rounded = (clamped + 0x1.8p23f) - 0x1.8p23f;
  return scale > 0.0f ? static_cast<int32_t>(rounded) : 0;
}

// symbol * scale in fp32 (exact for int8 symbols unless it is subnormal); from_float<T> rounds it to the output type.
ANS_HD float dequantize_symbol(int32_t symbol, float scale) { return multiply(static_cast<float>(symbol), scale); }

}  // namespace ans::core
