// CPU kernels of trellis-coded quantization.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <tuple>
#include <vector>

#include "core/log2_table.h"
#include "core/normalize.h"
#include "core/weight_target.h"
#include "core/trellis/trellis.h"
#include "core/trellis/trellis_target.h"
#include "cpu/backends.h"
#include "torch/checks.h"
#include "torch/parallel.h"

namespace ans::ops {
namespace {

using core::Status;

void check_states(const char* op, int64_t states) { ANS_CHECK_ARGUMENT(core::is_trellis(int(states)) && states <= 32, op, "states is ", states, ", not 4, 8 or 32"); }

// uint8 [columns] below `classes`, or none, and then all are 0.
std::optional<Tensor> checked_classes(const char* op, const std::optional<Tensor>& column_class, int64_t columns, int64_t classes) {
  if (!column_class.has_value()) return std::nullopt;
  ANS_CHECK_ARGUMENT(column_class->is_cpu() && column_class->scalar_type() == ScalarType::Byte && column_class->dim() == 1 && column_class->numel() == columns, op,
                     "column_class is not a uint8 number for every column");
  Tensor source = torch::stable::contiguous(*column_class);
  const uint8_t* of = static_cast<const uint8_t*>(source.const_data_ptr());
  for (int64_t j = 0; j < columns; ++j) ANS_CHECK_ARGUMENT(of[j] < classes, op, "column ", j, " is of class ", int(of[j]), " of ", classes);
  return source;
}

template <class T>
const T* pointer(const std::optional<Tensor>& t) {
  return t.has_value() ? static_cast<const T*>(t->const_data_ptr()) : nullptr;
}

std::tuple<Tensor, Tensor, Tensor> quantize_trellis_cpu(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, std::optional<Tensor> column_step,
                                                std::optional<Tensor> column_class) {
  constexpr const char* kOp = "quantize_trellis";
  check_states(kOp, states);
  const RowShape shape = row_shape(kOp, weight);
  const core::FloatType type = float_type(kOp, weight.scalar_type());
  ANS_CHECK_ARGUMENT(row_step.is_cpu() && row_step.scalar_type() == ScalarType::Float && row_step.numel() == shape.rows, kOp, "row_step is not a float32 number for every row");
  ANS_CHECK_ARGUMENT(costs.is_cpu() && costs.scalar_type() == ScalarType::Int && costs.dim() == 3 && costs.size(0) >= 1 && costs.size(1) == core::kResidues && costs.size(2) == 2 * core::kReach,
                     kOp, "costs are not int32 [classes, ", core::kResidues, ", ", 2 * core::kReach, "]");
  const Tensor rows = torch::stable::contiguous(weight), steps = torch::stable::contiguous(row_step), cost_table = torch::stable::contiguous(costs);
  const uint32_t* const cost_of = static_cast<const uint32_t*>(cost_table.const_data_ptr());
  for (int64_t i = 0; i < costs.numel(); ++i) ANS_CHECK_ARGUMENT(cost_of[i] < core::kMaxSymbolCost, kOp, "a cost is negative, or ", core::kMaxSymbolCost, " or more");
  std::optional<Tensor> column_steps;
  if (column_step.has_value()) {
    ANS_CHECK_ARGUMENT(column_step->is_cpu() && column_step->scalar_type() == ScalarType::Float && column_step->dim() == 1 && column_step->numel() == shape.columns, kOp,
                       "column_step is not a float32 number for every column");
    column_steps.emplace(torch::stable::contiguous(*column_step));
  }
  const std::optional<Tensor> classes = checked_classes(kOp, column_class, shape.columns, costs.size(0));
  const float *const of_row = steps.const_data_ptr<float>(), *const of_column = pointer<float>(column_steps);
  for (int64_t r = 0; r < shape.rows; ++r) ANS_CHECK(of_row[r] >= 0 && std::isfinite(of_row[r]), kOp, "NotFinite", "a row step is negative, NaN or infinite");
  for (int64_t j = 0; of_column != nullptr && j < shape.columns; ++j)
    ANS_CHECK(of_column[j] > 0 && std::isfinite(of_column[j]), kOp, "NotFinite", "a column step is not positive, NaN or infinite");

  Tensor symbols = torch::stable::new_empty(weight, weight.sizes(), ScalarType::Short);
  int16_t* const out = symbols.mutable_data_ptr<int16_t>();
  const core::TrellisCoder& coder = cpu::backend().trellises;
  const auto search = states == 4 ? coder.search4 : states == 8 ? coder.search8 : coder.search32;
  const uint8_t* const class_of = pointer<uint8_t>(classes);
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
      search({targets.data(), shape.columns, cost_of, class_of, decisions.data(), points.data(), values.data()});
      for (int64_t j = 0; j < shape.columns; ++j) {
        int64_t* const of_class = own_count.data() + (class_of == nullptr ? 0 : class_of[j]) * core::kColumnCosts;
        for (int64_t lane = 0; lane < width; ++lane) {
          const int32_t v = values[size_t(j * kLanes + lane)], m = std::max(-core::kReach, std::min(core::kReach - 1, v >> 2));
          ++of_class[(v & 3) * 2 * core::kReach + m + core::kReach];
          const int64_t distance = int64_t(v) * core::kTargetOne - targets[size_t(j * kLanes + lane)];
          own_error += distance * distance;
        }
      }
      for (int64_t lane = 0; lane < width; ++lane)
        for (int64_t j = 0; j < shape.columns; ++j) out[(first + lane) * shape.columns + j] = int16_t(values[size_t(j * kLanes + lane)] >> 1);
    }
    const std::lock_guard<std::mutex> lock(merging);
    error += own_error;
    for (size_t i = 0; i < own_count.size(); ++i) count[i] += own_count[i];
    return Status::kOk;
  });
  check_status(kOp, status, status == Status::kNotFinite ? "the weight holds NaN or infinity" : "a weight is too many steps large");
  Tensor total = torch::stable::new_empty(weight, {}, ScalarType::Long);
  *total.mutable_data_ptr<int64_t>() = error;
  return {symbols, counts, total};
}

