// core/float_formats.h and core/quantize_arithmetic.h: every device relies on these being exact.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/quantize_arithmetic.h"

namespace {

using namespace ans::core;

// The value of an fp16 pattern, from the definition of the format; only for finite patterns.
double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

RowStatistics statistics(const std::vector<float>& row) {
  RowStatistics lanes[kRowLanes] = {};
  for (size_t j = 0; j < row.size(); ++j) {
    RowStatistics& lane = lanes[j % kRowLanes];
    accumulate(lane.sum, lane.sum_sq, lane.max_abs_bits, row[j]);
  }
  for (int off = kRowLanes / 2; off > 0; off /= 2) {
    for (int l = 0; l < off; ++l) lanes[l] = fold(lanes[l], lanes[l + off]);
  }
  return lanes[0];
}

float scale_of(const std::vector<float>& row, int bits, double clip_sigmas) {
  return row_scale(statistics(row), static_cast<int64_t>(row.size()), bits, clip_sigmas);
}

TEST(FloatFormats, EveryFiniteHalfHasItsValueAndSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits >> 10 & 31) == 31) continue;
    const Float16 half{static_cast<uint16_t>(bits)};
    ASSERT_EQ(to_float(half), half_value(half.bits)) << std::hex << bits;
    ASSERT_EQ(from_float<Float16>(to_float(half)).bits, bits) << std::hex << bits;
  }
}

TEST(FloatFormats, HalfRoundsToNearestTiesToEvenBetweenAllNeighbours) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = half_value(static_cast<uint16_t>(bits));
    const double high = half_value(static_cast<uint16_t>(bits + 1));
    const float middle = static_cast<float>((low + high) / 2);  // exact: one more bit than fp16
    const uint32_t even = bits & 1 ? bits + 1 : bits;
    ASSERT_EQ(from_float<Float16>(middle).bits, even) << std::hex << bits;
    ASSERT_EQ(from_float<Float16>(-middle).bits, even | 0x8000) << std::hex << bits;
    ASSERT_EQ(from_float<Float16>(std::nextafter(middle, 0.0f)).bits, bits) << std::hex << bits;
    ASSERT_EQ(from_float<Float16>(std::nextafter(middle, 1e9f)).bits, bits + 1) << std::hex << bits;
  }
}

TEST(FloatFormats, HalfOverflowsAt65520) {
  EXPECT_EQ(from_float<Float16>(std::nextafter(65520.0f, 0.0f)).bits, 0x7bff);
  EXPECT_EQ(from_float<Float16>(65520.0f).bits, 0x7c00);
  EXPECT_EQ(from_float<Float16>(-std::numeric_limits<float>::infinity()).bits, 0xfc00);
  EXPECT_EQ(from_float<Float16>(std::numeric_limits<float>::denorm_min()).bits, 0);
}

TEST(FloatFormats, NanStaysNanAndInfinityStaysInfinity) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isnan(to_float(from_float<Float16>(nan))));
  EXPECT_TRUE(std::isnan(to_float(from_float<BFloat16>(float_from_bits(0x7f800001)))));  // must not round up to infinity
  EXPECT_TRUE(std::isnan(to_float(from_float<BFloat16>(float_from_bits(0x7fffffff)))));  // must not wrap
  EXPECT_EQ(to_float(from_float<Float16>(infinity)), infinity);
  EXPECT_EQ(to_float(from_float<BFloat16>(-infinity)), -infinity);
}

TEST(FloatFormats, BFloat16RoundsToNearestTiesToEven) {
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    ASSERT_EQ(from_float<BFloat16>(to_float(BFloat16{static_cast<uint16_t>(bits)})).bits, bits);
    ASSERT_EQ(from_float<BFloat16>(float_from_bits(bits << 16 | 0x7fff)).bits, bits);
    ASSERT_EQ(from_float<BFloat16>(float_from_bits(bits << 16 | 0x8000)).bits, bits + (bits & 1));
    ASSERT_EQ(from_float<BFloat16>(float_from_bits(bits << 16 | 0x8001)).bits, bits + 1);
  }
}

