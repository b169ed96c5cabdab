// CPU kernels of the tables and the coder.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <tuple>

#include "core/chunk_encoder.h"
#include "core/normalize.h"
#include "core/table_code.h"
#include "cpu/backends.h"
#include "torch/coder_cpu.h"
#include "torch/table_ops.h"

namespace ans::ops {

EncodedParts encode_chunks(const char* op, const std::string& which, const void* data, SymbolType type, int64_t numel, const core::FrequencyTable& table, int64_t chunk_symbols) {
  const auto prepared = std::make_unique<core::EncodeTable>();
  core::make_encode_table(table, type, prepared.get());
  EncodedParts encoded;
  std::mutex adding;
  const core::RowCoder& coder = cpu::backend().coder;
  const Status status = parallel_ranges(core::chunk_count(numel, chunk_symbols), 1, [&](int64_t begin, int64_t end) {
    EncodedParts::Part part;
    const auto encoder = std::make_unique<core::ChunkEncoder>(coder, *prepared, *part.scratch);
    constexpr int64_t kSymbolsApart = int64_t{1} << 23;
    const int64_t step = std::max<int64_t>(core::EncodeScratch::kMaxStreams, kSymbolsApart / chunk_symbols);
    Status s = Status::kOk;
    for (int64_t at = begin; at < end && s == Status::kOk; at += step) {
      if (at > begin) part.join(prepared->expected_bytes((end - begin) * chunk_symbols));
      s = encoder->encode(data, numel, chunk_symbols, at, std::min(end, at + step), &part.chunks);
      for (size_t i = 0; i < part.chunks.size(); ++i) part.entries.push_back(part.chunks[i].entry);
    }
    const std::lock_guard<std::mutex> lock(adding);
    encoded.parts.emplace(begin, std::move(part));
    return s;
  });
  check_status(op, status, (which + "a symbol is not in the table").c_str());
  return encoded;
}

Status do_jobs(const cpu::Backend& backend, const std::vector<core::ChunkJob>& jobs) {
  return parallel_ranges(int64_t(jobs.size()), 1, [&](int64_t begin, int64_t end) {
    const auto decoder = std::make_unique<core::ChunkDecoder>(backend.coder);
    return decoder->decode(jobs.data() + begin, end - begin);
  });
}

std::unique_ptr<core::DecodeTable> prepare_table(const cpu::Backend& backend, const core::FrequencyTable& table, SymbolType type) {
  std::unique_ptr<core::DecodeTable> prepared(new core::DecodeTable);  // not cleared: most of it may never be used
  const bool with_slots = backend.coder.uses_slots(format::bucket_count(table.alphabet_size()), format::symbol_bytes(type));
  core::make_decode_table(table, type, with_slots, prepared.get());
  return prepared;
}

WeightDestination::WeightDestination(const char* op, const Tensor& weight, const Tensor& scale, const Tensor& exponent, SymbolType symbol_type)
    : scales(torch::stable::contiguous(scale)) {
  const core::FloatType weight_type = float_type(op, weight.scalar_type());
  ANS_CHECK_ARGUMENT(weight.is_contiguous(), op, "out is not contiguous");
  const RowShape shape = row_shape(op, weight);
  check_row_scales(op, weight, scale, exponent);
  target = {&cpu::backend().quantizer,
            symbol_type,
            static_cast<const core::Float16*>(scales.const_data_ptr()),
            *exponent.const_data_ptr<int32_t>(),
            shape.columns,
            weight_type,
            static_cast<uint8_t*>(weight.mutable_data_ptr())};
}

namespace {

core::FrequencyTable parse_table(const char* op, const Tensor& table, SymbolType type) {
  check_bytes(op, "table", table);
  const Tensor source = torch::stable::contiguous(table);
  return ops::parse_table(op, static_cast<const uint8_t*>(source.const_data_ptr()), source.numel(), type);
}

// Of one tensor among others: `which` begins the text of an error.
std::tuple<Tensor, Tensor> encode_of(const char* kOp, const std::string& which, const Tensor& symbols, const Tensor& table, int64_t chunk_symbols) {
  const SymbolType type = symbol_type(kOp, symbols.scalar_type());
  check_chunk_symbols(kOp, chunk_symbols);
  const Tensor source = torch::stable::contiguous(symbols);
  const EncodedParts encoded = encode_chunks(kOp, which, source.const_data_ptr(), type, source.numel(), parse_table(kOp, table, type), chunk_symbols);
  Tensor payload = host_result(symbols, {encoded.bytes()}, ScalarType::Byte);
  encoded.copy_to(static_cast<uint8_t*>(payload.mutable_data_ptr()));
  const std::vector<ChunkEntry> entries = encoded.entries();
  Tensor directory = torch::stable::new_empty(symbols, {int64_t(entries.size()), 2}, ScalarType::Int);
  write_entries(entries, directory.mutable_data_ptr<int32_t>());
  return {payload, directory};
}

std::tuple<Tensor, Tensor> encode_cpu(const Tensor& symbols, const Tensor& table, int64_t chunk_symbols) { return encode_of("encode", "", symbols, table, chunk_symbols); }
std::tuple<std::vector<Tensor>, std::vector<Tensor>> encode_many_cpu(std::vector<Tensor> symbols, std::vector<Tensor> tables, std::vector<int64_t> chunk_symbols) {
  constexpr const char* kOp = "encode_many";
  ANS_CHECK_ARGUMENT(symbols.size() == tables.size() && symbols.size() == chunk_symbols.size(), kOp, symbols.size(), " tensors, ", tables.size(), " tables and ", chunk_symbols.size(),
                     " chunk sizes");
  std::vector<Tensor> payloads, directories;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const auto [payload, directory] = encode_of(kOp, name_of("tensor", i, symbols.size()), symbols[i], tables[i], chunk_symbols[i]);
    payloads.push_back(payload);
    directories.push_back(directory);
  }
  return {payloads, directories};
}

void decode_chunks(const char* op, const cpu::Backend& backend, const Chunks& chunks, const core::DecodeTable& table, Tensor& symbols) {
  std::vector<core::ChunkJob> jobs;
  chunks.append_jobs(table, static_cast<uint8_t*>(symbols.mutable_data_ptr()), nullptr, &jobs);
  check_status(op, do_jobs(backend, jobs), "the payload is damaged");
}

Tensor decode_cpu(const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t numel, int64_t chunk_symbols, ScalarType symbol_dtype) {
  constexpr const char* kOp = "decode";
  const SymbolType type = symbol_type(kOp, symbol_dtype);
  const Chunks chunks(kOp, payload, directory, numel, chunk_symbols);  // before anything is allocated
  const cpu::Backend& backend = cpu::backend();
  const auto prepared = prepare_table(backend, parse_table(kOp, table, type), type);
  Tensor symbols = host_result(payload, {numel}, symbol_dtype);
  decode_chunks(kOp, backend, chunks, *prepared, symbols);
  return symbols;
}

void decode_out_cpu(const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t chunk_symbols, Tensor out) {
  constexpr const char* kOp = "decode_out";
  ANS_CHECK_ARGUMENT(out.is_contiguous(), kOp, "out is not contiguous");
  const SymbolType type = symbol_type(kOp, out.scalar_type());
  const Chunks chunks(kOp, payload, directory, out.numel(), chunk_symbols);
  const cpu::Backend& backend = cpu::backend();
  decode_chunks(kOp, backend, chunks, *prepare_table(backend, parse_table(kOp, table, type), type), out);
}

// Decodes all chunks to the weights that their symbols stand for.
void decode_chunks_to_weights(const char* op, const Chunks& chunks, const Tensor& table, const Tensor& scale, const Tensor& exponent, ScalarType symbol_dtype,
                              Tensor& weight) {
  const SymbolType type = symbol_type(op, symbol_dtype);
  const cpu::Backend& backend = cpu::backend();
  const auto prepared = prepare_table(backend, parse_table(op, table, type), type);
  const WeightDestination destination(op, weight, scale, exponent, type);
  std::vector<core::ChunkJob> jobs;
  chunks.append_jobs(*prepared, nullptr, &destination.target, &jobs);
  check_status(op, do_jobs(backend, jobs), "the payload is damaged");
}

Tensor decode_dequantize_cpu(const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent,
                             torch::headeronly::IntHeaderOnlyArrayRef shape, int64_t chunk_symbols, ScalarType symbol_dtype, ScalarType dtype) {
  constexpr const char* kOp = "decode_dequantize";
  const int64_t numel = checked_numel(kOp, shape);
  float_type(kOp, dtype);
  const Chunks chunks(kOp, payload, directory, numel, chunk_symbols);  // before anything is allocated
  Tensor weight = host_result(payload, shape, dtype);
  decode_chunks_to_weights(kOp, chunks, table, scale, exponent, symbol_dtype, weight);
  return weight;
}

void decode_dequantize_out_cpu(const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent, int64_t chunk_symbols,
                               ScalarType symbol_dtype, Tensor out) {
  constexpr const char* kOp = "decode_dequantize_out";
  ANS_CHECK_ARGUMENT(out.is_contiguous(), kOp, "out is not contiguous");
  const Chunks chunks(kOp, payload, directory, out.numel(), chunk_symbols);
  decode_chunks_to_weights(kOp, chunks, table, scale, exponent, symbol_dtype, out);
}

std::string cpu_backend(std::string_view name) {
  const bool selected = name.empty() || cpu::select_backend(name == "best" ? "" : std::string(name));
  ANS_CHECK_ARGUMENT(selected, "cpu_backend", "this machine has no backend of that name");
  return cpu::backend().name;
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  ans::ops::TableOps<ans::ops::HostMemory>::register_in(m);
  m.impl("encode", TORCH_BOX(&ans::ops::encode_cpu));
  m.impl("encode_many", TORCH_BOX(&ans::ops::encode_many_cpu));
  m.impl("decode", TORCH_BOX(&ans::ops::decode_cpu));
  m.impl("decode_dequantize", TORCH_BOX(&ans::ops::decode_dequantize_cpu));
  m.impl("decode_out", TORCH_BOX(&ans::ops::decode_out_cpu));
  m.impl("decode_dequantize_out", TORCH_BOX(&ans::ops::decode_dequantize_out_cpu));
}
STABLE_TORCH_LIBRARY_IMPL(ans, CompositeExplicitAutograd, m) { m.impl("cpu_backend", TORCH_BOX(&ans::ops::cpu_backend)); }
