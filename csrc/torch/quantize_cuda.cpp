// CUDA kernels of the quantizer and of histogram: argument checks, allocation, the current stream. The host compiler builds this file; device code is behind cuda/launch.h.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <optional>
#include <tuple>
#include <vector>

#include "cuda/launch.h"
#include "torch/checks.h"
#include "torch/cuda_support.h"
#include "torch/histograms_cuda.h"

namespace ans::ops {
namespace {

constexpr const char* kWeightNotFinite = "the weight holds NaN or infinity";
constexpr const char* kBadRowScale = "a row scale is negative, NaN or infinite";

// The operators of one tensor are those of many, with one.
Tensor only(const std::vector<Tensor>& tensors) { return tensors[0]; }

void check_all_here(const char* op, const std::vector<Tensor>& tensors, const char* name) {
  for (const Tensor& t : tensors) check_same_device(op, tensors[0], t, name);
}

std::vector<Tensor> contiguous_all(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> result;
  for (const Tensor& t : tensors) result.push_back(torch::stable::contiguous(t));
  return result;
}

// Queues row scales; the jobs are kept by `upload`.
std::vector<Tensor> queue_row_scales(const char* op, const std::vector<Tensor>& weights, int bits, double clip, Statuses& statuses, cudaStream_t stream) {
  std::vector<Tensor> scales;
  std::vector<cuda::RowScaleJob> jobs;
  int64_t rows = 0;
  for (const Tensor& weight : weights) {
    const RowShape shape = row_shape(op, weight);
    scales.push_back(torch::stable::new_empty(weight, leading_shape(weight), ScalarType::Float));
    jobs.push_back({weight.const_data_ptr(), scales.back().mutable_data_ptr<float>(), shape.columns, rows, float_type(op, weight.scalar_type())});
    rows += shape.rows;
  }
  Upload upload;
  const size_t at = upload.add(jobs);
  upload.send(op, weights[0], stream);
  check_cuda(op, cuda::row_scales(upload.at<cuda::RowScaleJob>(at), int(jobs.size()), rows, bits, clip, statuses.pointer(), stream));
  return scales;
}

std::tuple<std::vector<Tensor>, std::vector<Tensor>> queue_pack_scales(const char* op, const std::vector<Tensor>& row_scales, Statuses& statuses, cudaStream_t stream) {
  std::vector<Tensor> scales, exponents;
  std::vector<cuda::PackScaleJob> jobs;
  int64_t rows = 0;
  for (const Tensor& row_scale : row_scales) {
    scales.push_back(torch::stable::new_empty(row_scale, row_scale.sizes(), ScalarType::Half));
    exponents.push_back(torch::stable::new_empty(row_scale, {}, ScalarType::Int));
    jobs.push_back({row_scale.const_data_ptr<float>(), device_pointer<core::Float16>(scales.back()), exponents.back().mutable_data_ptr<int32_t>(), rows});
    rows += row_scale.numel();
  }
  Upload upload;
  const size_t at = upload.add(jobs);
  upload.send(op, row_scales[0], stream);
  const Tensor scratch = device_bytes(row_scales[0], int64_t(jobs.size() * cuda::kPackScaleScratchBytes));
  check_cuda(op, cuda::pack_scales(upload.at<cuda::PackScaleJob>(at), int(jobs.size()), rows, scratch.mutable_data_ptr(), statuses.pointer(), stream));
  return {scales, exponents};
}

std::vector<Tensor> queue_quantize_rows(const char* op, const std::vector<Tensor>& weights, const std::vector<Tensor>& scales, const std::vector<Tensor>& exponents, int bits,
                                        Statuses& statuses, cudaStream_t stream) {
  std::vector<Tensor> symbols;
  std::vector<cuda::QuantizeJob> jobs;
  int64_t tiles = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const Tensor& weight = weights[i];
    symbols.push_back(torch::stable::new_empty(weight, weight.sizes(), ScalarType::Char));
    jobs.push_back({weight.const_data_ptr(), static_cast<const core::Float16*>(scales[i].const_data_ptr()), exponents[i].const_data_ptr<int32_t>(),
                    symbols.back().mutable_data_ptr<int8_t>(), weight.numel(), row_shape(op, weight).columns, tiles, float_type(op, weight.scalar_type())});
    tiles += cuda::quantize_tiles(weight.numel());
  }
  Upload upload;
  const size_t at = upload.add(jobs);
  upload.send(op, weights[0], stream);
  check_cuda(op, cuda::quantize_rows(upload.at<cuda::QuantizeJob>(at), int(jobs.size()), tiles, bits, statuses.pointer(), stream));
  return symbols;
}

void check_weights(const char* op, const std::vector<Tensor>& weights) {
  ANS_CHECK_ARGUMENT(!weights.empty(), op, "there are no tensors");
  check_all_here(op, weights, "a weight");
  for (const Tensor& weight : weights) {
    row_shape(op, weight);
    float_type(op, weight.scalar_type());
  }
}

std::vector<Tensor> row_scale_all(const char* op, const std::vector<Tensor>& weights, int64_t bits, std::optional<double> clip_sigmas) {
  const int checked_bits = check_bits(op, bits);
  const double clip = check_clip_sigmas(op, clip_sigmas);
  check_weights(op, weights);
  const OnDevice here(weights[0]);
  Statuses statuses(weights[0], weights.size());
  const std::vector<Tensor> rows = contiguous_all(weights);
  const std::vector<Tensor> scales = queue_row_scales(op, rows, checked_bits, clip, statuses, here.stream);
  statuses.wait_and_check(op, here.stream, kWeightNotFinite);
  return scales;
}

std::tuple<std::vector<Tensor>, std::vector<Tensor>> pack_scale_all(const char* op, const std::vector<Tensor>& row_scales) {
  ANS_CHECK_ARGUMENT(!row_scales.empty(), op, "there are no tensors");
  check_all_here(op, row_scales, "a row_scale");
  for (const Tensor& t : row_scales) ANS_CHECK_ARGUMENT(t.scalar_type() == ScalarType::Float, op, "row_scale is not float32");
  const OnDevice here(row_scales[0]);
  Statuses statuses(row_scales[0], row_scales.size());
  const std::vector<Tensor> rows = contiguous_all(row_scales);
  auto result = queue_pack_scales(op, rows, statuses, here.stream);
  statuses.wait_and_check(op, here.stream, kBadRowScale);
  return result;
}

std::vector<Tensor> quantize_rows_all(const char* op, const std::vector<Tensor>& weights, const std::vector<Tensor>& scales, const std::vector<Tensor>& exponents, int64_t bits) {
  const int checked_bits = check_bits(op, bits);
  ANS_CHECK_ARGUMENT(weights.size() == scales.size() && weights.size() == exponents.size(), op, weights.size(), " weights, ", scales.size(), " scales and ", exponents.size(),
                     " exponents");
  check_weights(op, weights);
  for (size_t i = 0; i < weights.size(); ++i) check_row_scales(op, weights[i], scales[i], exponents[i]);
  const OnDevice here(weights[0]);
  Statuses statuses(weights[0], weights.size());
  const std::vector<Tensor> rows = contiguous_all(weights), row_scales = contiguous_all(scales);
  const std::vector<Tensor> symbols = queue_quantize_rows(op, rows, row_scales, exponents, checked_bits, statuses, here.stream);
  statuses.wait_and_check(op, here.stream, kWeightNotFinite);
  return symbols;
}

// All three, with one wait.
std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>> quantize_all(const char* op, const std::vector<Tensor>& weights, int64_t bits,
                                                                                         std::optional<double> clip_sigmas) {
  const int checked_bits = check_bits(op, bits);
  const double clip = check_clip_sigmas(op, clip_sigmas);
  check_weights(op, weights);
  const OnDevice here(weights[0]);
  Statuses statuses(weights[0], weights.size());
  const std::vector<Tensor> rows = contiguous_all(weights);
  const auto [scales, exponents] = queue_pack_scales(op, queue_row_scales(op, rows, checked_bits, clip, statuses, here.stream), statuses, here.stream);
  const std::vector<Tensor> symbols = queue_quantize_rows(op, rows, scales, exponents, checked_bits, statuses, here.stream);
  statuses.wait_and_check(op, here.stream, kWeightNotFinite);
  return {symbols, scales, exponents};
}

Tensor row_scale_cuda(const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) { return only(row_scale_all("row_scale", {weight}, bits, clip_sigmas)); }
std::vector<Tensor> row_scale_many_cuda(std::vector<Tensor> weights, int64_t bits, std::optional<double> clip_sigmas) {
  return row_scale_all("row_scale_many", weights, bits, clip_sigmas);
}
std::tuple<Tensor, Tensor> pack_scale_cuda(const Tensor& row_scale) {
  const auto [scales, exponents] = pack_scale_all("pack_scale", {row_scale});
  return {scales[0], exponents[0]};
}
std::tuple<std::vector<Tensor>, std::vector<Tensor>> pack_scale_many_cuda(std::vector<Tensor> row_scales) { return pack_scale_all("pack_scale_many", row_scales); }
Tensor quantize_rows_cuda(const Tensor& weight, const Tensor& scale, const Tensor& exponent, int64_t bits) {
  return only(quantize_rows_all("quantize_rows", {weight}, {scale}, {exponent}, bits));
}
std::vector<Tensor> quantize_rows_many_cuda(std::vector<Tensor> weights, std::vector<Tensor> scales, std::vector<Tensor> exponents, int64_t bits) {
  return quantize_rows_all("quantize_rows_many", weights, scales, exponents, bits);
}
std::tuple<Tensor, Tensor, Tensor> quantize_cuda(const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) {
  const auto [symbols, scales, exponents] = quantize_all("quantize", {weight}, bits, clip_sigmas);
  return {symbols[0], scales[0], exponents[0]};
}
std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>> quantize_many_cuda(std::vector<Tensor> weights, int64_t bits, std::optional<double> clip_sigmas) {
  return quantize_all("quantize_many", weights, bits, clip_sigmas);
}

Tensor dequantize_cuda(const Tensor& symbols, const Tensor& scale, const Tensor& exponent, ScalarType dtype, std::optional<Tensor> column_factor) {
  constexpr const char* kOp = "dequantize";
  const RowShape shape = row_shape(kOp, symbols);
  const core::FloatType type = float_type(kOp, dtype);
  const format::SymbolType source_type = symbol_type(kOp, symbols.scalar_type());
  check_row_scales(kOp, symbols, scale, exponent);
  if (column_factor.has_value()) check_column_factor(kOp, symbols, *column_factor);

  const OnDevice here(symbols);
  const Tensor rows = torch::stable::contiguous(symbols), row_scales = torch::stable::contiguous(scale);
  std::optional<Tensor> factor;
  if (column_factor.has_value()) factor.emplace(torch::stable::contiguous(*column_factor));
  Tensor weight = torch::stable::new_empty(symbols, symbols.sizes(), dtype);
  check_cuda(kOp, cuda::dequantize(rows.const_data_ptr(), source_type, shape.rows, shape.columns, static_cast<const core::Float16*>(row_scales.const_data_ptr()),
                                   exponent.const_data_ptr<int32_t>(), weight.mutable_data_ptr(), type,
                                   factor.has_value() ? factor->const_data_ptr<float>() : nullptr, here.stream));
  return weight;
}

cuda::HistogramJob histogram_job(const Tensor& symbols, const uint8_t* contexts, int64_t num_contexts, format::SymbolType type, int64_t* counts, int64_t first) {
  const int64_t numel = symbols.numel();
  return {symbols.const_data_ptr(), contexts, numel, counts, first, cuda::histogram_blocks(numel), int(num_contexts), format::symbol_min(type), format::symbol_values(type), type};
}

// Of symbols (contiguous) of one byte, by CUB.
Tensor byte_counts(const char* op, const Tensor& symbols, format::SymbolType type, cudaStream_t stream) {
  const int64_t values = format::symbol_values(type), half = values / 2;
  const uint8_t* const bytes = static_cast<const uint8_t*>(symbols.const_data_ptr());
  Tensor counts = torch::stable::new_empty(symbols, {1, values}, ScalarType::Long);
  int64_t* const counters = counts.mutable_data_ptr<int64_t>();
  size_t scratch_bytes = 0;
  check_cuda(op, cuda::byte_histogram(nullptr, &scratch_bytes, bytes, symbols.numel(), counters, stream));
  const Tensor scratch = device_bytes(symbols, int64_t(scratch_bytes));
  check_cuda(op, cuda::byte_histogram(scratch.mutable_data_ptr(), &scratch_bytes, bytes, symbols.numel(), counters, stream));
  if (type == format::SymbolType::kU8) return counts;
  // Negative values are the bytes from 128 on, and come first.
  Tensor in_order = torch::stable::new_empty(symbols, {1, values}, ScalarType::Long);
  int64_t* const to = in_order.mutable_data_ptr<int64_t>();
  check_cuda(op, cudaMemcpyAsync(to, counters + half, size_t(half) * sizeof(int64_t), cudaMemcpyDeviceToDevice, stream));
  check_cuda(op, cudaMemcpyAsync(to + half, counters, size_t(half) * sizeof(int64_t), cudaMemcpyDeviceToDevice, stream));
  return in_order;
}

Tensor histogram_cuda(const Tensor& symbols, const std::optional<Tensor>& contexts, int64_t num_contexts) {
  constexpr const char* kOp = "histogram";
  const format::SymbolType type = symbol_type(kOp, symbols.scalar_type());
  check_contexts(kOp, symbols, contexts, num_contexts);

  const OnDevice here(symbols);
  const Tensor source = torch::stable::contiguous(symbols);
  if (!contexts.has_value() && type != format::SymbolType::kI16) return byte_counts(kOp, source, type, here.stream);
  Tensor counts = torch::stable::new_zeros(symbols, {num_contexts, format::symbol_values(type)}, ScalarType::Long);
  std::optional<Tensor> context_of;
  if (contexts.has_value()) context_of = torch::stable::contiguous(*contexts);
  const uint8_t* const context = context_of ? static_cast<const uint8_t*>(context_of->const_data_ptr()) : nullptr;
  const std::vector<cuda::HistogramJob> jobs{histogram_job(source, context, num_contexts, type, counts.mutable_data_ptr<int64_t>(), 0)};
  Statuses statuses(symbols, 1);
  Upload upload;
  const size_t at = upload.add(jobs);
  upload.send(kOp, symbols, here.stream);
  check_cuda(kOp, cuda::histograms(upload.at<cuda::HistogramJob>(at), 1, jobs[0].blocks, statuses.pointer(), here.stream));
  if (context != nullptr) statuses.wait_and_check(kOp, here.stream, "a context is not below num_contexts");
  return counts;
}

}  // namespace

