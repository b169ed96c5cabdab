// Operators of matrix streams: encoding, decoding, and what a stream says about itself.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <memory>

#include "core/byte_buffer.h"
#include "core/matrix/matrix_band.h"
#include "core/matrix/matrix_coder.h"
#include "core/matrix/matrix_encoder.h"
#include "cpu/backends.h"
#include "torch/matrix_cpu.h"
#include "torch/matrix_stream.h"
#include "torch/stream_parts.h"

namespace ans::ops {
namespace {

using core::Status;
using format::SymbolType;

Tensor encode_matrix_cpu(const Tensor& symbols, const Tensor& header, std::vector<Tensor> predictors, std::optional<Tensor> reference) {
  constexpr const char* kOp = "encode_matrix";
  const MatrixHeader head(kOp, symbols, header, predictors, reference);
  const core::MatrixModel& model = head.model;
  const core::LineOrder& order = head.order;
  const View view(kOp, symbols, model.columns, model.transposed);
  std::optional<View> given;
  if (model.has_given_reference) given.emplace(kOp, *head.reference, model.columns, model.given_transposed);

  const core::MatrixTables tables(model, view.type);
  const core::MatrixLines lines = core::make_matrix_lines(model, tables, order, view.type, const_cast<uint8_t*>(view.data()), given.has_value() ? given->data() : nullptr);  // only read

  const core::MatrixCoder& coder = cpu::backend().matrices;
  const core::ContextEncodeTables contexts = core::make_context_encode_tables(model, view.type);
  std::vector<core::EncodedChunk> chunks(size_t(order.chunks()));
  const Status status = parallel_ranges(order.chunks(), 1, [&](int64_t begin, int64_t end) {
    const auto encoder = std::make_unique<core::MatrixEncoder>(coder, lines, tables, contexts, model.raw_bits, model.raw_min);
    for (int64_t c = begin; c < end; ++c) {
      const size_t i = size_t(c);
      if (const Status s = encoder->encode(order.chunk_part[i], order.chunk_begin[i], order.chunk_lines(c), &chunks[i]); s != Status::kOk) return s;
    }
    return Status::kOk;
  });
  check_status(kOp, status, kForeignSymbols);
  std::vector<core::ChunkEntry> entries;
  int64_t payload = 0;
  for (const core::EncodedChunk& c : chunks) {
    entries.push_back(c.entry);
    payload += c.bytes();
  }
  const std::vector<uint8_t> directory = core::write_directory(entries.data(), int64_t(entries.size()));
  Tensor out = host_result(symbols, {1 + int64_t(head.bytes.size() + directory.size()) + payload}, ScalarType::Byte);
  uint8_t* to = static_cast<uint8_t*>(out.mutable_data_ptr());
  *to++ = uint8_t(format::Model::kMatrix);
  to = std::copy(head.bytes.begin(), head.bytes.end(), to);
  to = std::copy(directory.begin(), directory.end(), to);
  for (const core::EncodedChunk& c : chunks) to = std::copy_n(c.begin(), c.bytes(), to);
  return out;
}

// A stream in host memory, and which model it is of.
struct StreamBytes {
  StreamBytes(const char* op, const Tensor& stream, int64_t numel, ScalarType symbol_dtype) : type(symbol_type(op, symbol_dtype)), bytes(checked(op, stream)) {
    is_matrix = StreamParts(op, "", data(), bytes.numel(), numel, type).model == format::Model::kMatrix;
  }
  static Tensor checked(const char* op, const Tensor& stream) {
    check_bytes(op, "stream", stream);
    return torch::stable::contiguous(stream);
  }
  const uint8_t* data() const { return static_cast<const uint8_t*>(bytes.const_data_ptr()); }
  int64_t size() const { return bytes.numel(); }

