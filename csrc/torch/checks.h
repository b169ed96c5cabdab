// Checks of operator arguments that do not depend on the device, for the CPU and the CUDA kernels alike.
//
// Every error reads `ans::<op>: [<Name>] explanation`; torch_ans/errors.py turns the name into an exception class.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/quantize_arithmetic.h"
#include "core/status.h"
#include "format/bitstream.h"

#define ANS_CHECK(condition, op, name, ...) STD_TORCH_CHECK(condition, "ans::", op, ": [" name "] ", __VA_ARGS__)
#define ANS_CHECK_ARGUMENT(condition, op, ...) ANS_CHECK(condition, op, "InvalidArgument", __VA_ARGS__)

namespace ans::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// A tensor of any shape as a matrix: the last dimension is a row.
struct RowShape {
  int64_t rows;
  int64_t columns;
};

inline RowShape row_shape(const char* op, const Tensor& matrix) {
  ANS_CHECK_ARGUMENT(matrix.dim() >= 1, op, "the tensor needs at least one dimension, the row");
  RowShape shape{1, matrix.size(matrix.dim() - 1)};
  for (int64_t d = 0; d + 1 < matrix.dim(); ++d) shape.rows *= matrix.size(d);
  return shape;
}

// Elements of a matrix of this shape.
inline int64_t checked_numel(const char* op, torch::headeronly::IntHeaderOnlyArrayRef shape) {
  ANS_CHECK_ARGUMENT(shape.size() >= 1, op, "shape needs at least one dimension, the row");
  int64_t numel = 1;
  for (int64_t d : shape) {
    ANS_CHECK_ARGUMENT(d >= 0, op, "shape has a negative dimension");
    ANS_CHECK_ARGUMENT(d == 0 || numel <= std::numeric_limits<int64_t>::max() / d, op, "shape has too many elements");
    numel *= d;
  }
  return numel;
}

// The shape of a matrix without its last dimension: that of its row scales.
inline std::vector<int64_t> leading_shape(const Tensor& matrix) {
  const auto sizes = matrix.sizes();
  return std::vector<int64_t>(sizes.begin(), sizes.end() - 1);
}

inline core::FloatType float_type(const char* op, ScalarType dtype) {
  ANS_CHECK_ARGUMENT(dtype == ScalarType::Float || dtype == ScalarType::BFloat16 || dtype == ScalarType::Half, op,
                     "float32, bfloat16 or float16 expected");
  return dtype == ScalarType::Float      ? core::FloatType::kFloat32
         : dtype == ScalarType::BFloat16 ? core::FloatType::kBFloat16
                                         : core::FloatType::kFloat16;
}

inline format::SymbolType symbol_type(const char* op, ScalarType dtype) {
  ANS_CHECK_ARGUMENT(dtype == ScalarType::Char || dtype == ScalarType::Byte || dtype == ScalarType::Short, op,
                     "symbols are int8, uint8 or int16");
  return dtype == ScalarType::Char   ? format::SymbolType::kI8
         : dtype == ScalarType::Byte ? format::SymbolType::kU8
                                     : format::SymbolType::kI16;
}

// Symbols that are counted into histograms of the same bins.
inline void check_symbols_alike(const char* op, const std::vector<Tensor>& symbols) {
  ANS_CHECK_ARGUMENT(!symbols.empty(), op, "there are no tensors");
  for (const Tensor& t : symbols) {
    symbol_type(op, t.scalar_type());
    ANS_CHECK_ARGUMENT(t.scalar_type() == symbols[0].scalar_type(), op, "the tensors have several dtypes");
  }
}

inline int check_bits(const char* op, int64_t bits) {
  ANS_CHECK_ARGUMENT(bits >= core::kMinBits && bits <= core::kMaxBits, op, "bits is ", bits, ", not in ", core::kMinBits,
                     " ... ", core::kMaxBits);
  return static_cast<int>(bits);
}

// None means absmax scaling.
inline double check_clip_sigmas(const char* op, const std::optional<double>& clip_sigmas) {
  if (!clip_sigmas.has_value()) return core::kClipAbsmax;
  ANS_CHECK_ARGUMENT(std::isfinite(*clip_sigmas) && *clip_sigmas > 0, op, "clip_sigmas is ", *clip_sigmas,
                     ", not a positive number");
  return *clip_sigmas;
}