TEST(FloatFormats, PowersOfTwoAndLogarithms) {
  for (int exponent = -1022; exponent <= 1023; ++exponent) ASSERT_EQ(power_of_two(exponent), std::ldexp(1.0, exponent));
  for (int exponent = -149; exponent <= 127; ++exponent) {
    const float power = std::ldexp(1.0f, exponent);
    ASSERT_EQ(floor_log2(power), exponent);
    ASSERT_EQ(floor_log2(std::nextafter(2 * power, 0.0f)), exponent);  // 2^128 is infinity, its neighbour is not
  }
}

TEST(RowScale, AbsmaxMapsTheLargestMagnitudeToTheLimit) {
  EXPECT_EQ(scale_of({1.0f, -6.2f, 3.0f}, 6, kClipAbsmax), static_cast<float>(static_cast<double>(6.2f) / 31));
  EXPECT_EQ(scale_of({0.0f, 0.0f}, 6, kClipAbsmax), 0.0f);
  EXPECT_EQ(scale_of({}, 6, kClipAbsmax), 0.0f);
}

TEST(RowScale, ClipSigmasUsesTheSampleStandardDeviation) {
  // 1, 2, 3, 4: deviation sqrt(5/3). Everything up to the square root is exact in fp64.
  const double deviation = std::sqrt(5.0 / 3.0);
  EXPECT_EQ(scale_of({1, 2, 3, 4}, 8, 12.85), static_cast<float>(12.85 * deviation / 127));
}

TEST(RowScale, ClipSigmasAgreesWithATwoPassVarianceOnRandomRows) {
  std::mt19937 random(1);
  std::normal_distribution<float> weight(0.01f, 0.04f);
  for (int columns : {2, 31, 32, 33, 384, 5000}) {
    std::vector<float> row(columns);
    for (float& x : row) x = weight(random);
    double mean = 0;
    double variance = 0;
    for (float x : row) mean += static_cast<double>(x) / columns;
    for (float x : row) variance += (x - mean) * (x - mean) / (columns - 1);
    const double expected = 4.5 * std::sqrt(variance) / 31;
    EXPECT_NEAR(scale_of(row, 6, 4.5) / expected, 1.0, 1e-6) << columns << " columns";
  }
}

TEST(RowScale, FallsBackToAbsmaxWhereTheDeviationIsZeroOrRoundingNoise) {
  EXPECT_EQ(scale_of({5.0f}, 6, 4.5), scale_of({5.0f}, 6, kClipAbsmax));
  for (float value : {1.0f, 0.1f, 1e-20f, 3e38f}) {
    for (int columns : {2, 3, 100, 384, 100003}) {
      const std::vector<float> row(columns, value);
      ASSERT_EQ(scale_of(row, 6, 4.5), scale_of(row, 6, kClipAbsmax)) << columns << " times " << value;
    }
  }
}

TEST(RowScale, NonFiniteRowsAreRecognizedAndLargeOnesStayFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float largest = std::numeric_limits<float>::max();
  EXPECT_FALSE(is_finite_row(statistics({0.0f, -infinity, 1.0f})));
  EXPECT_FALSE(is_finite_row(statistics({std::numeric_limits<float>::quiet_NaN()})));
  EXPECT_FALSE(is_finite_row(statistics({-std::numeric_limits<float>::quiet_NaN()})));
  EXPECT_TRUE(is_finite_row(statistics({largest, -largest})));
  EXPECT_EQ(scale_of({largest, -largest}, 2, 1000.0), kMaxRowScale);
}

TEST(PackScale, OrdinaryScalesTakeExponentZero) {
  EXPECT_EQ(scale_exponent(0x1p-14f, 1.0f), 0);
  EXPECT_EQ(scale_exponent(1.0f, std::nextafter(0x1p15f, 0.0f)), 0);
  EXPECT_EQ(scale_exponent(0.0f, 0.0f), 0);  // no nonzero scale
  EXPECT_EQ(pack_scale(0.0123f, 0).bits, from_float<Float16>(0.0123f).bits);
}

