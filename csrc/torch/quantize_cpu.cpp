// CPU kernels of the quantizer and of histogram.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "core/histogram.h"
#include "core/weight_target.h"
#include "cpu/backends.h"
#include "torch/checks.h"
#include "torch/parallel.h"

namespace ans::ops {

namespace {

constexpr int64_t kGrainElements = 1 << 16;  // what is worth a thread
int64_t row_grain(int64_t columns) { return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, columns)); }

Tensor row_scale_cpu(const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) {
  constexpr const char* kOp = "row_scale";
  const RowShape shape = row_shape(kOp, weight);
  const core::FloatType type = float_type(kOp, weight.scalar_type());
  const int checked_bits = check_bits(kOp, bits);
  const double clip = check_clip_sigmas(kOp, clip_sigmas);
  const Tensor rows = torch::stable::contiguous(weight);
  Tensor scale = torch::stable::new_empty(weight, leading_shape(weight), ScalarType::Float);
  const uint8_t* source = static_cast<const uint8_t*>(rows.const_data_ptr());
  float* out = scale.mutable_data_ptr<float>();
  const core::QuantizeKernels& kernels = cpu::backend().quantizer;
  std::atomic<int64_t> bad_row{shape.rows};  // the first one, whatever the threads
  const core::Status status = parallel_ranges(shape.rows, row_grain(shape.columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      core::RowStatistics statistics;
      kernels.row_statistics(source + r * shape.columns * core::float_bytes(type), type, shape.columns, &statistics);
      if (!core::is_finite_row(statistics)) {
        for (int64_t before = bad_row; r < before && !bad_row.compare_exchange_weak(before, r);) continue;
        return core::Status::kNotFinite;
      }
      out[r] = core::row_scale(statistics, shape.columns, checked_bits, clip);
    }
    return core::Status::kOk;
  });
  ANS_CHECK(status == core::Status::kOk, kOp, "NotFinite", "row ", bad_row.load(), " of the weight holds NaN or infinity");
  return scale;
}

std::tuple<Tensor, Tensor> pack_scale_cpu(const Tensor& row_scale) {
  constexpr const char* kOp = "pack_scale";
  ANS_CHECK_ARGUMENT(row_scale.scalar_type() == ScalarType::Float, kOp, "row_scale is not float32");
  const Tensor rows = torch::stable::contiguous(row_scale);
  const float* source = rows.const_data_ptr<float>();
  const int64_t n = rows.numel();
  float smallest = 0.0f, largest = 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    const float s = source[i];
    ANS_CHECK(s >= 0.0f && core::float_bits(s) < 0x7f800000u, kOp, "NotFinite", "a row scale is negative, NaN or infinite");
    if (s == 0.0f) continue;
    smallest = largest == 0.0f ? s : std::min(smallest, s);
    largest = std::max(largest, s);
  }
  const int32_t e = core::scale_exponent(smallest, largest);
  Tensor scale = torch::stable::new_empty(row_scale, row_scale.sizes(), ScalarType::Half);
  Tensor exponent = torch::stable::new_empty(row_scale, {}, ScalarType::Int);
  core::Float16* out = static_cast<core::Float16*>(scale.mutable_data_ptr());
  for (int64_t i = 0; i < n; ++i) out[i] = core::pack_scale(source[i], e);
  *exponent.mutable_data_ptr<int32_t>() = e;
  return {scale, exponent};
}

Tensor quantize_rows_cpu(const Tensor& weight, const Tensor& scale, const Tensor& exponent, int64_t bits) {
  constexpr const char* kOp = "quantize_rows";
  const RowShape shape = row_shape(kOp, weight);
  const core::FloatType type = float_type(kOp, weight.scalar_type());
  const int32_t limit = core::symbol_limit(check_bits(kOp, bits));
  check_row_scales(kOp, weight, scale, exponent);
  const Tensor rows = torch::stable::contiguous(weight), scales = torch::stable::contiguous(scale);
  Tensor symbols = host_result(weight, weight.sizes(), ScalarType::Char);
  const uint8_t* source = static_cast<const uint8_t*>(rows.const_data_ptr());
  const core::Float16* row_scales = static_cast<const core::Float16*>(scales.const_data_ptr());
  const int32_t e = *exponent.const_data_ptr<int32_t>();
  int8_t* out = symbols.mutable_data_ptr<int8_t>();
  const core::QuantizeKernels& kernels = cpu::backend().quantizer;
  const core::Status status = parallel_ranges(shape.rows, row_grain(shape.columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = r * shape.columns;
      if (!kernels.quantize(source + at * core::float_bytes(type), type, shape.columns, core::unpack_scale(row_scales[r], e), limit, out + at))
        return core::Status::kNotFinite;
    }
    return core::Status::kOk;
  });
  check_status(kOp, status, "the weight holds NaN or infinity");
  return symbols;
}