  SymbolType type;
  Tensor bytes;
  bool is_matrix;
};

Tensor decode_matrix_cpu(const Tensor& stream, int64_t numel, ScalarType symbol_dtype, std::vector<Tensor> predictors, std::optional<Tensor> reference) {
  constexpr const char* kOp = "decode_matrix";
  const StreamBytes bytes(kOp, stream, numel, symbol_dtype);
  const core::PredictorList list = parse_predictors(kOp, predictors);
  const std::optional<Tensor> other = checked_reference(kOp, reference, numel, symbol_dtype);
  Tensor symbols = host_result(stream, {numel}, symbol_dtype);
  decode_matrix_stream(kOp, "", bytes.data(), bytes.size(), numel, bytes.type, list, other.has_value() ? static_cast<const uint8_t*>(other->const_data_ptr()) : nullptr,
                       static_cast<uint8_t*>(symbols.mutable_data_ptr()));
  return symbols;
}

void decode_matrices_out_cpu(std::vector<Tensor> streams, std::vector<Tensor> predictors, std::vector<int64_t> predictor_counts, std::vector<Tensor> given,
                             std::vector<int64_t> reference_of, std::vector<Tensor> outs) {
  constexpr const char* kOp = "decode_matrices_out";
  for (const MatrixSource& s : matrix_sources(kOp, streams, predictors, predictor_counts, given, reference_of, outs)) {
    ANS_CHECK_ARGUMENT(s.stream.is_cpu() && outs[0].is_cpu(), kOp, s.which, "stream and out are not both on the CPU");
    decode_matrix_stream(kOp, s.which, static_cast<const uint8_t*>(s.stream.const_data_ptr()), s.stream.numel(), s.numel, s.type, s.predictors, s.reference(), s.out);
  }
}

// int32 [chunks, 2], as of the other models' streams: words and tail.
Tensor matrix_directory_cpu(const Tensor& stream, int64_t numel, ScalarType symbol_dtype, std::vector<Tensor> predictors) {
  constexpr const char* kOp = "matrix_directory";
  const StreamBytes bytes(kOp, stream, numel, symbol_dtype);
  const MatrixStream parts(kOp, "", bytes.data(), bytes.size(), numel, bytes.type, parse_predictors(kOp, predictors), true);
  Tensor out = torch::stable::new_empty(stream, {int64_t(parts.entries.size()), 2}, ScalarType::Int);
  int32_t* to = out.mutable_data_ptr<int32_t>();
  for (const core::ChunkEntry& e : parts.entries) {
    *to++ = e.words;
    *to++ = e.tail;
  }
  return out;
}

// How many predictors a stream needs, whether it needs a reference; the states of its trellis and the columns of its lines.
Tensor matrix_needs_cpu(const Tensor& stream, int64_t numel, ScalarType symbol_dtype) {
  constexpr const char* kOp = "matrix_needs";
  const StreamBytes bytes(kOp, stream, numel, symbol_dtype);
  core::MatrixNeeds needs{};
  if (bytes.is_matrix)
    check_status(kOp, core::read_matrix_needs(bytes.data() + 1, bytes.size() - 1, numel, bytes.type, &needs), "bad header of a matrix");
  Tensor out = torch::stable::new_empty(stream, {4}, ScalarType::Long);
  const int64_t numbers[] = {needs.predictors, int64_t(needs.reference), needs.trellis, needs.columns};
  std::copy(numbers, numbers + 4, out.mutable_data_ptr<int64_t>());
  return out;
}

// The predictors that a stream carries; none if it is no matrix.
std::vector<Tensor> stream_predictors_cpu(const Tensor& stream, int64_t numel, ScalarType symbol_dtype) {
  constexpr const char* kOp = "stream_predictors";
  const StreamBytes bytes(kOp, stream, numel, symbol_dtype);
  std::vector<Tensor> result;
  if (!bytes.is_matrix) return result;
  core::MatrixModel model;
  int64_t consumed = 0;
  check_status(kOp, core::read_matrix_model(bytes.data() + 1, bytes.size() - 1, numel, bytes.type, {}, &model, &consumed), "bad header of a matrix that carries predictors for others");
  for (size_t i = 0; i < model.own.size(); ++i)
    result.push_back(bytes_tensor(stream, std::vector<uint8_t>(bytes.data() + 1 + model.own_begin[i], bytes.data() + 1 + model.own_begin[i + 1])));
  return result;
}

}  // namespace

void decode_matrix_stream(const char* op, const std::string& which, const uint8_t* stream, int64_t size, int64_t numel, format::SymbolType type, const core::PredictorList& given,
                          const uint8_t* reference, uint8_t* out, const core::WeightTarget* target) {
  const MatrixStream parts(op, which, stream, size, numel, type, given, reference != nullptr);
  const core::MatrixModel& model = parts.model;
  const core::LineOrder& order = parts.order;

  // Lines lie one after another while they are decoded; so does the matrix that they refer to.
  core::ByteBuffer own, other;
  uint8_t* symbols = out;
  if (model.transposed) {
    own.reserve(numel * format::symbol_bytes(type));
    symbols = own.data();
  }
  const uint8_t* given_lines = reference;
  if (model.has_given_reference && model.given_transposed) {
    other.reserve(numel * format::symbol_bytes(type));
    transpose_symbols(type, reference, model.columns, model.lines, other.data());
    given_lines = other.data();
  }
  const core::MatrixTables tables(model, type);
  const core::ContextDecodeTables contexts = core::make_context_decode_tables(model);
  const core::MatrixLines lines = core::make_matrix_lines(model, tables, order, type, symbols, given_lines);

  const core::SteadyTables steady = core::make_steady_tables(model, tables);
  std::vector<core::SteadyRows> steady_rows;
  for (size_t part = 0; part < model.parts.size() && !steady.none(); ++part) steady_rows.push_back(core::steady_rows_of(model, tables, steady, int(part), type));
  const core::MatrixCoder& coder = cpu::backend().matrices;
  for (size_t level = 0; level + 1 < order.level_begin.size(); ++level) {  // each refers to those before
    const int64_t first = order.level_begin[level];
    const Status status = parallel_ranges(order.level_begin[level + 1] - first, 1, [&](int64_t from, int64_t to) {
      constexpr int kMost = core::kSteadyStreams;
      std::vector<core::MatrixBand> bands;
      std::vector<core::MatrixBand*> free;
      // Lines of which only the weights are wanted: some at a time, in the order in which they come.
      core::ByteBuffer few;
      core::MatrixLines few_lines{};
      const bool only_weights = target != nullptr && !model.transposed && !steady.none();
      for (int64_t c = first + from; c < first + to;) {
        std::vector<core::MatrixDecodeJob> together;  // of one part
        const int part = order.chunk_part[size_t(c)];
        for (; c < first + to && order.chunk_part[size_t(c)] == part && together.size() < (steady.none() ? 1 : kMost); ++c) {
          const size_t i = size_t(c);
          together.push_back({&lines, &tables.rows(part), contexts.slots(), order.chunk_begin[i], order.chunk_lines(c), stream + parts.begin[i], stream + size, parts.entries[i], model.raw_bits,
                              model.raw_min, steady.none() ? nullptr : &steady_rows[size_t(part)]});
        }
        if (bands.size() < together.size()) {
          bands.clear();
          free.clear();
          for (size_t i = 0; i < together.size(); ++i) bands.emplace_back(tables, type);
          for (core::MatrixBand& band : bands) free.push_back(&band);
        }
        if (only_weights) {
          few_lines.columns = model.columns;
          few_lines.type = type;
          few.reserve((together.back().position + together.back().count - together[0].position) * few_lines.line_bytes());
          few_lines.symbols = few.data();
          for (core::MatrixDecodeJob& job : together) job.lines = &few_lines, job.position -= order.chunk_begin[size_t(c) - together.size()];
        }
        if (const Status s = coder.decode_chunks(together.data(), int(together.size()), free.data()); s != Status::kOk) return s;
        if (target == nullptr || model.transposed) continue;
        for (size_t i = 0; i < together.size(); ++i)
          for (int64_t k = 0; k < together[i].count; ++k) {
            const int64_t line = lines.line_at(order.chunk_begin[size_t(c) - together.size() + i] + k);
            target->write(only_weights ? few_lines.line(together[i].position + k) : lines.line(line), line * model.columns, (line + 1) * model.columns);
          }
      }
      return Status::kOk;
    });
    if (status != Status::kOk) check_status(op, status, (which + "the payload is damaged").c_str());
  }
  if (!model.transposed) return;
  transpose_symbols(type, own.data(), model.lines, model.columns, out);
  if (target != nullptr) target->write(out, 0, numel);
}

}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("encode_matrix", TORCH_BOX(&ans::ops::encode_matrix_cpu));
  m.impl("decode_matrices_out", TORCH_BOX(&ans::ops::decode_matrices_out_cpu));
  m.impl("decode_matrix", TORCH_BOX(&ans::ops::decode_matrix_cpu));
  m.impl("matrix_directory", TORCH_BOX(&ans::ops::matrix_directory_cpu));
  m.impl("matrix_needs", TORCH_BOX(&ans::ops::matrix_needs_cpu));
  m.impl("stream_predictors", TORCH_BOX(&ans::ops::stream_predictors_cpu));
}
