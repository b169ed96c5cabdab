// CUDA kernels of the operators, over the stable ABI: argument checks, allocation, the current stream. The host compiler
// builds this file; device code is behind cuda/launch.h. Schemas are in ops.cpp.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <cuda_runtime_api.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>
#include <vector>

#include "cuda/launch.h"
#include "torch/checks.h"
#include "torch/cuda_support.h"

namespace ans::ops {
namespace {

// The status word of launch.h. Reading it waits for the stream: an operator that refuses bad values cannot return earlier.
class StatusWord {
 public:
  explicit StatusWord(const Tensor& on_device) : word_(torch::stable::new_zeros(on_device, {1}, ScalarType::Int)) {}

  uint32_t* device_pointer() { return static_cast<uint32_t*>(word_.mutable_data_ptr()); }

  uint32_t read(const char* op, cudaStream_t stream) {
    uint32_t value = 0;
    check_cuda(op, cudaMemcpyAsync(&value, word_.const_data_ptr(), sizeof value, cudaMemcpyDeviceToHost, stream));
    check_cuda(op, cudaStreamSynchronize(stream));
    return value;
  }

 private:
  Tensor word_;
};

void check_finite(const char* op, uint32_t status) {
  ANS_CHECK((status & cuda::kStatusNotFinite) == 0, op, "NotFinite", "the weight holds NaN or infinity");
}

Tensor row_scale_cuda(const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) {
  constexpr const char* kOp = "row_scale";
  const RowShape shape = row_shape(kOp, weight);
  const core::FloatType type = float_type(kOp, weight.scalar_type());
  const int checked_bits = check_bits(kOp, bits);
  const double clip = check_clip_sigmas(kOp, clip_sigmas);

  const DeviceGuard guard(weight.get_device_index());
  const cudaStream_t stream = current_stream(weight);
  const Tensor rows = torch::stable::contiguous(weight);
  Tensor scale = torch::stable::new_empty(weight, leading_shape(weight), ScalarType::Float);
  StatusWord status(weight);
  check_cuda(kOp, cuda::row_scale(rows.const_data_ptr(), type, shape.rows, shape.columns, checked_bits, clip,
                                  scale.mutable_data_ptr<float>(), status.device_pointer(), stream));
  check_finite(kOp, status.read(kOp, stream));
  return scale;
}

std::tuple<Tensor, Tensor> pack_scale_cuda(const Tensor& row_scale) {
  constexpr const char* kOp = "pack_scale";
  ANS_CHECK_ARGUMENT(row_scale.scalar_type() == ScalarType::Float, kOp, "row_scale is not float32");

  const DeviceGuard guard(row_scale.get_device_index());
  const cudaStream_t stream = current_stream(row_scale);
  const Tensor rows = torch::stable::contiguous(row_scale);
  Tensor scale = torch::stable::new_empty(row_scale, row_scale.sizes(), ScalarType::Half);
  Tensor exponent = torch::stable::new_empty(row_scale, {}, ScalarType::Int);
  Tensor scratch = torch::stable::new_empty(row_scale, {int64_t{cuda::kPackScaleScratchBytes}}, ScalarType::Byte);
  StatusWord status(row_scale);
  check_cuda(kOp, cuda::pack_scale(rows.const_data_ptr<float>(), rows.numel(), scratch.mutable_data_ptr(),
                                   static_cast<core::Float16*>(scale.mutable_data_ptr()),
                                   exponent.mutable_data_ptr<int32_t>(), status.device_pointer(), stream));
  ANS_CHECK((status.read(kOp, stream) & cuda::kStatusBadScale) == 0, kOp, "NotFinite",
            "a row scale is negative, NaN or infinite");
  return {scale, exponent};
}

Tensor quantize_rows_cuda(const Tensor& weight, const Tensor& scale, const Tensor& exponent, int64_t bits) {
  constexpr const char* kOp = "quantize_rows";
  const RowShape shape = row_shape(kOp, weight);
  const core::FloatType type = float_type(kOp, weight.scalar_type());
  const int checked_bits = check_bits(kOp, bits);
  check_row_scales(kOp, weight, scale, exponent);

  const DeviceGuard guard(weight.get_device_index());
  const cudaStream_t stream = current_stream(weight);
  const Tensor rows = torch::stable::contiguous(weight);
  const Tensor row_scales = torch::stable::contiguous(scale);
  Tensor symbols = torch::stable::new_empty(weight, weight.sizes(), ScalarType::Char);
  StatusWord status(weight);
  check_cuda(kOp, cuda::quantize_rows(rows.const_data_ptr(), type, shape.rows, shape.columns,
                                      static_cast<const core::Float16*>(row_scales.const_data_ptr()),
                                      exponent.const_data_ptr<int32_t>(), checked_bits,
                                      symbols.mutable_data_ptr<int8_t>(), status.device_pointer(), stream));
  check_finite(kOp, status.read(kOp, stream));
  return symbols;
}

std::tuple<Tensor, Tensor, Tensor> quantize_cuda(const Tensor& weight, int64_t bits, std::optional<double> clip_sigmas) {
  const auto [scale, exponent] = pack_scale_cuda(row_scale_cuda(weight, bits, clip_sigmas));
  return {quantize_rows_cuda(weight, scale, exponent, bits), scale, exponent};
}

Tensor dequantize_cuda(const Tensor& symbols, const Tensor& scale, const Tensor& exponent, ScalarType dtype) {
  constexpr const char* kOp = "dequantize";
  const RowShape shape = row_shape(kOp, symbols);
  const core::FloatType type = float_type(kOp, dtype);
  const format::SymbolType source_type = symbol_type(kOp, symbols.scalar_type());
  check_row_scales(kOp, symbols, scale, exponent);

  const DeviceGuard guard(symbols.get_device_index());
  const Tensor rows = torch::stable::contiguous(symbols);
  const Tensor row_scales = torch::stable::contiguous(scale);
  Tensor weight = torch::stable::new_empty(symbols, symbols.sizes(), dtype);
  check_cuda(kOp, cuda::dequantize(rows.const_data_ptr(), source_type, shape.rows, shape.columns,
                                   static_cast<const core::Float16*>(row_scales.const_data_ptr()),
                                   exponent.const_data_ptr<int32_t>(), weight.mutable_data_ptr(), type,
                                   current_stream(symbols)));
  return weight;
}

Tensor histogram_cuda(const Tensor& symbols, const std::optional<Tensor>& contexts, int64_t num_contexts) {
  constexpr const char* kOp = "histogram";
  const format::SymbolType type = symbol_type(kOp, symbols.scalar_type());
  check_contexts(kOp, symbols, contexts, num_contexts);

  const DeviceGuard guard(symbols.get_device_index());
  const cudaStream_t stream = current_stream(symbols);
  const Tensor source = torch::stable::contiguous(symbols);
  const int64_t numel = source.numel();
  Tensor counts = torch::stable::new_empty(symbols, {num_contexts, format::symbol_values(type)}, ScalarType::Long);
  int64_t* const counters = counts.mutable_data_ptr<int64_t>();
  if (contexts.has_value()) {
    const Tensor context_of = torch::stable::contiguous(*contexts);
    StatusWord status(symbols);
    check_cuda(kOp, cuda::histogram_by_context(source.const_data_ptr(), type, context_of.const_data_ptr<uint8_t>(), numel,
                                               num_contexts, counters, status.device_pointer(), stream));
    ANS_CHECK_ARGUMENT((status.read(kOp, stream) & cuda::kStatusContextOutOfRange) == 0, kOp,
                       "a context is not below num_contexts");
    return counts;
  }
  size_t scratch_bytes = 0;
  check_cuda(kOp, cuda::histogram(nullptr, &scratch_bytes, source.const_data_ptr(), type, numel, counters, stream));
  Tensor scratch = torch::stable::new_empty(symbols, {static_cast<int64_t>(scratch_bytes)}, ScalarType::Byte);
  check_cuda(kOp, cuda::histogram(scratch.mutable_data_ptr(), &scratch_bytes, source.const_data_ptr(), type, numel,
                                  counters, stream));
  return counts;
}

// The CUDA runtime is linked statically, so this library needs a driver at least as new as the toolkit that built it. Without
// any driver it loads (and is of no use); with one that is too old, every later call would fail with an obscure message.
bool driver_is_new_enough() {
  int driver = 0;
  int runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || cudaRuntimeGetVersion(&runtime) != cudaSuccess) return true;
  if (driver == 0 || driver / 1000 >= runtime / 1000) return true;
  PyErr_Format(PyExc_ImportError,
               "torch_ans._C_cuda was built with CUDA %d.%d, but this NVIDIA driver supports CUDA %d.%d only. Install a newer "
               "driver (CUDA 13 needs R580 or later); the CPU operators work without it.",
               runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
  return false;
}

}  // namespace
}  // namespace ans::ops

ANS_PYTHON_MODULE_CHECKED(_C_cuda, ans::ops::driver_is_new_enough)

STABLE_TORCH_LIBRARY_IMPL(ans, CUDA, m) {
  m.impl("row_scale", TORCH_BOX(&ans::ops::row_scale_cuda));
  m.impl("pack_scale", TORCH_BOX(&ans::ops::pack_scale_cuda));
  m.impl("quantize_rows", TORCH_BOX(&ans::ops::quantize_rows_cuda));
  m.impl("quantize", TORCH_BOX(&ans::ops::quantize_cuda));
  m.impl("dequantize", TORCH_BOX(&ans::ops::dequantize_cuda));
  m.impl("histogram", TORCH_BOX(&ans::ops::histogram_cuda));
}
