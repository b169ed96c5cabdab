#include "torch/matrix_stream.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "core/byte_buffer.h"
#include "core/directory.h"

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
    items_.push_back({std::move(bytes), std::move(predictor)});
    if (items_.size() > kItems) items_.pop_front();
  }

 private:
  struct Item {
    std::vector<uint8_t> bytes;
    std::shared_ptr<const core::Predictor> predictor;
  };
  static constexpr size_t kItems = 8;
  std::mutex mutex_;
  std::deque<Item> items_;
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

void transpose_bytes(const uint8_t* from, int64_t lines, int64_t columns, uint8_t* to) {
  constexpr int64_t kTile = 64;
  (void)parallel_ranges((columns + kTile - 1) / kTile, 1 + (1 << 16) / std::max<int64_t>(1, lines * kTile), [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile)
      for (int64_t i0 = 0; i0 < lines; i0 += kTile)
        for (int64_t j = tile * kTile; j < std::min(columns, (tile + 1) * kTile); ++j)
          for (int64_t i = i0; i < std::min(lines, i0 + kTile); ++i) to[j * lines + i] = from[i * columns + j];
    return Status::kOk;
  });
}

MatrixStream::MatrixStream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given,
                           bool has_reference) {
  auto check = [&](Status status, const char* why) {
    if (status != Status::kOk) check_status(op, status, (which + why).c_str());
  };
  int64_t consumed = 0, directory_bytes = 0;
  check(core::read_matrix_model(stream + 1, size - 1, numel, type, given, &model, &consumed), "bad header of a matrix");
  if (model.has_given_reference && !has_reference) check(Status::kReferenceMissing, "the stream needs the matrix that it refers to");
  check(core::make_line_order(model, &order), "bad references of lines");
  const uint8_t *at = stream + 1 + consumed, *const end = stream + size;
  const auto symbols_in = [&](int64_t chunk) { return order.chunk_lines(chunk) * model.columns; };
  check(core::read_directory(at, end - at, order.chunks(), symbols_in, &entries, &directory_bytes), "bad chunk directory");
  at += directory_bytes;
  for (const core::ChunkEntry& e : entries) {
    begin.push_back(at);
    at += 2 * int64_t(e.words);
  }
}

void decode_matrix_stream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given,
                          ReferenceMatrix reference, uint8_t* out) {
  const MatrixStream parts(op, which, stream, size, numel, type, given, reference.symbols != nullptr);
  const core::MatrixModel& model = parts.model;
  const core::LineOrder& order = parts.order;

  // Lines lie one after another while they are decoded; so does the matrix that they refer to.
  core::ByteBuffer own, other;
  uint8_t* symbols = out;
  if (model.transposed) {
    own.reserve(numel);
    symbols = own.data();
  }
  const uint8_t* given_lines = reference.symbols;
  if (model.has_given_reference && model.given_transposed) {
    other.reserve(numel);
    transpose_bytes(reference.symbols, model.columns, model.lines, other.data());
    given_lines = other.data();
  }
  const core::MatrixTables tables(model, type);
  const core::ContextDecodeTables contexts = core::make_context_decode_tables(model);
  const core::MatrixLines lines = core::make_matrix_lines(model, tables, order, type, symbols, given_lines);

  const core::MatrixCoder& coder = cpu::backend().matrices;
  for (size_t level = 0; level + 1 < order.level_begin.size(); ++level) {  // each refers to those before
    const int64_t first = order.level_begin[level];
    const Status status = parallel_ranges(order.level_begin[level + 1] - first, 1, [&](int64_t from, int64_t to) {
      core::MatrixBand band(tables);
      for (int64_t c = first + from; c < first + to; ++c) {
        const size_t i = size_t(c);
        const core::MatrixDecodeJob job{&lines,         &tables.rows(order.chunk_part[i]), contexts.slots(), order.chunk_begin[i], order.chunk_lines(c), parts.begin[i],
                                        parts.entries[i], model.raw_bits,             model.raw_min};
        if (const Status s = coder.decode_chunk(job, &band); s != Status::kOk) return s;
      }
      return Status::kOk;
    });
    if (status != Status::kOk) check_status(op, status, (which + "the payload is damaged").c_str());
  }
  if (model.transposed) transpose_bytes(own.data(), model.lines, model.columns, out);
}

}  // namespace ans::ops
