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

// What both operators do around their kernels.
class TrellisRun {
 public:
  TrellisRun(const char* op, const Tensor& weight, const Tensor& row_step, const TrellisArguments& arguments, int states, ScalarType error_type, cudaStream_t stream)
      : symbols(torch::stable::new_empty(weight, weight.sizes(), ScalarType::Short)),
        counts(torch::stable::new_zeros(weight, {arguments.classes, core::kResidues, 2 * core::kReach}, ScalarType::Long)),
        error(torch::stable::new_zeros(weight, {}, error_type)),
        op_(op),
        arguments_(arguments),
        rows_(torch::stable::contiguous(weight)),
        steps_(torch::stable::contiguous(row_step)),
        scratch_(device_bytes(weight, 0)),
        status_(weight, 1),
        stream_(stream) {
    const auto ways = core::trellis_ways(states);
    costs_at_ = upload.add(arguments.costs), ways_at_ = upload.add(ways.data(), ways.size());
    step_at_ = upload.add(arguments.column_step), class_at_ = upload.add(arguments.column_class);
  }

  bool is_empty() const { return arguments_.shape.rows == 0 || arguments_.shape.columns == 0; }

  // Sends `upload`. As many warps as there is work for, in a bounded memory.
  cuda::TrellisLaunch launch(int64_t bytes_of_warp, int64_t most_bytes) {
    constexpr int64_t kMostWarps = 4096;
    const RowShape shape = arguments_.shape;
    const int64_t warps = std::max<int64_t>(1, std::min({(shape.rows + 31) / 32, kMostWarps, most_bytes / bytes_of_warp}));
    upload.send(op_, rows_, stream_);
    scratch_ = device_bytes(rows_, bytes_of_warp * warps);
    return {rows_.const_data_ptr(),
            arguments_.type,
            steps_.const_data_ptr<float>(),
            arguments_.column_step.empty() ? nullptr : upload.at<float>(step_at_),
            arguments_.column_class.empty() ? nullptr : upload.at<uint8_t>(class_at_),
            upload.at<uint32_t>(costs_at_),
            upload.at<uint32_t>(ways_at_),
            shape.rows,
            shape.columns,
            warps,
            device_pointer<uint32_t>(scratch_),
            device_pointer<int16_t>(symbols),
            device_pointer<unsigned long long>(counts),
            nullptr,
            status_.pointer()};
  }
  void wait(cudaError_t launched) {
    check_cuda(op_, launched);
    status_.wait(op_, stream_);
    check_trellis_status(op_, status_.found(0));
  }

  Upload upload;
  Tensor symbols, counts, error;

 private:
  const char* op_;
  const TrellisArguments& arguments_;
  Tensor rows_, steps_, scratch_;
  Statuses status_;
  cudaStream_t stream_;
  size_t costs_at_, ways_at_, step_at_, class_at_;
};

std::tuple<Tensor, Tensor, Tensor> quantize_trellis_cuda(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, std::optional<Tensor> column_step,
                                                         std::optional<Tensor> column_class) {
  constexpr const char* kOp = "quantize_trellis";
  ANS_CHECK_ARGUMENT(on_gpu(weight), kOp, "weight is not on the GPU of the other arguments");
  const OnDevice here(weight);
  const TrellisArguments arguments(kOp, weight, row_step, costs, states, column_step, column_class, [&](const Tensor& t) { return fetch_now(kOp, t, here.stream); });
  TrellisRun run(kOp, weight, row_step, arguments, int(states), ScalarType::Long, here.stream);
  if (run.is_empty()) return {run.symbols, run.counts, run.error};
  cuda::TrellisLaunch launch = run.launch(512 * arguments.shape.columns, int64_t{1} << 29);
  launch.error = device_pointer<unsigned long long>(run.error);
  run.wait(cuda::quantize_trellis(launch, int(states), here.stream));
  return {run.symbols, run.counts, run.error};
}

// As quantize_trellis, but later columns make up for what earlier ones err. states 0: each integer for itself.
std::tuple<Tensor, Tensor, Tensor> quantize_feedback_cuda(const Tensor& weight, const Tensor& row_step, const Tensor& costs, int64_t states, const Tensor& feedback, const Tensor& column_weight,
                                                          std::optional<Tensor> column_step, std::optional<Tensor> column_class, int64_t survivors) {
  constexpr const char* kOp = "quantize_feedback";
  ANS_CHECK_ARGUMENT(on_gpu(weight), kOp, "weight is not on the GPU of the other arguments");
  const OnDevice here(weight);
  const auto fetch = [&](const Tensor& t) { return fetch_now(kOp, t, here.stream); };
  const TrellisArguments arguments(kOp, weight, row_step, costs, states, column_step, column_class, fetch, true);
  const RowShape shape = arguments.shape;
  const FeedbackArguments feedbacks(kOp, shape.columns, feedback, column_weight, survivors, fetch);
  TrellisRun run(kOp, weight, row_step, arguments, int(states), ScalarType::Double, here.stream);
  if (run.is_empty()) return {run.symbols, run.counts, run.error};
  const size_t feedback_at = run.upload.add(feedbacks.feedback), weight_at = run.upload.add(feedbacks.weight);
  const cuda::TrellisLaunch rows = run.launch(core::FeedbackScratch::bytes(shape.columns, int(states), feedbacks.survivors), int64_t{1} << 30);
  const Tensor row_error = device_bytes(weight, 8 * shape.rows);
  const cuda::FeedbackLaunch launch{rows, feedbacks.survivors, run.upload.at<float>(feedback_at), feedbacks.stride, run.upload.at<float>(weight_at), device_pointer<double>(row_error)};
  run.wait(cuda::quantize_feedback(launch, int(states), here.stream));
  const std::vector<uint8_t> fetched = fetch_now(kOp, row_error, here.stream);
  std::vector<double> of_rows(size_t(shape.rows));
  std::memcpy(of_rows.data(), fetched.data(), fetched.size());
  const double total = total_feedback_error(of_rows);
  check_cuda(kOp, cudaMemcpyAsync(run.error.mutable_data_ptr(), &total, sizeof total, cudaMemcpyHostToDevice, here.stream));
  check_cuda(kOp, cudaStreamSynchronize(here.stream));
  return {run.symbols, run.counts, run.error};
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