// int32 costs and float64 bits: what symbols cost under the tables that these counts make, one for each class and s & 1, times `lagrange` per bit; and the bits of all that was counted.
std::tuple<Tensor, Tensor> trellis_costs_cpu(const Tensor& counts, double lagrange) {
  constexpr const char* kOp = "trellis_costs";
  ANS_CHECK_ARGUMENT(counts.is_cpu() && counts.scalar_type() == ScalarType::Long && counts.dim() == 3 && counts.size(1) == core::kResidues && counts.size(2) == 2 * core::kReach, kOp,
                     "counts are not what quantize_trellis returns");
  ANS_CHECK_ARGUMENT(std::isfinite(lagrange) && lagrange >= 0, kOp, "lagrange is ", lagrange);
  const Tensor source = torch::stable::contiguous(counts);
  const int64_t* const from = source.const_data_ptr<int64_t>();
  Tensor costs = torch::stable::new_empty(counts, counts.sizes(), ScalarType::Int);
  int32_t* const to = costs.mutable_data_ptr<int32_t>();
  double bits = 0;
  for (int64_t c = 0; c < counts.size(0); ++c)
    for (int odd = 0; odd < 2; ++odd) {
      // k = 2 * m + parity is a number of 8 bits: a table of symbols of that type.
      std::vector<uint64_t> of_symbol(256, 0);
      auto place = [&](int k) { return (c * core::kResidues + 2 * (k & 1) + odd) * 2 * core::kReach + (k >> 1) + core::kReach; };
      for (int k = -128; k < 128; ++k) {
        ANS_CHECK_ARGUMENT(from[place(k)] >= 0, kOp, "a count is negative");
        of_symbol[size_t(k + 128)] = uint64_t(from[place(k)]);
      }
      const core::FrequencyTable table = core::build_table(of_symbol.data(), format::SymbolType::kI8);
      constexpr double kOneBit = double(uint64_t{1} << core::kLog2FractionBits);
      for (int k = -128; k < 128; ++k) {
        const int index = k - table.first_value;
        const bool has_slot = index >= 0 && index < table.core_size && table.freq[size_t(index)] > 0;
        const int freq = has_slot ? table.freq[size_t(index)] : table.has_escape ? table.freq[size_t(table.core_size)] : 1;
        const double length = double(core::code_length(freq)) / kOneBit + (has_slot ? 0 : 8);
        to[place(k)] = int32_t(std::min<double>(std::round(lagrange * length * core::kTargetOne * core::kTargetOne), double(core::kMaxSymbolCost - 1)));
        bits += double(from[place(k)]) * length;
      }
    }
  Tensor total = torch::stable::new_empty(counts, {}, ScalarType::Double);
  *total.mutable_data_ptr<double>() = bits;
  return {costs, total};
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("quantize_trellis", TORCH_BOX(&ans::ops::quantize_trellis_cpu));
  m.impl("trellis_costs", TORCH_BOX(&ans::ops::trellis_costs_cpu));
}