Tensor queue_histograms(const char* op, const std::vector<Tensor>& symbols, std::vector<int64_t>* begin, cudaStream_t stream) {
  int64_t bins = 0, blocks = 0;
  begin->clear();
  for (const Tensor& t : symbols) {
    begin->push_back(bins);
    bins += format::symbol_values(symbol_type(op, t.scalar_type()));
  }
  Tensor counts = torch::stable::new_zeros(symbols[0], {bins}, ScalarType::Long);
  std::vector<cuda::HistogramJob> jobs;
  for (size_t i = 0; i < symbols.size(); ++i) {
    jobs.push_back(histogram_job(symbols[i], nullptr, 1, symbol_type(op, symbols[i].scalar_type()), counts.mutable_data_ptr<int64_t>() + (*begin)[i], blocks));
    blocks += jobs.back().blocks;
  }
  Upload upload;
  const size_t at = upload.add(jobs);
  upload.send(op, symbols[0], stream);
  check_cuda(op, cuda::histograms(upload.at<cuda::HistogramJob>(at), int(jobs.size()), blocks, nullptr, stream));  // without contexts nothing can be wrong
  return counts;
}

namespace {

Tensor histogram_many_cuda(std::vector<Tensor> symbols) {
  constexpr const char* kOp = "histogram_many";
  check_symbols_alike(kOp, symbols);
  check_all_here(kOp, symbols, "a tensor");
  const OnDevice here(symbols[0]);
  const std::vector<Tensor> sources = contiguous_all(symbols);
  std::vector<int64_t> begin;
  return torch::stable::view(queue_histograms(kOp, sources, &begin, here.stream), {int64_t(symbols.size()), -1});
}

}  // namespace
}  // namespace ans::ops

ANS_CUDA_KERNELS(m) {
  m.impl("row_scale", TORCH_BOX(&ans::ops::row_scale_cuda));
  m.impl("row_scale_many", TORCH_BOX(&ans::ops::row_scale_many_cuda));
  m.impl("pack_scale", TORCH_BOX(&ans::ops::pack_scale_cuda));
  m.impl("pack_scale_many", TORCH_BOX(&ans::ops::pack_scale_many_cuda));
  m.impl("quantize_rows", TORCH_BOX(&ans::ops::quantize_rows_cuda));
  m.impl("quantize_rows_many", TORCH_BOX(&ans::ops::quantize_rows_many_cuda));
  m.impl("quantize", TORCH_BOX(&ans::ops::quantize_cuda));
  m.impl("quantize_many", TORCH_BOX(&ans::ops::quantize_many_cuda));
  m.impl("dequantize", TORCH_BOX(&ans::ops::dequantize_cuda));
  m.impl("histogram", TORCH_BOX(&ans::ops::histogram_cuda));
  m.impl("histogram_many", TORCH_BOX(&ans::ops::histogram_many_cuda));
}
