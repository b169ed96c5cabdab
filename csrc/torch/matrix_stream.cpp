#include "torch/matrix_stream.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "core/directory.h"
#include "torch/stream_parts.h"

namespace ans::ops {

using core::Status;

namespace {

// Predictors that were parsed last: the streams of a model bring the same ones again and again.
class ParsedPredictors {
 public:
  std::shared_ptr<const core::Predictor> find(const std::vector<uint8_t>& bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const Item& item : items_)
      if (item.bytes == bytes) return item.predictor;
    return nullptr;
  }
  void keep(std::vector<uint8_t> bytes, std::shared_ptr<const core::Predictor> predictor) {
    const std::lock_guard<std::mutex> lock(mutex_);
    coefficients_ += predictor->coefficients.size();
    items_.push_back({std::move(bytes), std::move(predictor)});
    while (items_.size() > 1 && (items_.size() > kItems || coefficients_ > kCoefficients)) {
      coefficients_ -= items_.front().predictor->coefficients.size();
      items_.pop_front();
    }
  }

 private:
  struct Item {
    std::vector<uint8_t> bytes;
    std::shared_ptr<const core::Predictor> predictor;
  };
  static constexpr size_t kItems = 2 * core::kMaxPredictors, kCoefficients = size_t{1} << 24;
  std::mutex mutex_;
  std::deque<Item> items_;
  size_t coefficients_ = 0;
};

}  // namespace

core::PredictorList parse_predictors(const char* op, const std::vector<Tensor>& predictors) {
  static ParsedPredictors parsed;
  core::PredictorList list;
  for (size_t i = 0; i < predictors.size(); ++i) {
    check_bytes(op, "predictor", predictors[i]);
    ANS_CHECK_ARGUMENT(predictors[i].is_cpu(), op, "predictors are on the CPU");
    const Tensor source = torch::stable::contiguous(predictors[i]);
    const uint8_t* first = static_cast<const uint8_t*>(source.const_data_ptr());
    std::vector<uint8_t> bytes(first, first + source.numel());
    if (auto known = parsed.find(bytes); known != nullptr) {
      list.push_back(std::move(known));
      continue;
    }
    const uint8_t *at = bytes.data(), *const end = at + bytes.size();
    auto predictor = std::make_shared<core::Predictor>();
    int64_t coefficients = core::coefficient_count(core::kMaxPeriod, core::kMaxPeriod);
    const std::string which = name_of("predictor", i, predictors.size());
    check_status(op, core::read_predictor(&at, end, &coefficients, predictor.get()), (which + "bad predictor").c_str());
    check_status(op, at == end ? Status::kOk : Status::kBodySizeMismatch, (which + "bytes follow the predictor").c_str());
    list.push_back(predictor);
    parsed.keep(std::move(bytes), std::move(predictor));
  }
  return list;
}

