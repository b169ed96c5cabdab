// fp16 and bf16 as storage types, and their conversions to and from fp32 without conversion instructions: the same bits on
// every device, and nothing but selects, so that loops over them vectorize. Rounding is to nearest, ties to even; NaN becomes
// the quiet NaN that torch's own conversions produce.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.h"

namespace ans::core {

struct Float16 {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

enum class FloatType { kFloat32, kBFloat16, kFloat16 };

static_assert(sizeof(Float16) == 2 && sizeof(BFloat16) == 2, "storage types have the size of the tensor's elements");

ANS_HD uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

ANS_HD float float_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

ANS_HD uint64_t double_bits(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// 2^exponent, for exponent in [-1022, 1023].
ANS_HD double power_of_two(int exponent) {
  const uint64_t bits = static_cast<uint64_t>(exponent + 1023) << 52;
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// floor(log2(x)) for x finite and positive. Via fp64, in which every fp32 number is normal.
ANS_HD int floor_log2(float x) { return static_cast<int>(double_bits(static_cast<double>(x)) >> 52 & 0x7ff) - 1023; }

ANS_HD float to_float(float x) { return x; }

ANS_HD float to_float(BFloat16 x) { return float_from_bits(static_cast<uint32_t>(x.bits) << 16); }

ANS_HD float to_float(Float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  const uint32_t normal = (magnitude << 13) + (112u << 23);
  const uint32_t special = magnitude << 13 | 0x7f800000u | (magnitude > 0x7c00u ? 0x400000u : 0u);  // infinity, quiet NaN
  const uint32_t subnormal = float_bits(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);  // zero, too; exact
  return float_from_bits(sign | (magnitude >= 0x7c00u ? special : magnitude >= 0x400u ? normal : subnormal));
}

// from_float<T>(x): x rounded to T.
template <class T>
ANS_HD T from_float(float x);

template <>
ANS_HD float from_float<float>(float x) {
  return x;
}

template <>
ANS_HD BFloat16 from_float<BFloat16>(float x) {
  const uint32_t bits = float_bits(x);
#if defined(__CUDA_ARCH__)
  uint16_t rounded;  // to nearest, halves to even, as below; NaN would be 0x7fff
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(x));
#else
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
#endif
  return BFloat16{static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded)};
}

template <>
ANS_HD Float16 from_float<Float16>(float x) {
  const uint32_t sign = float_bits(x) >> 16 & 0x8000u;
  const uint32_t magnitude = float_bits(x) & 0x7fffffffu;
#if defined(__CUDA_ARCH__)
  uint16_t rounded;  // to nearest, halves to even, as below, subnormals and infinity too; NaN would be 0x7fff
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(rounded) : "f"(x));
  return Float16{magnitude > 0x7f800000u ? static_cast<uint16_t>(sign | 0x7e00u) : rounded};
#endif
  // Normal: the carry out of the mantissa moves the exponent. Subnormal: adding 0.5 makes the adder round to multiples of 2^-24.
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  const uint32_t subnormal = float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t finite = magnitude >= 0x38800000u ? normal : subnormal;  // from 2^-14 on
  const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;     // NaN or infinity
  return Float16{static_cast<uint16_t>(sign | (magnitude >= 0x477ff000u ? large : finite))};  // 65520 rounds to infinity
}

}  // namespace ans::core
