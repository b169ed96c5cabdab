// The arguments of quantize_trellis, checked, for the CPU and the CUDA kernel alike. What is small is brought to the host.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <vector>

#include "core/trellis/trellis.h"
#include "core/trellis/trellis_coder.h"
#include "core/quantize_arithmetic.h"
#include "core/trellis/trellis_costs.h"
#include "torch/checks.h"

namespace ans::ops {

struct TrellisArguments {
  // fetch(tensor) -> std::vector<uint8_t>: its bytes, on the host.
  template <class Fetch>
  TrellisArguments(const char* op, const Tensor& weight, const Tensor& row_step, const Tensor& cost_tensor, int64_t states, const std::optional<Tensor>& column_steps,
                   const std::optional<Tensor>& column_classes, const Fetch& fetch, bool also_none = false)
      : shape(row_shape(op, weight)), type(float_type(op, weight.scalar_type())) {
    ANS_CHECK_ARGUMENT(states >= 0 && states <= 32 && (core::is_trellis(int(states)) || (also_none && states == 0)), op, "states is ", states, also_none ? ", not 0, 4, 8 or 32" : ", not 4, 8 or 32");
    ANS_CHECK_ARGUMENT(row_step.scalar_type() == ScalarType::Float && row_step.numel() == shape.rows, op, "row_step is not a float32 number for every row");
    check_same_device(op, weight, row_step, "row_step");
    ANS_CHECK_ARGUMENT(cost_tensor.scalar_type() == ScalarType::Int && cost_tensor.dim() == 3 && cost_tensor.size(0) >= 1 && cost_tensor.size(0) <= 256 &&
                           cost_tensor.size(1) == core::kResidues && cost_tensor.size(2) == 2 * core::kReach,
                       op, "costs are not int32 [classes, ", core::kResidues, ", ", 2 * core::kReach, "]");
    classes = cost_tensor.size(0);
    costs = numbers<uint32_t>(fetch(cost_tensor));
    for (uint32_t c : costs) ANS_CHECK_ARGUMENT(c < core::kMaxSymbolCost, op, "a cost is negative, or ", core::kMaxSymbolCost, " or more");
    if (column_steps.has_value()) {
      ANS_CHECK_ARGUMENT(column_steps->scalar_type() == ScalarType::Float && column_steps->dim() == 1 && column_steps->numel() == shape.columns, op,
                         "column_step is not a float32 number for every column");
      column_step = numbers<float>(fetch(*column_steps));
      for (float s : column_step) ANS_CHECK(s > 0 && std::isfinite(s), op, "NotFinite", "a column step is not positive, NaN or infinite");
    }
    if (column_classes.has_value()) {
      ANS_CHECK_ARGUMENT(column_classes->scalar_type() == ScalarType::Byte && column_classes->dim() == 1 && column_classes->numel() == shape.columns, op,
                         "column_class is not a uint8 number for every column");
      column_class = fetch(*column_classes);
      for (size_t j = 0; j < column_class.size(); ++j) ANS_CHECK_ARGUMENT(column_class[j] < classes, op, "column ", j, " is of class ", int(column_class[j]), " of ", classes);
    }
  }
  static bool is_step(float s) { return s >= 0 && std::isfinite(s); }

  RowShape shape;
  core::FloatType type;
  int64_t classes = 1;
  std::vector<uint32_t> costs;
  std::vector<float> column_step;     // or empty
  std::vector<uint8_t> column_class;  // or empty

 private:
  template <class T>
  static std::vector<T> numbers(const std::vector<uint8_t>& bytes) {
    std::vector<T> result(bytes.size() / sizeof(T));
    if (!result.empty()) std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  }
};

// What GPTQ needs beside: how much errors of columns are made up for by others, and what they count; brought to whole blocks of columns.
struct FeedbackArguments {
  template <class Fetch>
  FeedbackArguments(const char* op, int64_t columns, const Tensor& feedback_in, const Tensor& column_weight, int64_t survivors_in, const Fetch& fetch)
      : survivors(int(survivors_in)), stride((columns + core::kFeedbackBlock - 1) / core::kFeedbackBlock * core::kFeedbackBlock), feedback(size_t(columns * stride), 0.0f), weight(size_t(columns)) {
    ANS_CHECK_ARGUMENT(feedback_in.scalar_type() == ScalarType::Float && feedback_in.dim() == 2 && feedback_in.size(0) == columns && feedback_in.size(1) == columns, op,
                       "feedback is not float32 [columns, columns]");
    ANS_CHECK_ARGUMENT(survivors_in >= 1 && survivors_in <= core::kMaxSurvivors, op, "survivors is ", survivors_in, ", not 1 to ", core::kMaxSurvivors);
    ANS_CHECK_ARGUMENT(column_weight.scalar_type() == ScalarType::Float && column_weight.dim() == 1 && column_weight.numel() == columns, op, "column_weight is not a float32 number for every column");
    const std::vector<uint8_t> rows = fetch(feedback_in), weights = fetch(column_weight);
    for (int64_t i = 0; i < columns; ++i) std::memcpy(feedback.data() + i * stride, rows.data() + size_t(4 * i * columns), size_t(4 * columns));
    if (columns > 0) std::memcpy(weight.data(), weights.data(), weights.size());
    constexpr float kMost = 1e6f;  // so that sums stay finite
    for (float f : feedback) ANS_CHECK(std::fabs(f) <= kMost, op, "NotFinite", "feedback holds NaN, or numbers beyond a million");
    for (float& w : weight) {
      ANS_CHECK(w > 0 && w <= kMost, op, "NotFinite", "a column's weight is not positive, NaN, or beyond a million");
      w = core::multiply(w, float(core::kTargetOne * core::kTargetOne));
    }
  }
  int survivors;
  int64_t stride;
  std::vector<float> feedback;  // [columns][stride]
  std::vector<float> weight;    // [columns], as costs are
};

// Of all rows, in squared steps.
inline double total_feedback_error(const std::vector<double>& of_rows) {
  return std::accumulate(of_rows.begin(), of_rows.end(), 0.0) / (core::kTargetOne * core::kTargetOne);
}

inline void check_trellis_counts(const char* op, const Tensor& counts, double lagrange) {
  ANS_CHECK_ARGUMENT(counts.scalar_type() == ScalarType::Long && counts.dim() == 3 && counts.size(1) == core::kResidues && counts.size(2) == 2 * core::kReach, op,
                     "counts are not what quantize_trellis returns");
  ANS_CHECK_ARGUMENT(std::isfinite(lagrange) && lagrange >= 0, op, "lagrange is ", lagrange, ", not a number of at least 0");
}

// core::find_trellis_costs() of `count` numbers on the host.
inline double trellis_costs(const char* op, const int64_t* counts, int64_t count, double lagrange, bool halves, int32_t* costs) {
  for (int64_t i = 0; i < count; ++i) ANS_CHECK_ARGUMENT(counts[i] >= 0, op, "a count is negative");
  return core::find_trellis_costs(counts, count / core::kColumnCosts, lagrange, halves, costs);
}

inline void check_trellis_status(const char* op, core::Status status) {
  ANS_CHECK_ARGUMENT(status != core::Status::kSymbolOutOfRange, op, "a weight is too many steps large, or its step is 0");
  check_status(op, status, "the weight holds NaN or infinity, or a row step is negative, NaN or infinite");
}

}  // namespace ans::ops
