// CPU kernels of trellis-coded quantization.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <tuple>
#include <vector>

#include "core/byte_buffer.h"
#include "core/weight_target.h"
#include "core/trellis/trellis.h"
#include "core/trellis/trellis_target.h"
#include "cpu/backends.h"
#include "torch/checks.h"
#include "torch/parallel.h"
#include "torch/trellis_args.h"

namespace ans::ops {
namespace {

using core::Status;

std::vector<uint8_t> host_bytes(const char* op, const Tensor& t) {
  ANS_CHECK_ARGUMENT(t.is_cpu(), op, "an argument is not on the CPU");
  const Tensor source = torch::stable::contiguous(t);
  const uint8_t* const first = static_cast<const uint8_t*>(source.const_data_ptr());
  return std::vector<uint8_t>(first, first + source.numel() * source.element_size());
}

std::tuple<Tensor, Tensor, Tensor> quantize_trellis_cpu(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, std::optional<Tensor> column_step,
                                                std::optional<Tensor> column_class) {
  constexpr const char* kOp = "quantize_trellis";
  const auto bytes_of = [&](const Tensor& t) { return host_bytes(kOp, t); };
  const TrellisArguments arguments(kOp, weight, row_step, costs, states, column_step, column_class, bytes_of);
  const RowShape shape = arguments.shape;
  const core::FloatType type = arguments.type;
  const Tensor rows = torch::stable::contiguous(weight), steps = torch::stable::contiguous(row_step);
  const float *const of_row = steps.const_data_ptr<float>(), *const of_column = arguments.column_step.empty() ? nullptr : arguments.column_step.data();
  for (int64_t r = 0; r < shape.rows; ++r)
    if (!TrellisArguments::is_step(of_row[r])) check_trellis_status(kOp, Status::kNotFinite);

  Tensor symbols = torch::stable::new_empty(weight, weight.sizes(), ScalarType::Short);
  int16_t* const out = symbols.mutable_data_ptr<int16_t>();
  const core::TrellisCoder& coder = cpu::backend().trellises;
  const auto ways = core::trellis_ways(int(states));
  const auto search = states == 4 ? coder.search4 : states == 8 ? coder.search8 : coder.search32;
  const uint8_t* const class_of = arguments.column_class.empty() ? nullptr : arguments.column_class.data();
  const uint32_t* const cost_of = arguments.costs.data();
  Tensor counts = torch::stable::new_zeros(weight, {costs.size(0), core::kResidues, 2 * core::kReach}, ScalarType::Long);
  int64_t* const count = counts.mutable_data_ptr<int64_t>();
  int64_t error = 0;
  std::mutex merging;
  constexpr int64_t kLanes = format::kLanes;
  const uint8_t* const weights = static_cast<const uint8_t*>(rows.const_data_ptr());
  const Status status = parallel_ranges((shape.rows + kLanes - 1) / kLanes, 1, [&](int64_t begin, int64_t end) {
    const size_t size = size_t(shape.columns * kLanes);
    std::vector<int32_t> targets(size), values(size);
    std::vector<uint32_t> decisions(size), points(size);
    std::vector<int64_t> own_count(size_t(counts.numel()), 0);
    int64_t own_error = 0;
    for (int64_t g = begin; g < end; ++g) {
      const int64_t first = g * kLanes, width = std::min(kLanes, shape.rows - first);
      if (width < kLanes) std::fill(targets.begin(), targets.end(), 0);
      for (int64_t lane = 0; lane < width; ++lane) {
        const Status s = coder.find_targets(weights + (first + lane) * shape.columns * core::float_bytes(type), type, of_row[first + lane], of_column, shape.columns, targets.data() + lane);
        if (s != Status::kOk) return s;
      }
      search({targets.data(), shape.columns, cost_of, class_of, ways.data(), decisions.data(), points.data(), values.data()});
      for (int64_t j = 0; j < shape.columns; ++j) {
        int64_t* const of_class = own_count.data() + (class_of == nullptr ? 0 : class_of[j]) * core::kColumnCosts;
        for (int64_t lane = 0; lane < width; ++lane) {
          const int32_t v = values[size_t(j * kLanes + lane)];
          ++of_class[core::trellis_place(v)];
          const int64_t distance = int64_t(v) * core::kTargetOne - targets[size_t(j * kLanes + lane)];
          own_error += distance * distance;
        }
      }
      for (int64_t lane = 0; lane < width; ++lane)
        for (int64_t j = 0; j < shape.columns; ++j) out[(first + lane) * shape.columns + j] = int16_t(values[size_t(j * kLanes + lane)]);
    }
    const std::lock_guard<std::mutex> lock(merging);
    error += own_error;
    for (size_t i = 0; i < own_count.size(); ++i) count[i] += own_count[i];
    return Status::kOk;
  });
  check_trellis_status(kOp, status);
  Tensor total = torch::stable::new_empty(weight, {}, ScalarType::Long);
  *total.mutable_data_ptr<int64_t>() = error;
  return {symbols, counts, total};
}

// As quantize_trellis, but later columns make up for what earlier ones err. states 0: each integer for itself.
std::tuple<Tensor, Tensor, Tensor> quantize_feedback_cpu(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, const Tensor& feedback, const Tensor& column_weight,
                                                         std::optional<Tensor> column_step, std::optional<Tensor> column_class) {
  constexpr const char* kOp = "quantize_feedback";
  const auto bytes_of = [&](const Tensor& t) { return host_bytes(kOp, t); };
  const TrellisArguments arguments(kOp, weight, row_step, costs, states, column_step, column_class, bytes_of, true);
  const RowShape shape = arguments.shape;
  const FeedbackArguments feedbacks(kOp, shape.columns, feedback, column_weight, bytes_of);
  const core::FloatType type = arguments.type;
  const Tensor rows = torch::stable::contiguous(weight), steps = torch::stable::contiguous(row_step);
  const float *const of_row = steps.const_data_ptr<float>(), *const of_column = arguments.column_step.empty() ? nullptr : arguments.column_step.data();
  for (int64_t r = 0; r < shape.rows; ++r)
    if (!TrellisArguments::is_step(of_row[r])) check_trellis_status(kOp, Status::kNotFinite);

  Tensor symbols = torch::stable::new_empty(weight, weight.sizes(), ScalarType::Short);
  int16_t* const out = symbols.mutable_data_ptr<int16_t>();
  const core::TrellisCoder& coder = cpu::backend().trellises;
  const auto ways = core::trellis_ways(states == 0 ? 4 : int(states));
  const auto search = states == 0 ? coder.feedback1 : states == 4 ? coder.feedback4 : states == 8 ? coder.feedback8 : coder.feedback32;
  const uint8_t* const class_of = arguments.column_class.empty() ? nullptr : arguments.column_class.data();
  Tensor counts = torch::stable::new_zeros(weight, {costs.size(0), core::kResidues, 2 * core::kReach}, ScalarType::Long);
  int64_t* const count = counts.mutable_data_ptr<int64_t>();
  constexpr int64_t kLanes = format::kLanes;
  const int64_t groups = (shape.rows + kLanes - 1) / kLanes;
  std::vector<double> error(size_t(shape.rows), 0.0);  // summed up in the order of rows, whatever threads there are
  std::mutex merging;
  const uint8_t* const weights = static_cast<const uint8_t*>(rows.const_data_ptr());
  uint32_t lane_numbers[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) lane_numbers[i] = i;
  const Status status = parallel_ranges(groups, 1, [&](int64_t begin, int64_t end) {
    core::ByteBuffer buffer;
    buffer.reserve(core::FeedbackScratch::bytes(shape.columns, int(states)));
    const core::FeedbackScratch memory(buffer.data(), shape.columns, int(states));
    std::vector<int64_t> own_count(size_t(counts.numel()), 0);
    for (int64_t g = begin; g < end; ++g) {
      const int64_t first = g * kLanes, width = std::min(kLanes, shape.rows - first);
      if (width < kLanes) std::fill_n(memory.targets, shape.columns * kLanes, 0.0f);
      for (int64_t lane = 0; lane < width; ++lane) {
        const Status s = coder.find_float_targets(weights + (first + lane) * shape.columns * core::float_bytes(type), type, of_row[first + lane], of_column, shape.columns, memory.targets + lane);
        if (s != Status::kOk) return s;
      }
      search({memory.targets, shape.columns, feedbacks.stride, feedbacks.feedback.data(), feedbacks.weight.data(), arguments.costs.data(), class_of, ways.data(), lane_numbers,
              memory.paths_at, memory.history, memory.decided, memory.decisions, memory.chosen, memory.values});
      for (int64_t j = 0; j < shape.columns; ++j) {
        int64_t* const of_class = own_count.data() + (class_of == nullptr ? 0 : class_of[j]) * core::kColumnCosts;
        for (int64_t lane = 0; lane < width; ++lane) {
          const int64_t at = j * kLanes + lane;
          ++of_class[core::trellis_place(memory.values[at])];
          double& sum = error[size_t(first + lane)];
          sum = core::add_feedback_error(sum, memory.decided[at], feedbacks.weight[size_t(j)]);
          out[(first + lane) * shape.columns + j] = int16_t(memory.values[at]);
        }
      }
    }
    const std::lock_guard<std::mutex> lock(merging);
    for (size_t i = 0; i < own_count.size(); ++i) count[i] += own_count[i];
    return Status::kOk;
  });
  check_trellis_status(kOp, status);
  Tensor total = torch::stable::new_empty(weight, {}, ScalarType::Double);
  *total.mutable_data_ptr<double>() = total_feedback_error(error);
  return {symbols, counts, total};
}

std::tuple<Tensor, Tensor> trellis_costs_cpu(const Tensor& counts, double lagrange, bool halves) {
  constexpr const char* kOp = "trellis_costs";
  check_trellis_counts(kOp, counts, lagrange);
  const Tensor source = torch::stable::contiguous(counts);
  Tensor costs = torch::stable::new_empty(counts, counts.sizes(), ScalarType::Int), bits = torch::stable::new_empty(counts, {}, ScalarType::Double);
  *bits.mutable_data_ptr<double>() = trellis_costs(kOp, source.const_data_ptr<int64_t>(), counts.numel(), lagrange, halves, costs.mutable_data_ptr<int32_t>());
  return {costs, bits};
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("quantize_trellis", TORCH_BOX(&ans::ops::quantize_trellis_cpu));
  m.impl("quantize_feedback", TORCH_BOX(&ans::ops::quantize_feedback_cpu));
  m.impl("trellis_costs", TORCH_BOX(&ans::ops::trellis_costs_cpu));
}
