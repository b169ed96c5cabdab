// CPU kernels of trellis-coded quantization.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
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

// Rows that are searched together.
struct RowGroup {
  int64_t first, width;
};

// What both operators do around their searches.
class TrellisRun {
 public:
  static constexpr int64_t kLanes = format::kLanes;

  TrellisRun(const char* op, const Tensor& weight, const Tensor& row_step, const TrellisArguments& arguments)
      : symbols(torch::stable::new_empty(weight, weight.sizes(), ScalarType::Short)),
        counts(torch::stable::new_zeros(weight, {arguments.classes, core::kResidues, 2 * core::kReach}, ScalarType::Long)),
        arguments_(arguments),
        rows_(torch::stable::contiguous(weight)),
        steps_(torch::stable::contiguous(row_step)),
        weights_(static_cast<const uint8_t*>(rows_.const_data_ptr())),
        of_row_(steps_.const_data_ptr<float>()),
        out_(symbols.mutable_data_ptr<int16_t>()),
        count_(counts.mutable_data_ptr<int64_t>()) {
    for (int64_t r = 0; r < arguments.shape.rows; ++r)
      if (!TrellisArguments::is_step(of_row_[r])) check_trellis_status(op, Status::kNotFinite);
  }

  int64_t groups() const { return (arguments_.shape.rows + kLanes - 1) / kLanes; }
  RowGroup group(int64_t g) const { return {g * kLanes, std::min(kLanes, arguments_.shape.rows - g * kLanes)}; }
  const uint8_t* column_class() const { return arguments_.column_class.empty() ? nullptr : arguments_.column_class.data(); }
  std::vector<int64_t> no_counts() const { return std::vector<int64_t>(size_t(counts.numel()), 0); }

  // To targets[columns][32], by TrellisCoder::find_targets or find_float_targets.
  template <class Target>
  Status find_targets(RowGroup group, Status (*find)(const void*, core::FloatType, float, const float*, int64_t, Target*), Target* targets) const {
    const int64_t columns = arguments_.shape.columns, row_bytes = columns * core::float_bytes(arguments_.type);
    const float* const of_column = arguments_.column_step.empty() ? nullptr : arguments_.column_step.data();
    if (group.width < kLanes) std::fill_n(targets, columns * kLanes, Target(0));
    for (int64_t lane = 0; lane < group.width; ++lane) {
      const int64_t row = group.first + lane;
      if (const Status s = find(weights_ + row * row_bytes, arguments_.type, of_row_[row], of_column, columns, targets + lane); s != Status::kOk) return s;
    }
    return Status::kOk;
  }
  // Integers [columns][32], counted.
  void put_values(RowGroup group, const int32_t* values, std::vector<int64_t>* own_counts) {
    const int64_t columns = arguments_.shape.columns;
    const uint8_t* const class_of = column_class();
    for (int64_t j = 0; j < columns; ++j) {
      int64_t* const of_class = own_counts->data() + (class_of == nullptr ? 0 : class_of[j]) * core::kColumnCosts;
      for (int64_t lane = 0; lane < group.width; ++lane) ++of_class[core::trellis_place(values[j * kLanes + lane])];
    }
    for (int64_t lane = 0; lane < group.width; ++lane)
      for (int64_t j = 0; j < columns; ++j) out_[(group.first + lane) * columns + j] = int16_t(values[j * kLanes + lane]);
  }
  // Of a thread.
  void add_counts(const std::vector<int64_t>& own_counts) {
    const std::lock_guard<std::mutex> lock(merging_);
    for (size_t i = 0; i < own_counts.size(); ++i) count_[i] += own_counts[i];
  }

  Tensor symbols, counts;

 private:
  const TrellisArguments& arguments_;
  const Tensor rows_, steps_;
  const uint8_t* weights_;
  const float* of_row_;
  int16_t* out_;
  int64_t* count_;
  std::mutex merging_;
};

