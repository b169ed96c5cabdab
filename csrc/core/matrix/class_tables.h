// Tables of the matrix models (BITSTREAM.md, section 7.4): how likely each residual is, given the class of its scale and the phase of its prediction.
//
// A table is a density, integrated over the unit interval around each integer. All of it is integer arithmetic: a decoder derives the same tables everywhere.
#pragma once
#include <cstdint>

#include "core/frequency_table.h"

namespace ans::core {

// Scales are logarithms: 16 steps are an octave (a factor of 2).
constexpr int kOctave = 16;
constexpr int kMinLogScale = -4 * kOctave, kMaxLogScale = 8 * kOctave - 1;  // of a table

// Predictions have 8 fractional parts.
constexpr int kPhases = 8;

// Density of shape s, unscaled: (nu / (nu + z^2))^exponent with exponent = kShapeExponents[s] and nu = 2 * exponent - 1. That is Student's t with nu degrees of freedom:
// the first is Cauchy's, the last is nearly Gauss's.
constexpr int kShapes = 11;
constexpr int kShapeExponents[kShapes] = {1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64};

// Residuals of a table with B buckets are -(B/2 - 1) … B/2 - 2 at most; all others are escaped.
struct ResidualRange {
  int32_t first, last;
};
constexpr ResidualRange residual_range(int buckets) { return {-(buckets / 2 - 1), buckets / 2 - 2}; }

// Frequencies of residuals for a scale of 2^(log_scale / 16) symbols around phase / 8, with escape. Raw values are left to the caller.
FrequencyTable class_table(int log_scale, int shape, int phase, int buckets);

}  // namespace ans::core