inline void check_same_device(const char* op, const Tensor& a, const Tensor& b, const char* name) {
  const bool same = a.is_cpu() ? b.is_cpu() : a.is_cuda() == b.is_cuda() && a.get_device_index() == b.get_device_index();
  ANS_CHECK_ARGUMENT(same, op, name, " is on another device than the first argument");
}

// scale: float16, one per row of `matrix`; exponent: int32, one element.
inline void check_row_scales(const char* op, const Tensor& matrix, const Tensor& scale, const Tensor& exponent) {
  ANS_CHECK_ARGUMENT(scale.scalar_type() == ScalarType::Half, op, "scale is not float16");
  ANS_CHECK_ARGUMENT(exponent.scalar_type() == ScalarType::Int && exponent.numel() == 1, op,
                     "exponent is not one int32 number");
  bool same_shape = scale.dim() == matrix.dim() - 1;
  for (int64_t d = 0; same_shape && d < scale.dim(); ++d) same_shape = scale.size(d) == matrix.size(d);
  ANS_CHECK_ARGUMENT(same_shape, op, "scale does not have the shape of the tensor without its last dimension");
  check_same_device(op, matrix, scale, "scale");
  check_same_device(op, matrix, exponent, "exponent");
}

// A float32 number for every column of a matrix, or nothing.
inline void check_column_factor(const char* op, const Tensor& matrix, const Tensor& factor) {
  ANS_CHECK_ARGUMENT(factor.scalar_type() == ScalarType::Float && factor.dim() == 1 && matrix.dim() >= 1 && factor.numel() == matrix.size(matrix.dim() - 1), op,
                     "column_factor is not a float32 number for every column");
  check_same_device(op, matrix, factor, "column_factor");
}

// For every matrix such numbers, contiguous, or an empty tensor; no tensors at all if no matrix has them.
inline std::vector<Tensor> checked_column_factors(const char* op, const std::vector<Tensor>& matrices, const std::vector<Tensor>& factors) {
  ANS_CHECK_ARGUMENT(factors.empty() || factors.size() == matrices.size(), op, factors.size(), " tensors of column factors for ", matrices.size(), " matrices");
  std::vector<Tensor> result;
  bool any = false;
  for (size_t i = 0; i < factors.size(); ++i) {
    if (factors[i].numel() > 0) check_column_factor(op, matrices[i], factors[i]);
    any |= factors[i].numel() > 0;
    result.push_back(torch::stable::contiguous(factors[i]));
  }
  return any ? result : std::vector<Tensor>{};
}

// contexts: uint8, one per symbol, below num_contexts; absent means that everything is context 0.
inline void check_contexts(const char* op, const Tensor& symbols, const std::optional<Tensor>& contexts,
                           int64_t num_contexts) {
  ANS_CHECK_ARGUMENT(num_contexts >= 1 && num_contexts <= 256, op, "num_contexts is ", num_contexts, ", not in 1 ... 256");
  if (!contexts.has_value()) {
    ANS_CHECK_ARGUMENT(num_contexts == 1, op, "num_contexts is ", num_contexts, ", but there are no contexts");
    return;
  }
  ANS_CHECK_ARGUMENT(contexts->scalar_type() == ScalarType::Byte, op, "contexts are not uint8");
  ANS_CHECK_ARGUMENT(contexts->numel() == symbols.numel(), op, contexts->numel(), " contexts for ", symbols.numel(),
                     " symbols");
  check_same_device(op, symbols, *contexts, "contexts");
}

inline void check_bytes(const char* op, const char* name, const Tensor& t) {
  ANS_CHECK_ARGUMENT(t.scalar_type() == ScalarType::Byte && t.dim() == 1, op, name, " is not a one-dimensional uint8 tensor");
}

// "tensor 3: ", if there are several: begins the text of an error.
inline std::string name_of(const char* what, size_t i, size_t count) { return count == 1 ? "" : what + std::string(" ") + std::to_string(i) + ": "; }

inline void check_status(const char* op, core::Status status, const char* explanation) {
  STD_TORCH_CHECK(status == core::Status::kOk, "ans::", op, ": [", core::status_name(status), "] ", explanation);
}

}  // namespace ans::ops
