// CPU kernels of the streams of BITSTREAM.md.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <tuple>

#include "core/histogram.h"
#include "core/normalize.h"
#include "torch/coder_cpu.h"
#include "torch/matrix_cpu.h"
#include "torch/stream_parts.h"

namespace ans::ops {
namespace {

Tensor encode_stream_of(const char* kOp, const Tensor& symbols, int64_t chunk_symbols) {
  const SymbolType type = symbol_type(kOp, symbols.scalar_type());
  check_chunk_symbols(kOp, chunk_symbols);
  const Tensor source = torch::stable::contiguous(symbols);
  const uint8_t* data = static_cast<const uint8_t*>(source.const_data_ptr());
  const int64_t numel = source.numel(), width = format::symbol_bytes(type);
  std::vector<uint64_t> counts(size_t(format::symbol_values(type)));
  std::mutex merging;
  (void)parallel_ranges(numel, 1 << 20, [&](int64_t begin, int64_t end) {
    std::vector<uint64_t> local(counts.size());
    core::histogram(data + begin * width, type, end - begin, local.data());
    const std::lock_guard<std::mutex> lock(merging);
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += local[i];
    return Status::kOk;
  });
  core::FrequencyTable table;
  std::vector<uint8_t> head = core::stream_prefix(counts.data(), type, chunk_symbols, &table);
  auto stream = [&](const void* body, int64_t bytes) {
    Tensor out = host_result(symbols, {int64_t(head.size()) + bytes}, ScalarType::Byte);
    uint8_t* p = static_cast<uint8_t*>(out.mutable_data_ptr());
    std::memcpy(p, head.data(), head.size());
    if (body != nullptr && bytes > 0) std::memcpy(p + head.size(), body, size_t(bytes));
    return out;
  };
  const format::Model model = format::Model(head[0]);
  if (model == format::Model::kConstant) return stream(nullptr, 0);
  if (model == format::Model::kRaw) return stream(data, numel * width);
  const EncodedParts encoded = encode_chunks(kOp, "", data, type, numel, table, chunk_symbols);
  const std::vector<ChunkEntry> entries = encoded.entries();
  const std::vector<uint8_t> directory = core::write_directory(entries.data(), int64_t(entries.size()));
  head.insert(head.end(), directory.begin(), directory.end());
  Tensor out = stream(nullptr, encoded.bytes());
  encoded.copy_to(static_cast<uint8_t*>(out.mutable_data_ptr()) + head.size());
  return out;
}

Tensor encode_stream_cpu(const Tensor& symbols, int64_t chunk_symbols) { return encode_stream_of("encode_stream", symbols, chunk_symbols); }
std::vector<Tensor> encode_streams_cpu(std::vector<Tensor> symbols, std::vector<int64_t> chunk_symbols) {
  constexpr const char* kOp = "encode_streams";
  ANS_CHECK_ARGUMENT(symbols.size() == chunk_symbols.size(), kOp, symbols.size(), " tensors and ", chunk_symbols.size(), " chunk sizes");
  std::vector<Tensor> streams;
  for (size_t i = 0; i < symbols.size(); ++i) streams.push_back(encode_stream_of(kOp, symbols[i], chunk_symbols[i]));
  return streams;
}

// A stream and what is known about it from elsewhere.
struct StreamInput {
  StreamInput(const char* op, const std::string& which_in, const Tensor& stream, int64_t numel_in, SymbolType type_in)
      : which(which_in), bytes(checked_bytes(op, stream)), numel(numel_in), type(type_in), parts(op, which, data(), bytes.numel(), numel, type) {}
  static Tensor checked_bytes(const char* op, const Tensor& stream) {
    check_bytes(op, "stream", stream);
    return torch::stable::contiguous(stream);
  }
  const uint8_t* data() const { return static_cast<const uint8_t*>(bytes.const_data_ptr()); }

