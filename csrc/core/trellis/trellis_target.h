// Weights as the search takes them.
#pragma once
#include "core/quantize_arithmetic.h"
#include "core/trellis/trellis_coder.h"

namespace ans::core {

// Targets up to this: the integers next to them fit in 16 bits.
constexpr int32_t kMaxTrellisValue = 32700;

// weight / step, in steps; with a step of 0, 0 for a weight of 0. False (and 0) for what is beyond kMaxTrellisValue, or NaN.
ANS_HD bool trellis_target(float weight, float step, float* target) {
  const float t = weight == 0.0f ? 0.0f : divide(weight, step);
  const bool fits = t <= float(kMaxTrellisValue) && t >= -float(kMaxTrellisValue);
  *target = fits ? t : 0.0f;
  return fits;
}
// The same in 1 / 2^kTargetBits, rounded, halves to even.
ANS_HD bool trellis_target(float weight, float step, int32_t* target) {
  float t;
  const bool fits = trellis_target(weight, step, &t);
  *target = int32_t((multiply(t, float(kTargetOne)) + 0x1.8p23f) - 0x1.8p23f);
  return fits;
}

// Sums up weighted squares of what columns of a row err (float, as bits).
ANS_HD double add_feedback_error(double sum, uint32_t error, float weight) {
  float e;
  memcpy(&e, &error, sizeof e);
  return add(sum, multiply(multiply(double(e), double(e)), double(weight)));
}

}  // namespace ans::core
