// CUDA kernels of trellis-coded quantization.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <algorithm>
#include <cstring>
#include <optional>
#include <tuple>
#include <vector>

#include "cuda/launch.h"
#include "torch/checks.h"
#include "torch/cuda_support.h"
#include "torch/trellis_args.h"

namespace ans::ops {
namespace {

std::tuple<Tensor, Tensor, Tensor> quantize_trellis_cuda(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, std::optional<Tensor> column_step,
                                                         std::optional<Tensor> column_class) {
  constexpr const char* kOp = "quantize_trellis";
  ANS_CHECK_ARGUMENT(on_gpu(weight), kOp, "weight is not on the GPU of the other arguments");
  const OnDevice here(weight);
  const TrellisArguments arguments(kOp, weight, row_step, costs, states, column_step, column_class, [&](const Tensor& t) { return fetch_now(kOp, t, here.stream); });
  const RowShape shape = arguments.shape;
  const Tensor rows = torch::stable::contiguous(weight), steps = torch::stable::contiguous(row_step);
  Tensor symbols = torch::stable::new_empty(weight, weight.sizes(), ScalarType::Short);
  Tensor counts = torch::stable::new_zeros(weight, {arguments.classes, core::kResidues, 2 * core::kReach}, ScalarType::Long);
  Tensor error = torch::stable::new_zeros(weight, {}, ScalarType::Long);
  if (shape.rows == 0 || shape.columns == 0) return {symbols, counts, error};

  const auto ways = core::trellis_ways(int(states));
  Upload upload;
  const size_t costs_at = upload.add(arguments.costs), ways_at = upload.add(ways.data(), ways.size()), step_at = upload.add(arguments.column_step), class_at = upload.add(arguments.column_class);
  upload.send(kOp, weight, here.stream);
  // As many warps as there is work for, in a bounded memory.
  constexpr int64_t kMostWarps = 4096, kMostBytes = int64_t{1} << 29;
  const int64_t bytes_of_one = 512 * shape.columns, warps = std::max<int64_t>(1, std::min({(shape.rows + 31) / 32, kMostWarps, kMostBytes / bytes_of_one}));
  const Tensor scratch = device_bytes(weight, bytes_of_one * warps);
  Statuses status(weight, 1);
  const cuda::TrellisLaunch launch{rows.const_data_ptr(),
                                   steps.const_data_ptr<float>(),
                                   arguments.column_step.empty() ? nullptr : upload.at<float>(step_at),
                                   arguments.column_class.empty() ? nullptr : upload.at<uint8_t>(class_at),
                                   upload.at<uint32_t>(costs_at),
                                   upload.at<uint32_t>(ways_at),
                                   shape.rows,
                                   shape.columns,
                                   warps,
                                   device_pointer<uint32_t>(scratch),
                                   device_pointer<int16_t>(symbols),
                                   device_pointer<unsigned long long>(counts),
                                   device_pointer<unsigned long long>(error),
                                   status.pointer()};
  check_cuda(kOp, cuda::quantize_trellis(launch, int(states), arguments.type, here.stream));
  status.wait(kOp, here.stream);
  check_trellis_status(kOp, status.found(0));
  return {symbols, counts, error};
}

// As quantize_trellis, but later columns make up for what earlier ones err. states 0: each integer for itself.
std::tuple<Tensor, Tensor, Tensor> quantize_feedback_cuda(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, const Tensor& feedback, const Tensor& column_weight,
                                                          std::optional<Tensor> column_step, std::optional<Tensor> column_class) {
  constexpr const char* kOp = "quantize_feedback";
  ANS_CHECK_ARGUMENT(on_gpu(weight), kOp, "weight is not on the GPU of the other arguments");
  const OnDevice here(weight);
  const auto fetch = [&](const Tensor& t) { return fetch_now(kOp, t, here.stream); };
  const TrellisArguments arguments(kOp, weight, row_step, costs, states, column_step, column_class, fetch, true);
  const RowShape shape = arguments.shape;
  const FeedbackArguments feedbacks(kOp, shape.columns, feedback, column_weight, fetch);
  const Tensor rows = torch::stable::contiguous(weight), steps = torch::stable::contiguous(row_step);
  Tensor symbols = torch::stable::new_empty(weight, weight.sizes(), ScalarType::Short);
  Tensor counts = torch::stable::new_zeros(weight, {arguments.classes, core::kResidues, 2 * core::kReach}, ScalarType::Long);
  Tensor error = torch::stable::new_zeros(weight, {}, ScalarType::Double);
  if (shape.rows == 0 || shape.columns == 0) return {symbols, counts, error};

  const auto ways = core::trellis_ways(states == 0 ? 4 : int(states));
  Upload upload;
  const size_t costs_at = upload.add(arguments.costs), ways_at = upload.add(ways.data(), ways.size()), step_at = upload.add(arguments.column_step), class_at = upload.add(arguments.column_class);
  const size_t feedback_at = upload.add(feedbacks.feedback), weight_at = upload.add(feedbacks.weight);
  upload.send(kOp, weight, here.stream);
  constexpr int64_t kMostWarps = 4096, kMostBytes = int64_t{1} << 30;
  const int64_t bytes_of_one = core::FeedbackScratch::bytes(shape.columns, int(states)), warps = std::max<int64_t>(1, std::min({(shape.rows + 31) / 32, kMostWarps, kMostBytes / bytes_of_one}));
  const Tensor scratch = device_bytes(weight, bytes_of_one * warps), row_error = device_bytes(weight, 8 * shape.rows);
  Statuses status(weight, 1);
  const cuda::FeedbackLaunch launch{{rows.const_data_ptr(),
                                     steps.const_data_ptr<float>(),
                                     arguments.column_step.empty() ? nullptr : upload.at<float>(step_at),
                                     arguments.column_class.empty() ? nullptr : upload.at<uint8_t>(class_at),
                                     upload.at<uint32_t>(costs_at),
                                     upload.at<uint32_t>(ways_at),
                                     shape.rows,
                                     shape.columns,
                                     warps,
                                     device_pointer<uint32_t>(scratch),
                                     device_pointer<int16_t>(symbols),
                                     device_pointer<unsigned long long>(counts),
                                     nullptr,
                                     status.pointer()},
                                    upload.at<float>(feedback_at),
                                    feedbacks.stride,
                                    upload.at<float>(weight_at),
                                    device_pointer<double>(row_error)};
  check_cuda(kOp, cuda::quantize_feedback(launch, int(states), arguments.type, here.stream));
  status.wait(kOp, here.stream);
  check_trellis_status(kOp, status.found(0));
  const std::vector<uint8_t> fetched = fetch_now(kOp, row_error, here.stream);
  std::vector<double> of_rows(size_t(shape.rows));
  std::memcpy(of_rows.data(), fetched.data(), fetched.size());
  const double total = total_feedback_error(of_rows);
  check_cuda(kOp, cudaMemcpyAsync(error.mutable_data_ptr(), &total, sizeof total, cudaMemcpyHostToDevice, here.stream));
  check_cuda(kOp, cudaStreamSynchronize(here.stream));
  return {symbols, counts, error};
}

// Tables are made on the host, as those of streams are.
std::tuple<Tensor, Tensor> trellis_costs_cuda(const Tensor& counts, double lagrange, bool halves) {
  constexpr const char* kOp = "trellis_costs";
  check_trellis_counts(kOp, counts, lagrange);
  const OnDevice here(counts);
  const std::vector<uint8_t> bytes = fetch_now(kOp, counts, here.stream);
  std::vector<int64_t> numbers(bytes.size() / sizeof(int64_t));
  if (!numbers.empty()) std::memcpy(numbers.data(), bytes.data(), bytes.size());
  std::vector<int32_t> found(numbers.size());
  const double bits = trellis_costs(kOp, numbers.data(), int64_t(numbers.size()), lagrange, halves, found.data());
  Tensor costs = torch::stable::new_empty(counts, counts.sizes(), ScalarType::Int), total = torch::stable::new_empty(counts, {}, ScalarType::Double);
  if (!found.empty()) check_cuda(kOp, cudaMemcpyAsync(costs.mutable_data_ptr(), found.data(), found.size() * sizeof(int32_t), cudaMemcpyHostToDevice, here.stream));
  check_cuda(kOp, cudaMemcpyAsync(total.mutable_data_ptr(), &bits, sizeof bits, cudaMemcpyHostToDevice, here.stream));
  return {costs, total};
}

}  // namespace
}  // namespace ans::ops

ANS_CUDA_KERNELS(m) {
  m.impl("quantize_trellis", TORCH_BOX(&ans::ops::quantize_trellis_cuda));
  m.impl("quantize_feedback", TORCH_BOX(&ans::ops::quantize_feedback_cuda));
  m.impl("trellis_costs", TORCH_BOX(&ans::ops::trellis_costs_cuda));
}