  std::string which;
  Tensor bytes;
  int64_t numel;
  SymbolType type;
  StreamParts parts;
};

// Symbols that need no decoding: they are in the stream, or are all the same.
void copy_symbols(const StreamInput& stream, uint8_t* out) {
  const size_t width = size_t(format::symbol_bytes(stream.type)), bytes = size_t(stream.numel) * width;
  const uint8_t* source = stream.data() + 1;
  if (stream.parts.model == format::Model::kRaw) {
    if (bytes > 0) std::memcpy(out, source, bytes);
  } else if (width == 1) {
    std::memset(out, source[0], bytes);
  } else {
    for (size_t at = 0; at < bytes; at += 2) std::memcpy(out + at, source, 2);
  }
}

void copy_weights(const StreamInput& stream, const core::WeightTarget& target) {
  if (stream.parts.model == format::Model::kRaw) return target.write(stream.data() + 1, 0, stream.numel);
  std::vector<uint8_t> row(size_t(target.columns) * size_t(format::symbol_bytes(stream.type)));
  StreamInput one_row = stream;
  one_row.numel = target.columns;
  copy_symbols(one_row, row.data());
  for (int64_t begin = 0; begin < stream.numel; begin += target.columns) target.write(row.data(), begin, begin + target.columns);
}

// A matrix stream, to symbols or weights.
void decode_matrix(const char* op, const StreamInput& stream, const core::WeightTarget* target, uint8_t* out) {
  core::ByteBuffer symbols;
  if (target != nullptr) {
    symbols.reserve(stream.numel * format::symbol_bytes(stream.type));
    out = symbols.data();
  }
  decode_matrix_stream(op, stream.which, stream.data(), stream.bytes.numel(), stream.numel, stream.type, {}, nullptr, out, target);
}

// Decodes many streams at once, to the symbols at outs[i] or, if there are destinations, to weights.
void decode_all(const char* op, const std::vector<StreamInput>& streams, const std::vector<uint8_t*>& outs, const std::vector<WeightDestination>& destinations) {
  struct Coded {
    size_t stream;
    std::unique_ptr<core::DecodeTable> table;
    Chunks chunks;
    const core::WeightTarget* target;
    uint8_t* out;
    void append_jobs(std::vector<core::ChunkJob>* jobs) const { chunks.append_jobs(*table, out, target, jobs); }
  };
  const cpu::Backend& backend = cpu::backend();
  std::vector<Coded> coded;
  for (size_t i = 0; i < streams.size(); ++i) {
    const StreamInput& s = streams[i];
    const core::WeightTarget* target = destinations.empty() ? nullptr : &destinations[i].target;
    if (s.parts.model == format::Model::kMatrix) {
      decode_matrix(op, s, target, target == nullptr ? outs[i] : nullptr);
    } else if (s.parts.model != format::Model::kRaw && s.parts.model != format::Model::kConstant) {
      Chunks chunks(op, s.data() + s.parts.payload_begin, s.bytes.numel() - s.parts.payload_begin, s.parts.entries, s.numel, s.parts.chunk_symbols);
      coded.push_back({i, prepare_table(backend, s.parts.table, s.type), std::move(chunks), target, target == nullptr ? outs[i] : nullptr});
    } else if (s.numel > 0) {
      if (target == nullptr) copy_symbols(s, outs[i]);
      else copy_weights(s, *target);
    }
  }
  // Chunks that can be decoded side by side come together.
  auto kind = [](const Coded& c) { return std::make_pair(c.table->buckets, c.table->symbol_bytes); };
  std::stable_sort(coded.begin(), coded.end(), [&](const Coded& a, const Coded& b) { return kind(a) < kind(b); });
  std::vector<core::ChunkJob> jobs;
  for (const Coded& c : coded) c.append_jobs(&jobs);
  const Status status = do_jobs(backend, jobs);
  if (status == Status::kOk) return;
  std::stable_sort(coded.begin(), coded.end(), [](const Coded& a, const Coded& b) { return a.stream < b.stream; });
  for (const Coded& c : coded) {  // which was it?
    jobs.clear();
    c.append_jobs(&jobs);
    check_status(op, do_jobs(backend, jobs), (streams[c.stream].which + "the payload is damaged").c_str());
  }
  check_status(op, status, "a payload is damaged");
}

Tensor decode_stream_cpu(const Tensor& stream, int64_t numel, ScalarType symbol_dtype) {
  constexpr const char* kOp = "decode_stream";
  std::vector<StreamInput> streams;
  streams.emplace_back(kOp, "", stream, numel, symbol_type(kOp, symbol_dtype));  // before anything is allocated
  Tensor symbols = host_result(stream, {numel}, symbol_dtype);
  decode_all(kOp, streams, {static_cast<uint8_t*>(symbols.mutable_data_ptr())}, {});
  return symbols;
}

void decode_streams_into(const char* op, const std::vector<Tensor>& streams, const std::vector<Tensor>& outs) {
  ANS_CHECK_ARGUMENT(streams.size() == outs.size(), op, streams.size(), " streams, but ", outs.size(), " tensors for their symbols");
  std::vector<StreamInput> inputs;
  std::vector<uint8_t*> addresses;
  for (size_t i = 0; i < streams.size(); ++i) {
    ANS_CHECK_ARGUMENT(outs[i].is_cpu(), op, "out is not on the CPU");
    ANS_CHECK_ARGUMENT(outs[i].is_contiguous(), op, "out is not contiguous");
    inputs.emplace_back(op, name_stream(i, streams.size()), streams[i], outs[i].numel(), symbol_type(op, outs[i].scalar_type()));
    addresses.push_back(static_cast<uint8_t*>(outs[i].mutable_data_ptr()));
    advise_huge_pages(outs[i]);
  }
  decode_all(op, inputs, addresses, {});
}

void decode_stream_out_cpu(const Tensor& stream, Tensor out) { decode_streams_into("decode_stream_out", {stream}, {out}); }
void decode_streams_out_cpu(std::vector<Tensor> streams, std::vector<Tensor> outs) { decode_streams_into("decode_streams_out", streams, outs); }

void decode_streams_to_weights(const char* kOp, const std::vector<Tensor>& streams, const std::vector<Tensor>& scales, const std::vector<Tensor>& exponents, SymbolType type,
                               const std::vector<Tensor>& outs, const std::vector<Tensor>& column_factors = {}) {
  ANS_CHECK_ARGUMENT(streams.size() == outs.size() && streams.size() == scales.size() && streams.size() == exponents.size(), kOp, streams.size(), " streams, ",
                     scales.size(), " scales, ", exponents.size(), " exponents and ", outs.size(), " tensors for the weights");
  std::vector<StreamInput> inputs;
  std::vector<WeightDestination> destinations;
  for (size_t i = 0; i < streams.size(); ++i) {
    ANS_CHECK_ARGUMENT(outs[i].is_cpu(), kOp, "out is not on the CPU");
    inputs.emplace_back(kOp, name_stream(i, streams.size()), streams[i], outs[i].numel(), type);
    destinations.emplace_back(kOp, outs[i], scales[i], exponents[i], type);
    advise_huge_pages(outs[i]);
  }
  const std::vector<Tensor> factors = checked_column_factors(kOp, outs, column_factors);
  for (size_t i = 0; i < factors.size(); ++i)
    if (factors[i].numel() > 0) destinations[i].target.column_factor = factors[i].const_data_ptr<float>();
  decode_all(kOp, inputs, {}, destinations);
}

void decode_streams_dequantize_out_cpu(std::vector<Tensor> streams, std::vector<Tensor> scales, std::vector<Tensor> exponents, ScalarType symbol_dtype, std::vector<Tensor> outs,
                                       std::vector<Tensor> column_factors) {
  constexpr const char* kOp = "decode_streams_dequantize_out";
  decode_streams_to_weights(kOp, streams, scales, exponents, symbol_type(kOp, symbol_dtype), outs, column_factors);
}

// ---- a plan and its run: on the CPU there is nothing to prepare, and a run is complete when it returns ----

std::tuple<Tensor, Tensor> plan_decode_cpu(std::vector<Tensor> streams, std::vector<Tensor> scales, std::vector<Tensor> exponents, ScalarType symbol_dtype, std::vector<Tensor> outs) {
  constexpr const char* kOp = "plan_decode";
  ANS_CHECK_ARGUMENT(!outs.empty() && streams.size() == outs.size() && scales.size() == exponents.size() && (scales.empty() || scales.size() == outs.size()), kOp, streams.size(),
                     " streams, ", scales.size(), " scales, ", exponents.size(), " exponents and ", outs.size(), " tensors for the results");
  const int64_t type = int64_t(symbol_type(kOp, symbol_dtype));
  Tensor plan = torch::stable::new_empty(outs[0], {1}, ScalarType::Long);
  *plan.mutable_data_ptr<int64_t>() = type;
  return {plan, torch::stable::new_empty(outs[0], {0}, ScalarType::Byte)};
}

Tensor run_decode_cpu(const Tensor& plan, const Tensor&, std::vector<Tensor> streams, std::vector<Tensor> scales, std::vector<Tensor> exponents, std::vector<Tensor> outs) {
  constexpr const char* kOp = "run_decode";
  const bool is_plan = plan.scalar_type() == ScalarType::Long && plan.numel() == 1 && !outs.empty();
  ANS_CHECK_ARGUMENT(is_plan && *plan.const_data_ptr<int64_t>() >= 0 && *plan.const_data_ptr<int64_t>() <= int64_t(SymbolType::kI16), kOp, "this is no plan");
  const SymbolType type = SymbolType(*plan.const_data_ptr<int64_t>());
  if (scales.empty() && exponents.empty()) decode_streams_into(kOp, streams, outs);
  else decode_streams_to_weights(kOp, streams, scales, exponents, type, outs);
  return torch::stable::new_zeros(outs[0], {int64_t(outs.size())}, ScalarType::Int);
}

void check_decoded_cpu(const Tensor& status) {
  constexpr const char* kOp = "check_decoded";
  ANS_CHECK_ARGUMENT(status.scalar_type() == ScalarType::Int && status.dim() == 1, kOp, "status is not what run_decode returns");
  const Tensor source = torch::stable::contiguous(status);
  check_decoded_status(kOp, source.const_data_ptr<int32_t>(), size_t(source.numel()));
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("encode_stream", TORCH_BOX(&ans::ops::encode_stream_cpu));
  m.impl("encode_streams", TORCH_BOX(&ans::ops::encode_streams_cpu));
  m.impl("decode_stream", TORCH_BOX(&ans::ops::decode_stream_cpu));
  m.impl("decode_stream_out", TORCH_BOX(&ans::ops::decode_stream_out_cpu));
  m.impl("decode_streams_out", TORCH_BOX(&ans::ops::decode_streams_out_cpu));
  m.impl("decode_streams_dequantize_out", TORCH_BOX(&ans::ops::decode_streams_dequantize_out_cpu));
  m.impl("plan_decode", TORCH_BOX(&ans::ops::plan_decode_cpu));
  m.impl("run_decode", TORCH_BOX(&ans::ops::run_decode_cpu));
  m.impl("check_decoded", TORCH_BOX(&ans::ops::check_decoded_cpu));
}