std::tuple<Tensor, Tensor, Tensor> quantize_trellis_cpu(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, std::optional<Tensor> column_step,
                                                std::optional<Tensor> column_class) {
  constexpr const char* kOp = "quantize_trellis";
  const auto bytes_of = [&](const Tensor& t) { return host_bytes(kOp, t); };
  const TrellisArguments arguments(kOp, weight, row_step, costs, states, column_step, column_class, bytes_of);
  TrellisRun run(kOp, weight, row_step, arguments);
  const core::TrellisCoder& coder = cpu::backend().trellises;
  const auto ways = core::trellis_ways(int(states));
  const auto search = states == 4 ? coder.search4 : states == 8 ? coder.search8 : coder.search32;
  const int64_t columns = arguments.shape.columns;
  std::atomic<int64_t> error{0};
  const Status status = parallel_ranges(run.groups(), 1, [&](int64_t begin, int64_t end) {
    const size_t size = size_t(columns * format::kLanes);
    std::vector<int32_t> targets(size), values(size);
    std::vector<uint32_t> decisions(size), points(size);
    std::vector<int64_t> own_counts = run.no_counts();
    int64_t own_error = 0;
    for (int64_t g = begin; g < end; ++g) {
      const RowGroup group = run.group(g);
      if (const Status s = run.find_targets(group, coder.find_targets, targets.data()); s != Status::kOk) return s;
      search({targets.data(), columns, arguments.costs.data(), run.column_class(), ways.data(), decisions.data(), points.data(), values.data()});
      run.put_values(group, values.data(), &own_counts);
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t lane = 0; lane < group.width; ++lane) {
          const size_t at = size_t(j * format::kLanes + lane);
          const int64_t distance = int64_t(values[at]) * core::kTargetOne - targets[at];
          own_error += distance * distance;
        }
    }
    error += own_error;
    run.add_counts(own_counts);
    return Status::kOk;
  });
  check_trellis_status(kOp, status);
  Tensor total = torch::stable::new_empty(weight, {}, ScalarType::Long);
  *total.mutable_data_ptr<int64_t>() = error;
  return {run.symbols, run.counts, total};
}

// As quantize_trellis, but later columns make up for what earlier ones err. states 0: each integer for itself.
std::tuple<Tensor, Tensor, Tensor> quantize_feedback_cpu(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, const Tensor& feedback, const Tensor& column_weight,
                                                         std::optional<Tensor> column_step, std::optional<Tensor> column_class, int64_t survivors) {
  constexpr const char* kOp = "quantize_feedback";
  const auto bytes_of = [&](const Tensor& t) { return host_bytes(kOp, t); };
  const TrellisArguments arguments(kOp, weight, row_step, costs, states, column_step, column_class, bytes_of, true);
  const int64_t columns = arguments.shape.columns;
  const FeedbackArguments feedbacks(kOp, columns, feedback, column_weight, survivors, bytes_of);
  TrellisRun run(kOp, weight, row_step, arguments);
  const core::TrellisCoder& coder = cpu::backend().trellises;
  const auto search = coder.feedback.of(int(states), feedbacks.survivors);
  std::vector<double> error(size_t(arguments.shape.rows), 0.0);  // summed up in the order of rows, whatever threads there are
  const auto ways = core::trellis_ways(int(states));
  uint32_t lane_numbers[format::kLanes];
  std::iota(lane_numbers, lane_numbers + format::kLanes, 0u);
  const Status status = parallel_ranges(run.groups(), 1, [&](int64_t begin, int64_t end) {
    core::ByteBuffer buffer;
    buffer.reserve(core::FeedbackScratch::bytes(columns, int(states), feedbacks.survivors));
    const core::FeedbackScratch memory(buffer.data(), columns, int(states), feedbacks.survivors);
    std::vector<int64_t> own_counts = run.no_counts();
    for (int64_t g = begin; g < end; ++g) {
      const RowGroup group = run.group(g);
      if (const Status s = run.find_targets(group, coder.find_float_targets, memory.targets); s != Status::kOk) return s;
      search({memory, feedbacks.survivors, columns, feedbacks.stride, feedbacks.feedback.data(), feedbacks.weight.data(), arguments.costs.data(), run.column_class(), ways.data(), lane_numbers});
      run.put_values(group, memory.values, &own_counts);
      for (int64_t j = 0; j < columns; ++j)
        for (int64_t lane = 0; lane < group.width; ++lane) {
          double& sum = error[size_t(group.first + lane)];
          sum = core::add_feedback_error(sum, memory.decided[j * format::kLanes + lane], feedbacks.weight[size_t(j)]);
        }
    }
    run.add_counts(own_counts);
    return Status::kOk;
  });
  check_trellis_status(kOp, status);
  Tensor total = torch::stable::new_empty(weight, {}, ScalarType::Double);
  *total.mutable_data_ptr<double>() = total_feedback_error(error);
  return {run.symbols, run.counts, total};
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
