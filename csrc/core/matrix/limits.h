// Limits of what matrix streams may say (BITSTREAM.md, section 7).
#pragma once
#include <cstdint>

#include "core/matrix/class_tables.h"
#include "format/bitstream.h"

namespace ans::core {

constexpr int kScaleStep = kOctave / 8;  // scales of columns and starts of lines are in eighths of an octave
constexpr int32_t kMinScale = -32, kMaxScale = 63;
constexpr int32_t kMinStart = -32, kMaxStart = 24;
constexpr int64_t kMinColumns = 1, kMaxColumns = int64_t{1} << 16, kMaxLines = int64_t{1} << 30;
constexpr int kMaxClasses = 128, kMaxParts = 16, kMaxPredictors = 16, kMaxLevel = 255;
constexpr int64_t kFreeCoefficients = int64_t{1} << 22;  // of all own predictors of a stream, beside one for each symbol
// What symbols of a type count as in predictions.
constexpr format::SymbolType counted_as(format::SymbolType type) { return type == format::SymbolType::kI16 ? format::SymbolType::kI8 : type; }
constexpr int32_t kMinCounted = -128, kMaxCounted = 127;  // of 16-bit symbols
constexpr int kFactorOne = 8;  // factors of references are in eighths
constexpr int32_t kMaxFactor = 15;

}  // namespace ans::core
