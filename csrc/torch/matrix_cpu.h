// Matrices of symbols in host memory, as the CPU's operators take them.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/byte_buffer.h"
#include "core/matrix/matrix_model.h"
#include "core/matrix/residuals.h"
#include "torch/checks.h"
#include "torch/parallel.h"

namespace ans::ops {

inline void in_threads(int64_t n, const std::function<void(int64_t, int64_t)>& work) {
  (void)parallel_ranges(n, 1, [&](int64_t begin, int64_t end) {
    work(begin, end);
    return core::Status::kOk;
  });
}

// to[j * lines + i] = from[i * columns + j]
inline void transpose_bytes(const uint8_t* from, int64_t lines, int64_t columns, uint8_t* to) {
  constexpr int64_t kTile = 64;
  (void)parallel_ranges((columns + kTile - 1) / kTile, 1 + (1 << 16) / std::max<int64_t>(1, lines * kTile), [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile)
      for (int64_t i0 = 0; i0 < lines; i0 += kTile)
        for (int64_t j = tile * kTile; j < std::min(columns, (tile + 1) * kTile); ++j)
          for (int64_t i = i0; i < std::min(lines, i0 + kTile); ++i) to[j * lines + i] = from[i * columns + j];
    return core::Status::kOk;
  });
}

inline format::SymbolType matrix_type(const char* op, const Tensor& symbols) {
  const format::SymbolType type = matrix_symbol_type(op, symbols.scalar_type());
  ANS_CHECK_ARGUMENT(symbols.is_cpu(), op, "symbols of a matrix are on the CPU");
  return type;
}

// Decodes a stream. `which` begins the text of an error; `reference`: the symbols of the matrix that it may refer to, as they lie in memory, or null.
void decode_matrix_stream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given,
                          const uint8_t* reference, uint8_t* out);

// Symbols in one view, line after line.
class View {
 public:
  View(const char* op, const Tensor& symbols, int64_t columns, bool transposed) : type_(matrix_type(op, symbols)), source_(torch::stable::contiguous(symbols)), columns_(columns) {
    const int64_t numel = source_.numel();
    ANS_CHECK_ARGUMENT(columns >= core::kMinColumns && columns <= core::kMaxColumns && numel > 0 && numel % columns == 0 && numel / columns <= core::kMaxLines, op, numel,
                       " symbols are no matrix of ", columns, " columns");
    lines_ = numel / columns;
    data_ = static_cast<const uint8_t*>(source_.const_data_ptr());
    if (!transposed) return;
    copy_.reserve(numel);
    transpose_bytes(data_, columns, lines_, copy_.data());
    data_ = copy_.data();
  }
  core::LineSet lines() const { return {data_, type_, lines_, columns_}; }

 private:
  format::SymbolType type_;
  Tensor source_;
  core::ByteBuffer copy_;
  const uint8_t* data_;
  int64_t lines_, columns_;
};

// Of the size and dtype of `symbols`.
inline std::optional<Tensor> checked_reference(const char* op, const std::optional<Tensor>& reference, int64_t numel, ScalarType dtype) {
  if (!reference.has_value()) return std::nullopt;
  ANS_CHECK_ARGUMENT(reference->is_cpu() && reference->scalar_type() == dtype && reference->numel() == numel, op, "reference is not a tensor on the CPU with as many symbols of the same dtype");
  return torch::stable::contiguous(*reference);
}

inline Tensor bytes_tensor(const Tensor& like, const std::vector<uint8_t>& bytes) {
  Tensor out = torch::stable::new_empty(like, {int64_t(bytes.size())}, ScalarType::Byte);
  if (!bytes.empty()) std::memcpy(out.mutable_data_ptr(), bytes.data(), bytes.size());
  return out;
}

}  // namespace ans::ops
