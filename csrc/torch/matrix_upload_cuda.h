// What the kernels for matrices look up, brought to the device: arrays first, then the structs that point to them.
#pragma once
#include <algorithm>
#include <map>
#include <vector>

#include "core/matrix/matrix_jobs.h"
#include "core/matrix/matrix_model.h"
#include "core/matrix/matrix_tables.h"
#include "cuda/launch.h"
#include "torch/cuda_support.h"

namespace ans::ops {

// An array in an Upload; of 0 elements: none.
template <class T>
struct PlacedArray {
  size_t at = 0, count = 0;
  const T* in(const Upload& upload) const { return count == 0 ? nullptr : upload.at<T>(at); }
};
template <class T>
PlacedArray<T> place(Upload* upload, const T* values, size_t count) {
  return {count == 0 ? 0 : upload->add(values, count), count};
}
template <class T>
PlacedArray<T> place(Upload* upload, const std::vector<T>& values) {
  return place(upload, values.data(), values.size());
}

// By predictor, which many matrices share.
using PlacedCoefficients = std::map<const void*, PlacedArray<core::CoefficientGroup>>;

class PlacedMatrix {
 public:
  // All of these must stay until the structs have been made.
  PlacedMatrix(const core::MatrixModel& model, const core::LineOrder& order, const core::MatrixTables& tables, PlacedCoefficients* coefficients, Upload* upload)
      : model_(model), tables_(tables), order_(place(upload, order.line)), given_factor_(place(upload, model.given_factor)), factor_(place(upload, model.factor)),
        reference_(place(upload, model.reference)), start_(place(upload, tables.start(), tables.start() == nullptr ? 0 : size_t(model.lines))) {
    const size_t columns = size_t(model.columns);
    for (size_t part = 0; part < model.parts.size(); ++part) {
      const core::MatrixRows& rows = tables.rows(int(part));
      Rows p{place(upload, rows.scale, columns), place(upload, rows.mean, rows.mean == nullptr ? 0 : columns), place(upload, rows.inverse, columns), {}};
      if (const void* const predictor = model.parts[part].predictor.get(); predictor != nullptr) {
        const auto known = coefficients->find(predictor);
        const size_t groups = size_t((rows.period + core::kCoefficientGroup - 1) / core::kCoefficientGroup * rows.pairs);
        p.coefficients = known != coefficients->end() ? known->second : place(upload, rows.coefficients, groups);
        coefficients->emplace(predictor, p.coefficients);
      }
      rows_.push_back(p);
    }
  }
  // `own`, `given`: symbols as they lie in memory; `given` only where the model has such references. Without the tables of a decoder.
  core::WarpMatrix matrix(const Upload& upload, uint8_t* own, const uint8_t* given, format::SymbolType type) const {
    core::WarpMatrix m{};
    m.own = memory_of(model_.transposed, own, type);
    if (model_.has_given_reference) m.given = memory_of(model_.given_transposed, const_cast<uint8_t*>(given), type);  // only read
    m.order = order_.in(upload), m.start = start_.in(upload), m.given_factor = given_factor_.in(upload), m.factor = factor_.in(upload), m.reference = reference_.in(upload);
    m.raw_min = model_.raw_min, m.raw_bits = model_.raw_bits, m.type = type;
    m.alternating = model_.alternating;
    return m;
  }
  void append_rows(const Upload& upload, std::vector<core::MatrixRows>* all) const {
    for (size_t part = 0; part < rows_.size(); ++part) {
      core::MatrixRows r = tables_.rows(int(part));
      const Rows& at = rows_[part];
      r.scale = at.scale.in(upload), r.mean = at.mean.in(upload), r.inverse = at.inverse.in(upload), r.coefficients = at.coefficients.in(upload);
      all->push_back(r);
    }
  }

 private:
  struct Rows {
    PlacedArray<int32_t> scale, mean;
    PlacedArray<uint32_t> inverse;
    PlacedArray<core::CoefficientGroup> coefficients;
  };
  core::MatrixMemory memory_of(bool transposed, uint8_t* p, format::SymbolType type) const {
    const int64_t bytes = format::symbol_bytes(type);
    return transposed ? core::MatrixMemory{p, bytes, model_.lines * bytes} : core::MatrixMemory{p, model_.columns * bytes, bytes};
  }

  const core::MatrixModel& model_;
  const core::MatrixTables& tables_;
  PlacedArray<int32_t> order_, given_factor_, factor_, reference_;
  PlacedArray<uint32_t> start_;
  std::vector<Rows> rows_;
};

// Memory for so many warps that work at the same time on matrices with predictors of so many pairs of columns.
struct MatrixWarps {
  MatrixWarps(const Tensor& like, int64_t jobs, int64_t pairs)
      : bytes_of_one(int64_t(cuda::kMatrixScratchBytes) + 4 * format::kLanes * pairs),
        count(std::min({jobs, cuda::kMatrixWarps, kMostBytes / bytes_of_one})),
        memory(device_bytes(like, bytes_of_one * count)) {}
  static constexpr int64_t kMostBytes = int64_t{1} << 28;  // enough for 1,000 of the longest predictors
  int64_t bytes_of_one, count;
  Tensor memory;
};

}  // namespace ans::ops