TEST(PackScale, ExtremeScalesMoveTheExponentAndStayWithinHalfPrecision) {
  for (float largest : {std::numeric_limits<float>::denorm_min(), 1e-41f, 1e-30f, 0x1p-15f, 1.0f, 0x1p15f, 1e30f, kMaxRowScale}) {
    const float smallest = largest * 0x1p-20f;
    const int32_t exponent = scale_exponent(smallest, largest);
    const double packed = to_float(pack_scale(largest, exponent));
    EXPECT_GE(packed, 0x1p14) << largest;
    EXPECT_LE(packed, 0x1p15) << largest;
    EXPECT_NEAR(std::ldexp(packed, exponent) / largest, 1.0, 0x1p-11) << largest;
    EXPECT_EQ(unpack_scale(pack_scale(largest, exponent), exponent), static_cast<float>(std::ldexp(packed, exponent)));
    EXPECT_TRUE(std::isfinite(unpack_scale(pack_scale(largest, exponent), exponent))) << largest;
  }
}

TEST(PackScale, ANonzeroScaleStaysNonzeroAndZeroStaysZero) {
  const int32_t exponent = scale_exponent(1e-38f, 1.0f);
  EXPECT_EQ(pack_scale(1e-38f, exponent).bits, 1);
  EXPECT_EQ(pack_scale(0.0f, exponent).bits, 0);
}

TEST(PackScale, AnyExponentUnpacksWithoutUndefinedBehaviour) {
  const Float16 one = from_float<Float16>(1.0f);
  EXPECT_EQ(unpack_scale(one, std::numeric_limits<int32_t>::min()), 0.0f);
  EXPECT_EQ(unpack_scale(one, std::numeric_limits<int32_t>::max()), std::numeric_limits<float>::infinity());
  EXPECT_EQ(unpack_scale(one, -149), std::numeric_limits<float>::denorm_min());
}

TEST(QuantizeSymbol, AgreesWithClampedNearbyint) {
  std::mt19937 random(2);
  std::normal_distribution<float> weight(0.0f, 1.0f);
  for (int bits = kMinBits; bits <= kMaxBits; ++bits) {
    const int32_t limit = symbol_limit(bits);
    for (int i = 0; i < 20000; ++i) {
      const float x = weight(random);
      const float scale = std::fabs(weight(random)) * 0.1f + 1e-6f;
      const float rounded = std::nearbyint(x / scale);
      const float expected = rounded < -limit ? -limit : rounded > limit ? limit : rounded;
      ASSERT_EQ(quantize_symbol(x, scale, limit), expected) << x << " / " << scale;
    }
  }
}

TEST(QuantizeSymbol, HalvesGoToEvenAndZeroScaleGivesZero) {
  for (int i = -62; i <= 62; ++i) ASSERT_EQ(quantize_symbol(i * 0.5f, 1.0f, 31), static_cast<int>(std::nearbyint(i * 0.5)));
  for (float x : {0.0f, 1.0f, -1e30f}) ASSERT_EQ(quantize_symbol(x, 0.0f, 31), 0);
  EXPECT_EQ(quantize_symbol(1.0f, std::numeric_limits<float>::quiet_NaN(), 31), 0);
  EXPECT_EQ(quantize_symbol(3e38f, std::numeric_limits<float>::denorm_min(), 31), 31);
  EXPECT_EQ(quantize_symbol(-3e38f, 1.0f, 31), -31);
}

TEST(DequantizeSymbol, IsExactForEightBitSymbols) {
  for (uint16_t bits = 1; bits < 0x7c00; ++bits) {
    const Float16 scale{bits};
    for (int symbol : {-127, -31, -1, 0, 1, 63, 127}) {
      ASSERT_EQ(dequantize_symbol(symbol, unpack_scale(scale, 0)), symbol * half_value(bits));
    }
  }
}

}  // namespace
