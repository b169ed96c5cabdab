// CPU kernels of the quantizer and of histogram.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
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

// Of one tensor among others: `which` begins the text of an error.
Tensor row_scale_of(const char* kOp, const std::string& which, const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) {
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
  ANS_CHECK(status == core::Status::kOk, kOp, "NotFinite", which, "row ", bad_row.load(), " of the weight holds NaN or infinity");
  return scale;
}

std::tuple<Tensor, Tensor> pack_scale_of(const char* kOp, const std::string& which, const Tensor& row_scale) {
  ANS_CHECK_ARGUMENT(row_scale.scalar_type() == ScalarType::Float, kOp, "row_scale is not float32");
  const Tensor rows = torch::stable::contiguous(row_scale);
  const float* source = rows.const_data_ptr<float>();
  const int64_t n = rows.numel();
  float smallest = 0.0f, largest = 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    const float s = source[i];
    ANS_CHECK(s >= 0.0f && core::float_bits(s) < 0x7f800000u, kOp, "NotFinite", which, "a row scale is negative, NaN or infinite");
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

Tensor quantize_rows_of(const char* kOp, const std::string& which, const Tensor& weight, const Tensor& scale, const Tensor& exponent, int64_t bits) {
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
  check_status(kOp, status, (which + "the weight holds NaN or infinity").c_str());
  return symbols;
}

std::tuple<Tensor, Tensor, Tensor> quantize_of(const char* op, const std::string& which, const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) {
  auto [scale, exponent] = pack_scale_of(op, which, row_scale_of(op, which, weight, bits, clip_sigmas));
  return {quantize_rows_of(op, which, weight, scale, exponent, bits), scale, exponent};
}

Tensor row_scale_cpu(const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) { return row_scale_of("row_scale", "", weight, bits, clip_sigmas); }
std::tuple<Tensor, Tensor> pack_scale_cpu(const Tensor& row_scale) { return pack_scale_of("pack_scale", "", row_scale); }
Tensor quantize_rows_cpu(const Tensor& weight, const Tensor& scale, const Tensor& exponent, int64_t bits) { return quantize_rows_of("quantize_rows", "", weight, scale, exponent, bits); }
std::tuple<Tensor, Tensor, Tensor> quantize_cpu(const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) { return quantize_of("quantize", "", weight, bits, clip_sigmas); }

// Many tensors: on the CPU one after another, each by all threads.
std::vector<Tensor> row_scale_many_cpu(std::vector<Tensor> weights, int64_t bits, std::optional<double> clip_sigmas) {
  constexpr const char* kOp = "row_scale_many";
  std::vector<Tensor> scales;
  for (size_t i = 0; i < weights.size(); ++i) scales.push_back(row_scale_of(kOp, name_of("tensor", i, weights.size()), weights[i], bits, clip_sigmas));
  return scales;
}
std::tuple<std::vector<Tensor>, std::vector<Tensor>> pack_scale_many_cpu(std::vector<Tensor> row_scales) {
  constexpr const char* kOp = "pack_scale_many";
  std::vector<Tensor> scales, exponents;
  for (size_t i = 0; i < row_scales.size(); ++i) {
    const auto [scale, exponent] = pack_scale_of(kOp, name_of("tensor", i, row_scales.size()), row_scales[i]);
    scales.push_back(scale);
    exponents.push_back(exponent);
  }
  return {scales, exponents};
}
std::vector<Tensor> quantize_rows_many_cpu(std::vector<Tensor> weights, std::vector<Tensor> scales, std::vector<Tensor> exponents, int64_t bits) {
  constexpr const char* kOp = "quantize_rows_many";
  ANS_CHECK_ARGUMENT(weights.size() == scales.size() && weights.size() == exponents.size(), kOp, weights.size(), " weights, ", scales.size(), " scales and ", exponents.size(),
                     " exponents");
  std::vector<Tensor> symbols;
  for (size_t i = 0; i < weights.size(); ++i) symbols.push_back(quantize_rows_of(kOp, name_of("tensor", i, weights.size()), weights[i], scales[i], exponents[i], bits));
  return symbols;
}
std::tuple<std::vector<Tensor>, std::vector<Tensor>, std::vector<Tensor>> quantize_many_cpu(std::vector<Tensor> weights, int64_t bits, std::optional<double> clip_sigmas) {
  constexpr const char* kOp = "quantize_many";
  std::vector<Tensor> symbols, scales, exponents;
  for (size_t i = 0; i < weights.size(); ++i) {
    const auto [own_symbols, scale, exponent] = quantize_of(kOp, name_of("tensor", i, weights.size()), weights[i], bits, clip_sigmas);
    symbols.push_back(own_symbols);
    scales.push_back(scale);
    exponents.push_back(exponent);
  }
  return {symbols, scales, exponents};
}

Tensor dequantize_cpu(const Tensor& symbols, const Tensor& scale, const Tensor& exponent, ScalarType dtype, std::optional<Tensor> column_factor) {
  constexpr const char* kOp = "dequantize";
  const RowShape shape = row_shape(kOp, symbols);
  const core::FloatType type = float_type(kOp, dtype);
  const format::SymbolType source_type = symbol_type(kOp, symbols.scalar_type());
  check_row_scales(kOp, symbols, scale, exponent);
  const Tensor rows = torch::stable::contiguous(symbols), scales = torch::stable::contiguous(scale);
  std::optional<Tensor> factor;
  if (column_factor.has_value()) {
    check_column_factor(kOp, symbols, *column_factor);
    factor.emplace(torch::stable::contiguous(*column_factor));
  }
  Tensor weight = host_result(symbols, symbols.sizes(), dtype);
  const uint8_t* source = static_cast<const uint8_t*>(rows.const_data_ptr());
  if (rows.numel() == 0) return weight;
  const core::WeightTarget target{&cpu::backend().quantizer,
                                  source_type,
                                  static_cast<const core::Float16*>(scales.const_data_ptr()),
                                  *exponent.const_data_ptr<int32_t>(),
                                  shape.columns,
                                  type,
                                  static_cast<uint8_t*>(weight.mutable_data_ptr()),
                                  factor.has_value() ? factor->const_data_ptr<float>() : nullptr};
  const core::Status status = parallel_ranges(shape.rows, row_grain(shape.columns), [&](int64_t begin, int64_t end) {
    target.write(source + begin * shape.columns * format::symbol_bytes(source_type), begin * shape.columns, end * shape.columns);
    return core::Status::kOk;
  });
  check_status(kOp, status, "");
  return weight;
}

// Adds the counts of symbols (contiguous) to total[num_contexts][values].
core::Status add_counts(const Tensor& symbols, format::SymbolType type, const uint8_t* context, int64_t num_contexts, uint64_t* total) {
  const uint8_t* data = static_cast<const uint8_t*>(symbols.const_data_ptr());
  const size_t values = size_t(num_contexts * format::symbol_values(type));
  std::mutex merging;
  return parallel_ranges(symbols.numel(), 1 << 20, [&](int64_t begin, int64_t end) {
    const uint8_t* first = data + begin * format::symbol_bytes(type);
    const auto local = std::make_unique<uint64_t[]>(values);
    if (context == nullptr) core::histogram(first, type, end - begin, local.get());
    else if (!core::histogram_by_context(first, type, context + begin, end - begin, num_contexts, local.get())) return core::Status::kInvalidArgument;
    const std::lock_guard<std::mutex> lock(merging);
    for (size_t i = 0; i < values; ++i) total[i] += local[i];
    return core::Status::kOk;
  });
}

Tensor histogram_cpu(const Tensor& symbols, const std::optional<Tensor>& contexts, int64_t num_contexts) {
  constexpr const char* kOp = "histogram";
  const format::SymbolType type = symbol_type(kOp, symbols.scalar_type());
  check_contexts(kOp, symbols, contexts, num_contexts);
  const Tensor source = torch::stable::contiguous(symbols);
  Tensor counts = torch::stable::new_zeros(symbols, {num_contexts, format::symbol_values(type)}, ScalarType::Long);
  std::optional<Tensor> context_of;
  if (contexts.has_value()) context_of = torch::stable::contiguous(*contexts);
  const uint8_t* context = context_of ? static_cast<const uint8_t*>(context_of->const_data_ptr()) : nullptr;
  check_status(kOp, add_counts(source, type, context, num_contexts, static_cast<uint64_t*>(counts.mutable_data_ptr())), "a context is not below num_contexts");
  return counts;
}

Tensor histogram_many_cpu(std::vector<Tensor> symbols) {
  constexpr const char* kOp = "histogram_many";
  check_symbols_alike(kOp, symbols);
  const format::SymbolType type = symbol_type(kOp, symbols[0].scalar_type());
  Tensor counts = torch::stable::new_zeros(symbols[0], {int64_t(symbols.size()), format::symbol_values(type)}, ScalarType::Long);
  for (size_t i = 0; i < symbols.size(); ++i) {
    const Tensor source = torch::stable::contiguous(symbols[i]);
    check_status(kOp, add_counts(source, type, nullptr, 1, static_cast<uint64_t*>(counts.mutable_data_ptr()) + int64_t(i) * format::symbol_values(type)), "");
  }
  return counts;
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("row_scale", TORCH_BOX(&ans::ops::row_scale_cpu));
  m.impl("row_scale_many", TORCH_BOX(&ans::ops::row_scale_many_cpu));
  m.impl("pack_scale", TORCH_BOX(&ans::ops::pack_scale_cpu));
  m.impl("pack_scale_many", TORCH_BOX(&ans::ops::pack_scale_many_cpu));
  m.impl("quantize_rows", TORCH_BOX(&ans::ops::quantize_rows_cpu));
  m.impl("quantize_rows_many", TORCH_BOX(&ans::ops::quantize_rows_many_cpu));
  m.impl("quantize", TORCH_BOX(&ans::ops::quantize_cpu));
  m.impl("quantize_many", TORCH_BOX(&ans::ops::quantize_many_cpu));
  m.impl("dequantize", TORCH_BOX(&ans::ops::dequantize_cpu));
  m.impl("histogram", TORCH_BOX(&ans::ops::histogram_cpu));
  m.impl("histogram_many", TORCH_BOX(&ans::ops::histogram_many_cpu));
}
