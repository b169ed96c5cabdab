// Weights as the search takes them.
#pragma once
#include "core/quantize_arithmetic.h"
#include "core/trellis/trellis_coder.h"

namespace ans::core {

// Targets up to this: the integers next to them fit in 16 bits.
constexpr int32_t kMaxTrellisValue = 32700;

// round(weight / step * 2^kTargetBits), halves to even; with a step of 0, 0 for a weight of 0. What is beyond kMaxTrellisValue (or NaN) comes back as kNoTarget.
constexpr int32_t kNoTarget = INT32_MIN;
ANS_HD int32_t trellis_target(float weight, float step) {
  constexpr float kMost = float(kMaxTrellisValue) * kTargetOne;
  const float target = weight == 0.0f ? 0.0f : multiply(divide(weight, step), float(kTargetOne));
  const bool fits = target <= kMost && target >= -kMost;
  const float rounded = ((fits ? target : 0.0f) + 0x1.8p23f) - 0x1.8p23f;
  return fits ? int32_t(rounded) : kNoTarget;
}

}  // namespace ans::core
