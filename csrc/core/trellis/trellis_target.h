// Weights as the search takes them.
#pragma once
#include "core/quantize_arithmetic.h"
#include "core/trellis/trellis_coder.h"

namespace ans::core {

// Integers v up to this: symbols fit in 16 bits.
constexpr int32_t kMaxTrellisValue = 65000;

// round(weight / step * 2^kTargetBits), halves to even; a step that is not positive gives 0. What is beyond kMaxTrellisValue (or NaN) comes back as kNoTarget.
constexpr int32_t kNoTarget = INT32_MIN;
ANS_HD int32_t trellis_target(float weight, float step) {
  if (!(step > 0.0f)) return 0;
  const float target = multiply(divide(weight, step), float(kTargetOne));
  constexpr float kMost = float(kMaxTrellisValue) * kTargetOne;
  if (!(target <= kMost && target >= -kMost)) return kNoTarget;
  return int32_t((target + 0x1.8p23f) - 0x1.8p23f);
}

}  // namespace ans::core
