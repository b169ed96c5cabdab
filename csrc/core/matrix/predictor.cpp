#include "core/matrix/predictor.h"

#include <algorithm>

#include "core/bit_io.h"
#include "core/matrix/int_array.h"
#include "core/matrix/limits.h"

namespace ans::core {
namespace {
constexpr int kShiftBits = 3, kPeriodOrder = 6;
}  // namespace

int64_t coefficient_count(int64_t period, int64_t window) {
  const int64_t w = std::min(window, period - 1);
  return w * (w + 1) / 2 + (period - 1 - w) * w;
}

std::vector<uint8_t> write_predictor(const Predictor& p) {
  BitWriter head;
  head.put(p.stationary, 1);
  head.put(uint32_t(p.shift - 1), kShiftBits);
  head.exp_golomb(uint32_t(p.period - 2), kPeriodOrder);
  head.exp_golomb(uint32_t(p.window - 1), kPeriodOrder);
  head.put(!p.scale.empty(), 1);
  std::vector<uint8_t> bytes = head.bytes();
  for (const std::vector<int32_t>* values : {&p.coefficients, &p.scale}) {
    if (values->empty()) continue;
    const std::vector<uint8_t> array = write_array(values->data(), int64_t(values->size()));
    bytes.insert(bytes.end(), array.begin(), array.end());
  }
  return bytes;
}

Status read_predictor(const uint8_t** data, const uint8_t* end, int64_t* coefficients, Predictor* p) {
  BitReader in(*data, end - *data, Status::kStreamTruncated);
  *p = Predictor{};
  p->stationary = in.get(1) != 0;
  p->shift = int(in.get(kShiftBits)) + 1;
  const uint64_t period = in.exp_golomb(kPeriodOrder) + 2, window = in.exp_golomb(kPeriodOrder) + 1;
  const bool has_scale = in.get(1) != 0;
  const int64_t consumed = in.align();
  if (in.status() != Status::kOk) return in.status();
  if (period > uint64_t(kMaxPeriod) || window >= period) return Status::kParameterOutOfRange;
  *data += consumed;
  p->period = int64_t(period);
  p->window = int64_t(window);
  const int64_t count = p->stationary ? p->window : coefficient_count(p->period, p->window), in_memory = coefficient_count(p->period, p->period);
  if (in_memory > *coefficients) return Status::kParameterOutOfRange;
  *coefficients -= in_memory;
  if (const Status s = read_array(data, end, count, -128, 127, &p->coefficients); s != Status::kOk) return s;
  return has_scale ? read_array(data, end, p->period, kMinScale, kMaxScale, &p->scale) : Status::kOk;
}

}  // namespace ans::core