std::vector<MatrixSource> matrix_sources(const char* op, const std::vector<Tensor>& streams, const std::vector<Tensor>& predictors, const std::vector<int64_t>& predictor_counts,
                                         const std::vector<Tensor>& given, const std::vector<int64_t>& reference_of, const std::vector<Tensor>& outs) {
  const int64_t count = int64_t(streams.size());
  ANS_CHECK_ARGUMENT(count > 0, op, "there are no streams");
  ANS_CHECK_ARGUMENT(outs.size() == streams.size() && predictor_counts.size() == streams.size() && reference_of.size() == streams.size(), op, count, " streams, ", predictor_counts.size(),
                     " counts of predictors, ", reference_of.size(), " references and ", outs.size(), " tensors for their symbols");
  std::vector<MatrixSource> sources;
  size_t next = 0;
  for (size_t i = 0; i < streams.size(); ++i) {
    check_bytes(op, "stream", streams[i]);
    const Tensor& out = outs[i];
    check_same_device(op, outs[0], out, "out");
    ANS_CHECK_ARGUMENT(out.is_contiguous(), op, "out is not contiguous");
    const format::SymbolType type = symbol_type(op, out.scalar_type());
    ANS_CHECK_ARGUMENT(predictor_counts[i] >= 0 && size_t(predictor_counts[i]) <= predictors.size() - next, op, "there are fewer predictors than their counts say");
    const auto first = predictors.begin() + int64_t(next);
    next += size_t(predictor_counts[i]);
    MatrixSource source{name_stream(i, streams.size()), torch::stable::contiguous(streams[i]),           out.numel(), type,
                        static_cast<uint8_t*>(out.mutable_data_ptr()), parse_predictors(op, {first, first + predictor_counts[i]})};
    const int64_t r = reference_of[i];
    ANS_CHECK_ARGUMENT(r >= -1 && (r < int64_t(i) || r >= count) && r < count + int64_t(given.size()), op, source.which, "reference ", r, " is no earlier stream and no given matrix");
    if (r >= 0) {
      const Tensor& reference = r < count ? outs[size_t(r)] : given[size_t(r - count)];
      check_same_device(op, outs[0], reference, "a reference");
      ANS_CHECK_ARGUMENT(reference.scalar_type() == out.scalar_type() && reference.numel() == out.numel(), op, source.which, "the reference has another size or dtype");
      source.reference_symbols.emplace(torch::stable::contiguous(reference));
      if (r < count) source.reference_source = r;
    }
    sources.push_back(std::move(source));
  }
  ANS_CHECK_ARGUMENT(next == predictors.size(), op, "there are more predictors than their counts say");
  return sources;
}

MatrixHeader::MatrixHeader(const char* op, const Tensor& symbols, const Tensor& header, const std::vector<Tensor>& predictors, const std::optional<Tensor>& given) {
  type = symbol_type(op, symbols.scalar_type());
  check_bytes(op, "header", header);
  ANS_CHECK_ARGUMENT(header.is_cpu(), op, "the header is on the CPU");
  const Tensor source = torch::stable::contiguous(header);
  const uint8_t* const first = static_cast<const uint8_t*>(source.const_data_ptr());
  bytes.assign(first, first + source.numel());
  int64_t consumed = 0;
  check_status(op, core::read_matrix_model(bytes.data(), int64_t(bytes.size()), symbols.numel(), type, parse_predictors(op, predictors), &model, &consumed), "bad header");
  ANS_CHECK_ARGUMENT(consumed == int64_t(bytes.size()), op, "bytes follow the header");
  check_status(op, core::make_line_order(model, &order), "bad references of lines");
  if (given.has_value()) {
    check_same_device(op, symbols, *given, "reference");
    ANS_CHECK_ARGUMENT(given->scalar_type() == symbols.scalar_type() && given->numel() == symbols.numel(), op, "the reference has another size or dtype");
  }
  ANS_CHECK_ARGUMENT(!model.has_given_reference || given.has_value(), op, "the header needs a reference");
  if (model.has_given_reference) reference.emplace(torch::stable::contiguous(*given));
}

MatrixStream::MatrixStream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given,
                           bool has_reference) {
  auto check = [&](Status status, const char* why) {
    if (status != Status::kOk) check_status(op, status, (which + why).c_str());
  };
  ANS_CHECK_ARGUMENT(StreamParts(op, which, stream, size, numel, type).model == format::Model::kMatrix, op, which, "the stream is none of a matrix");
  int64_t consumed = 0, directory_bytes = 0;
  check(core::read_matrix_model(stream + 1, size - 1, numel, type, given, &model, &consumed), "bad header of a matrix");
  if (model.has_given_reference && !has_reference) check(Status::kReferenceMissing, "the stream needs the matrix that it refers to");
  check(core::make_line_order(model, &order), "bad references of lines");
  const uint8_t *at = stream + 1 + consumed, *const end = stream + size;
  const auto symbols_in = [&](int64_t chunk) { return order.chunk_lines(chunk) * model.columns; };
  check(core::read_directory(at, end - at, order.chunks(), symbols_in, &entries, &directory_bytes), "bad chunk directory");
  at += directory_bytes;
  for (const core::ChunkEntry& e : entries) {
    begin.push_back(at - stream);
    at += 2 * int64_t(e.words);
  }
}

}  // namespace ans::ops
