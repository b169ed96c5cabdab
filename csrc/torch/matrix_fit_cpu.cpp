// Operators that choose prediction models.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <memory>
#include <tuple>

#include "core/matrix/fit.h"
#include "core/matrix/predictor_fit.h"
#include "core/matrix/predictor_sets.h"
#include "core/matrix/reference_fit.h"
#include "core/trellis/trellis.h"
#include "cpu/backends.h"
#include "torch/matrix_cpu.h"
#include "torch/matrix_stream.h"
#include "torch/stream_parts.h"

namespace ans::ops {
namespace {

using format::SymbolType;

std::tuple<Tensor, Tensor> fit_matrix_cpu(const Tensor& symbols, int64_t columns, bool transposed, std::vector<Tensor> predictors, bool own_predictors, std::optional<Tensor> reference,
                                          bool reference_transposed, bool means, int64_t levels, int64_t chunk_symbols, int64_t sample_symbols, int64_t adaptations, int64_t trellis) {
  constexpr const char* kOp = "fit_matrix";
  check_chunk_symbols(kOp, chunk_symbols);
  ANS_CHECK_ARGUMENT(levels >= 0 && levels <= core::kMaxLevel, kOp, "levels is ", levels, ", not in 0 ... ", core::kMaxLevel);
  ANS_CHECK_ARGUMENT(int64_t(predictors.size()) <= core::kMaxPredictors, kOp, "there are more than ", core::kMaxPredictors, " predictors");
  ANS_CHECK_ARGUMENT(trellis == 0 || (trellis > 0 && trellis <= 32 && core::is_trellis(int(trellis))), kOp, "trellis is ", trellis, ", not 0, 4, 8 or 32");
  const FitView view(kOp, symbols, columns, transposed);
  const std::optional<Tensor> other = checked_reference(kOp, reference, symbols.numel(), symbols.scalar_type());
  std::optional<FitView> given;
  if (other.has_value()) given.emplace(kOp, *other, columns, reference_transposed);
  core::FitInput input{};
  input.lines = view.lines();
  input.type = view.type();
  std::tie(input.lowest, input.highest) = view.range();
  input.trellis = int(trellis);
  input.transposed = transposed;
  if (given.has_value()) input.given = given->lines().symbols;
  input.given_transposed = reference_transposed;
  input.predictors = parse_predictors(kOp, predictors);
  input.own = own_predictors;
  for (const auto& p : input.predictors) ANS_CHECK_ARGUMENT(columns % p->period == 0, kOp, "a predictor has a period of ", p->period, ", which does not divide ", columns, " columns");
  core::FitOptions options;
  const int64_t chunk_lines = chunk_symbols / columns;
  options.chunk_lines = std::max<int64_t>(1, chunk_lines >= format::kLanes ? chunk_lines / format::kLanes * format::kLanes : chunk_lines);
  options.means = means;
  options.nearest = levels > 0;
  options.depth = int(levels);
  options.sample_symbols = sample_symbols;
  options.adaptations = int(std::max<int64_t>(0, std::min<int64_t>(adaptations, 100)));
  const core::FitResult fit = core::fit_matrix(cpu::backend().matrices, in_threads, input, options);
  const std::vector<uint8_t> header = core::write_matrix_model(fit.model);
  Tensor bits = torch::stable::new_empty(symbols, {}, ScalarType::Long);
  *bits.mutable_data_ptr<int64_t>() = int64_t(fit.symbol_bits + fit.chunk_bits) + 8 * (1 + int64_t(header.size()));
  return {bytes_tensor(symbols, header), bits};
}

// int64 [columns + 2, columns]: products, sums, and the number of lines in front of the last row.
Tensor matrix_gram_cpu(const Tensor& symbols, int64_t columns, bool transposed) {
  constexpr const char* kOp = "matrix_gram";
  ANS_CHECK_ARGUMENT(columns <= core::kMaxPeriod, kOp, columns, " columns are more than a predictor can have");
  const FitView view(kOp, symbols, columns, transposed);
  core::Gram gram;
  gram.columns = columns;
  core::add_to_gram(cpu::backend().matrices, in_threads, view.lines().symbols, view.lines().type != SymbolType::kU8, view.lines().lines, columns, &gram);
  Tensor out = torch::stable::new_empty(symbols, {columns + 2, columns}, ScalarType::Long);
  int64_t* to = out.mutable_data_ptr<int64_t>();
  to = std::copy(gram.product.begin(), gram.product.end(), to);
  to = std::copy(gram.sum.begin(), gram.sum.end(), to);
  std::fill_n(to, columns, int64_t{0});
  *to = gram.lines;
  return out;
}

struct ParsedGram {
  Tensor numbers;
  core::GramView view;
};
ParsedGram parse_gram(const char* op, const Tensor& tensor) {
  ANS_CHECK_ARGUMENT(tensor.is_cpu() && tensor.scalar_type() == ScalarType::Long && tensor.dim() == 2 && tensor.size(1) >= 2 && tensor.size(0) == tensor.size(1) + 2, op,
                     "a gram is what matrix_gram returns");
  Tensor source = torch::stable::contiguous(tensor);
  const int64_t columns = tensor.size(1), *product = source.const_data_ptr<int64_t>(), *sum = product + columns * columns;
  ANS_CHECK_ARGUMENT(sum[columns] >= 1, op, "a gram of no lines");
  return {std::move(source), {sum[columns], columns, sum, product}};
}

core::Covariance covariance_of(const char* op, const std::vector<Tensor>& grams) {
  ANS_CHECK_ARGUMENT(!grams.empty(), op, "there are no grams");
  core::Covariance covariance(parse_gram(op, grams[0]).view.columns);
  for (const Tensor& t : grams) {
    const ParsedGram gram = parse_gram(op, t);
    ANS_CHECK_ARGUMENT(gram.view.columns == covariance.columns, op, "grams of ", covariance.columns, " and of ", gram.view.columns, " columns");
    covariance.add(gram.view);
  }
  return covariance;
}

std::tuple<Tensor, Tensor> fit_predictor_cpu(std::vector<Tensor> grams) {
  constexpr const char* kOp = "fit_predictor";
  const core::Covariance covariance = covariance_of(kOp, grams);
  core::FittedPredictor fitted;
  if (covariance.lines > 0) {
    fitted = core::fit_predictor(cpu::backend().matrices, covariance, covariance.columns - 1, in_threads);
  } else {  // constant columns
    fitted.predictor.period = covariance.columns;
    fitted.predictor.window = 1;
    fitted.predictor.coefficients.assign(size_t(covariance.columns - 1), 0);
  }
  Tensor bits = torch::stable::new_empty(grams[0], {2}, ScalarType::Double);
  bits.mutable_data_ptr<double>()[0] = fitted.gain_bits;
  bits.mutable_data_ptr<double>()[1] = fitted.coefficient_bits;
  return {bytes_tensor(grams[0], core::write_predictor(fitted.predictor)), bits};
}

// What the lines of a matrix save by references to those of another one, in bits, before any other prediction.
Tensor reference_gain_cpu(const Tensor& symbols, int64_t columns, bool transposed, const Tensor& reference, bool reference_transposed) {
  constexpr const char* kOp = "reference_gain";
  const FitView view(kOp, symbols, columns, transposed);
  const FitView other(kOp, checked_reference(kOp, reference, symbols.numel(), symbols.scalar_type()).value(), columns, reference_transposed);
  const core::MatrixCoder& coder = cpu::backend().matrices;
  std::vector<core::Residuals> own, given;
  own.push_back(core::residuals_of(coder, in_threads, view.lines(), nullptr));
  given.push_back(core::residuals_of(coder, in_threads, other.lines(), nullptr));
  core::take_means(in_threads, &own[0]);
  core::take_means(in_threads, &given[0]);
  const std::vector<int32_t> part(size_t(own[0].lines), 0);
  core::ReferenceOptions options;
  options.nearest = false;
  Tensor bits = torch::stable::new_empty(symbols, {}, ScalarType::Double);
  *bits.mutable_data_ptr<double>() = core::fit_references(coder, in_threads, {&own, nullptr, &given, &part}, options).gain_bits;
  return bits;
}

// float64 [grams, predictors]
Tensor predictor_gains_cpu(std::vector<Tensor> grams, std::vector<Tensor> predictors, int64_t stride) {
  constexpr const char* kOp = "predictor_gains";
  ANS_CHECK_ARGUMENT(!grams.empty(), kOp, "there are no grams");
  ANS_CHECK_ARGUMENT(stride >= 1, kOp, "stride is ", stride);
  const core::PredictorList list = parse_predictors(kOp, predictors);
  std::vector<ParsedGram> parsed;
  for (const Tensor& t : grams) {
    parsed.push_back(parse_gram(kOp, t));
    const int64_t columns = parsed.back().view.columns;
    ANS_CHECK_ARGUMENT(columns == parsed[0].view.columns, kOp, "grams of ", parsed[0].view.columns, " and of ", columns, " columns");
    for (const auto& p : list) ANS_CHECK_ARGUMENT(p->period == columns, kOp, "a predictor has a period of ", p->period, ", a gram ", columns, " columns");
  }
  Tensor bits = torch::stable::new_empty(grams[0], {int64_t(grams.size()), int64_t(list.size())}, ScalarType::Double);
  double* out = bits.mutable_data_ptr<double>();
  in_threads(int64_t(parsed.size()), [&](int64_t begin, int64_t end) {
    core::Covariance covariance(parsed[0].view.columns);
    for (int64_t i = begin; i < end; ++i) {
      covariance.clear();
      covariance.add(parsed[size_t(i)].view);
      for (size_t k = 0; k < list.size(); ++k)
        out[size_t(i) * list.size() + k] = covariance.lines > 0 ? core::predictor_gain(cpu::backend().matrices, covariance, *list[k], stride) : 0;
    }
  });
  return bits;
}

std::vector<Tensor> fit_predictors_cpu(std::vector<Tensor> symbols, int64_t columns, std::vector<int64_t> transposed, int64_t most) {
  constexpr const char* kOp = "fit_predictors";
  ANS_CHECK_ARGUMENT(!symbols.empty() && symbols.size() == transposed.size(), kOp, symbols.size(), " tensors and ", transposed.size(), " flags");
  ANS_CHECK_ARGUMENT(most >= 1 && most <= core::kMaxParts, kOp, "most is ", most, ", not in 1 ... ", core::kMaxParts);
  ANS_CHECK_ARGUMENT(columns <= core::kMaxPeriod, kOp, columns, " columns are more than a predictor can have");
  std::vector<std::unique_ptr<FitView>> views;
  std::vector<core::LineSet> sets;
  for (size_t i = 0; i < symbols.size(); ++i) {
    views.push_back(std::make_unique<FitView>(kOp, symbols[i], columns, transposed[i] != 0));
    sets.push_back(views.back()->lines());
  }
  std::vector<Tensor> result;
  for (const core::FittedPredictor& p : core::fit_predictor_set(cpu::backend().matrices, in_threads, sets, int(most)).predictors)
    result.push_back(bytes_tensor(symbols[0], core::write_predictor(p.predictor)));
  return result;
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("fit_matrix", TORCH_BOX(&ans::ops::fit_matrix_cpu));
  m.impl("matrix_gram", TORCH_BOX(&ans::ops::matrix_gram_cpu));
  m.impl("fit_predictor", TORCH_BOX(&ans::ops::fit_predictor_cpu));
  m.impl("predictor_gains", TORCH_BOX(&ans::ops::predictor_gains_cpu));
  m.impl("reference_gain", TORCH_BOX(&ans::ops::reference_gain_cpu));
  m.impl("fit_predictors", TORCH_BOX(&ans::ops::fit_predictors_cpu));
}