std::tuple<Tensor, Tensor, Tensor> quantize_cpu(const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) {
  auto [scale, exponent] = pack_scale_cpu(row_scale_cpu(weight, bits, clip_sigmas));
  Tensor symbols = quantize_rows_cpu(weight, scale, exponent, bits);
  return {symbols, scale, exponent};
}

Tensor dequantize_cpu(const Tensor& symbols, const Tensor& scale, const Tensor& exponent, ScalarType dtype) {
  constexpr const char* kOp = "dequantize";
  const RowShape shape = row_shape(kOp, symbols);
  const core::FloatType type = float_type(kOp, dtype);
  const format::SymbolType source_type = symbol_type(kOp, symbols.scalar_type());
  check_row_scales(kOp, symbols, scale, exponent);
  const Tensor rows = torch::stable::contiguous(symbols), scales = torch::stable::contiguous(scale);
  Tensor weight = host_result(symbols, symbols.sizes(), dtype);
  const uint8_t* source = static_cast<const uint8_t*>(rows.const_data_ptr());
  if (rows.numel() == 0) return weight;
  const core::WeightTarget target{&cpu::backend().quantizer,
                                  source_type,
                                  static_cast<const core::Float16*>(scales.const_data_ptr()),
                                  *exponent.const_data_ptr<int32_t>(),
                                  shape.columns,
                                  type,
                                  static_cast<uint8_t*>(weight.mutable_data_ptr())};
  const core::Status status = parallel_ranges(shape.rows, row_grain(shape.columns), [&](int64_t begin, int64_t end) {
    target.write(source + begin * shape.columns * format::symbol_bytes(source_type), begin * shape.columns, end * shape.columns);
    return core::Status::kOk;
  });
  check_status(kOp, status, "");
  return weight;
}

Tensor histogram_cpu(const Tensor& symbols, const std::optional<Tensor>& contexts, int64_t num_contexts) {
  constexpr const char* kOp = "histogram";
  const format::SymbolType type = symbol_type(kOp, symbols.scalar_type());
  check_contexts(kOp, symbols, contexts, num_contexts);
  const Tensor source = torch::stable::contiguous(symbols);
  Tensor counts = torch::stable::new_zeros(symbols, {num_contexts, format::symbol_values(type)}, ScalarType::Long);
  uint64_t* total = static_cast<uint64_t*>(counts.mutable_data_ptr());
  const uint8_t* data = static_cast<const uint8_t*>(source.const_data_ptr());
  std::optional<Tensor> context_of;
  if (contexts.has_value()) context_of = torch::stable::contiguous(*contexts);
  const uint8_t* context = context_of ? static_cast<const uint8_t*>(context_of->const_data_ptr()) : nullptr;
  const size_t values = size_t(num_contexts * format::symbol_values(type));
  std::mutex merging;
  const core::Status status = parallel_ranges(source.numel(), 1 << 20, [&](int64_t begin, int64_t end) {
    const uint8_t* first = data + begin * format::symbol_bytes(type);
    const auto local = std::make_unique<uint64_t[]>(values);
    if (context == nullptr) core::histogram(first, type, end - begin, local.get());
    else if (!core::histogram_by_context(first, type, context + begin, end - begin, num_contexts, local.get())) return core::Status::kInvalidArgument;
    const std::lock_guard<std::mutex> lock(merging);
    for (size_t i = 0; i < values; ++i) total[i] += local[i];
    return core::Status::kOk;
  });
  check_status(kOp, status, "a context is not below num_contexts");
  return counts;
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("row_scale", TORCH_BOX(&ans::ops::row_scale_cpu));
  m.impl("pack_scale", TORCH_BOX(&ans::ops::pack_scale_cpu));
  m.impl("quantize_rows", TORCH_BOX(&ans::ops::quantize_rows_cpu));
  m.impl("quantize", TORCH_BOX(&ans::ops::quantize_cpu));
  m.impl("dequantize", TORCH_BOX(&ans::ops::dequantize_cpu));
  m.impl("histogram", TORCH_BOX(&ans::ops::histogram_cpu));
}
