// Matrices of symbols in host memory, as the CPU's operators take them.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/byte_buffer.h"
#include "core/matrix/matrix_band.h"
#include "core/matrix/matrix_model.h"
#include "core/matrix/residuals.h"
#include "core/weight_target.h"
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
template <class T>
void transpose(const T* from, int64_t lines, int64_t columns, T* to) {
  constexpr int64_t kTile = 64;
  (void)parallel_ranges((columns + kTile - 1) / kTile, 1 + (1 << 16) / std::max<int64_t>(1, lines * kTile), [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile)
      for (int64_t i0 = 0; i0 < lines; i0 += kTile)
        for (int64_t j = tile * kTile; j < std::min(columns, (tile + 1) * kTile); ++j)
          for (int64_t i = i0; i < std::min(lines, i0 + kTile); ++i) to[j * lines + i] = from[i * columns + j];
    return core::Status::kOk;
  });
}
inline void transpose_symbols(format::SymbolType type, const uint8_t* from, int64_t lines, int64_t columns, uint8_t* to) {
  if (type == format::SymbolType::kI16) transpose(reinterpret_cast<const int16_t*>(from), lines, columns, reinterpret_cast<int16_t*>(to));
  else transpose(from, lines, columns, to);
}

// Decodes a stream. `which` begins the text of an error; `reference`: the symbols of the matrix that it may refer to, as they lie in memory, or null. With a target symbols become
// weights, too, while they are at hand; `out` is then memory for them alone.
void decode_matrix_stream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given,
                          const uint8_t* reference, uint8_t* out, const core::WeightTarget* target = nullptr);

// Symbols in one view, line after line.
class View {
 public:
  View(const char* op, const Tensor& symbols, int64_t columns, bool transposed) : type(symbol_type(op, symbols.scalar_type())), columns(columns), source_(torch::stable::contiguous(symbols)) {
    ANS_CHECK_ARGUMENT(symbols.is_cpu(), op, "symbols of a matrix are on the CPU");
    const int64_t numel = source_.numel();
    ANS_CHECK_ARGUMENT(columns >= core::kMinColumns && columns <= core::kMaxColumns && numel > 0 && numel % columns == 0 && numel / columns <= core::kMaxLines, op, numel,
                       " symbols are no matrix of ", columns, " columns");
    lines = numel / columns;
    data_ = static_cast<const uint8_t*>(source_.const_data_ptr());
    if (!transposed) return;
    copy_.reserve(numel * format::symbol_bytes(type));
    transpose_symbols(type, data_, columns, lines, copy_.data());
    data_ = copy_.data();
  }
  const uint8_t* data() const { return data_; }

  const format::SymbolType type;
  const int64_t columns;
  int64_t lines;

 private:
  Tensor source_;
  core::ByteBuffer copy_;
  const uint8_t* data_;
};

// The same as fits look at it: symbols of 16 bits are brought to the range that predictions know, in steps of 4, which is all that a trellis sees of them.
class FitView {
 public:
  FitView(const char* op, const Tensor& symbols, int64_t columns, bool transposed) : view_(op, symbols, columns, transposed) {
    if (view_.type != format::SymbolType::kI16) return;
    const int16_t* const from = reinterpret_cast<const int16_t*>(view_.data());
    limited_.reserve(numel());
    uint8_t* const to = limited_.data();
    for (int64_t i = 0; i < numel(); ++i) {
      const int32_t v = from[i], within = v & 3;
      to[i] = uint8_t(v < -128 ? within - 128 : v > 127 ? 124 + within : v);
    }
  }
  core::LineSet lines() const { return {limited_.data() != nullptr ? limited_.data() : view_.data(), core::counted_as(view_.type), view_.lines, view_.columns}; }
  format::SymbolType type() const { return view_.type; }
  // Of the symbols as they are: the lowest and the highest.
  std::pair<int32_t, int32_t> range() const {
    std::pair<int32_t, int32_t> found{INT32_MAX, INT32_MIN};
    for (int64_t i = 0; i < numel(); ++i) {
      const int32_t v = core::MatrixLines::value(view_.type, view_.data(), i);
      found = {std::min(found.first, v), std::max(found.second, v)};
    }
    return found;
  }

 private:
  int64_t numel() const { return view_.lines * view_.columns; }
  View view_;
  core::ByteBuffer limited_;
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
