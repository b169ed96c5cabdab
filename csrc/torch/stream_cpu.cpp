// CPU kernels of the streams of BITSTREAM.md.
#include <torch/csrc/stable/library.h>

#include <limits>
#include <mutex>
#include <tuple>

#include "core/histogram.h"
#include "core/normalize.h"
#include "core/table_code.h"
#include "torch/coder_cpu.h"

namespace ans::ops {
namespace {

Tensor encode_stream_cpu(const Tensor& symbols, int64_t chunk_symbols) {
  constexpr const char* kOp = "encode_stream";
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
  const EncodedParts encoded = encode_chunks(kOp, data, type, numel, table, chunk_symbols);
  const std::vector<ChunkEntry> entries = encoded.entries();
  const std::vector<uint8_t> directory = core::write_directory(entries.data(), int64_t(entries.size()));
  head.insert(head.end(), directory.begin(), directory.end());
  Tensor out = stream(nullptr, encoded.bytes());
  encoded.copy_to(static_cast<uint8_t*>(out.mutable_data_ptr()) + head.size());
  return out;
}

Tensor stream_prefix_cpu(const Tensor& counts, ScalarType symbol_dtype, int64_t chunk_symbols) {
  constexpr const char* kOp = "stream_prefix";
  const SymbolType type = symbol_type(kOp, symbol_dtype);
  check_chunk_symbols(kOp, chunk_symbols);
  return bytes_tensor(counts, core::stream_prefix(check_counts(kOp, counts, type).data(), type, chunk_symbols, nullptr));
}

Tensor pack_directory_cpu(const Tensor& directory) {
  constexpr const char* kOp = "pack_directory";
  check_directory(kOp, directory);
  const Tensor source = torch::stable::contiguous(directory);
  const int32_t* p = source.const_data_ptr<int32_t>();
  std::vector<ChunkEntry> entries;
  for (int64_t i = 0; i < source.size(0); ++i) {
    ANS_CHECK_ARGUMENT(p[2 * i] > 0 && p[2 * i] <= format::max_chunk_words(format::kMaxChunkSymbols) && p[2 * i + 1] >= 0 && p[2 * i + 1] <= format::kMaxTail, kOp,
                       "chunk ", i, " is out of range");
    entries.push_back({p[2 * i], p[2 * i + 1]});
  }
  return bytes_tensor(directory, core::write_directory(entries.data(), int64_t(entries.size())));
}

// A stream taken apart; everything but the chunks themselves is checked.
struct StreamParts {
  StreamParts(const char* op, const uint8_t* p, int64_t size, int64_t numel, SymbolType type) {
    const int64_t width = format::symbol_bytes(type);
    auto require = [&](bool condition, Status status, const char* why) { check_status(op, condition ? Status::kOk : status, why); };
    ANS_CHECK_ARGUMENT(numel >= 0, op, "numel is negative");
    require(size >= 1, Status::kStreamTruncated, "the stream is empty");
    require(p[0] <= uint8_t(format::Model::kOrder0), Status::kUnknownModel, "the stream has a model that this version does not know");
    model = format::Model(p[0]);
    if (model == format::Model::kRaw) {
      require(numel <= (std::numeric_limits<int64_t>::max() - 1) / width && size - 1 == numel * width, Status::kBodySizeMismatch, "a raw stream has another size than its symbols");
      return;
    }
    require(numel >= 1, Status::kEmptyStreamModel, "only a raw stream holds no symbols");
    if (model == format::Model::kConstant) {
      require(size - 1 == width, Status::kBodySizeMismatch, "a constant stream holds one symbol");
      return;
    }
    int64_t at = 1;
    bool more = model == format::Model::kOrder0;
    if (!more) chunk_symbols = numel;
    for (int shift = 0; more; shift += 7, ++at) {
      require(at < size, Status::kStreamTruncated, "the stream ends in its header");
      require(shift < 21, Status::kChunkSizeOutOfRange, "chunk_symbols is out of range");
      chunk_symbols |= int64_t(p[at] & 127) << shift;
      more = p[at] >= 128;
    }
    const bool in_range = chunk_symbols >= 1 && chunk_symbols <= format::kMaxChunkSymbols && (model == format::Model::kOrder0OneChunk || chunk_symbols < numel);
    require(in_range, Status::kChunkSizeOutOfRange, "chunk_symbols is out of range");
    int64_t table_bytes = 0, directory_bytes = 0;
    check_status(op, core::read_table(p + at, size - at, type, &table, &table_bytes), "bad table");
    table_begin = at;
    table_end = at + table_bytes;
    check_status(op, core::read_directory(p + table_end, size - table_end, numel, chunk_symbols, &entries, &directory_bytes), "bad chunk directory");
    payload_begin = table_end + directory_bytes;
  }
  format::Model model;
  int64_t chunk_symbols = 0, table_begin = 1, table_end = 1, payload_begin = 1;
  core::FrequencyTable table;
  std::vector<ChunkEntry> entries;
};

std::tuple<Tensor, Tensor> stream_layout_cpu(const Tensor& stream, int64_t numel, ScalarType symbol_dtype) {
  constexpr const char* kOp = "stream_layout";
  check_bytes(kOp, "stream", stream);
  const Tensor source = torch::stable::contiguous(stream);
  const StreamParts parts(kOp, static_cast<const uint8_t*>(source.const_data_ptr()), source.numel(), numel, symbol_type(kOp, symbol_dtype));
  const int64_t layout[5] = {int64_t(parts.model), parts.chunk_symbols, parts.table_begin, parts.table_end, parts.payload_begin};
  Tensor layout_out = torch::stable::new_empty(stream, {5}, ScalarType::Long);
  std::memcpy(layout_out.mutable_data_ptr(), layout, sizeof layout);
  Tensor directory = torch::stable::new_empty(stream, {int64_t(parts.entries.size()), 2}, ScalarType::Int);
  write_entries(parts.entries, directory.mutable_data_ptr<int32_t>());
  return {layout_out, directory};
}

void decode_stream_into(const char* op, const uint8_t* p, int64_t size, const StreamParts& parts, SymbolType type, Tensor& symbols) {
  const size_t width = size_t(format::symbol_bytes(type));
  const int64_t numel = symbols.numel();
  uint8_t* out = static_cast<uint8_t*>(symbols.mutable_data_ptr());
  if (numel == 0) return;
  if (parts.model == format::Model::kRaw) {
    std::memcpy(out, p + 1, size_t(numel) * width);
  } else if (parts.model == format::Model::kConstant) {
    if (width == 1) std::memset(out, p[1], size_t(numel));
    else
      for (int64_t i = 0; i < numel; ++i) std::memcpy(out + 2 * i, p + 1, 2);
  } else {
    const auto prepared = std::make_unique<core::DecodeTable>();
    core::make_decode_table(parts.table, type, prepared.get());
    decode_chunks(op, Chunks(op, p + parts.payload_begin, size - parts.payload_begin, parts.entries, numel, parts.chunk_symbols), *prepared, symbols);
  }
}

Tensor decode_stream_cpu(const Tensor& stream, int64_t numel, ScalarType symbol_dtype) {
  constexpr const char* kOp = "decode_stream";
  const SymbolType type = symbol_type(kOp, symbol_dtype);
  check_bytes(kOp, "stream", stream);
  const Tensor source = torch::stable::contiguous(stream);
  const uint8_t* p = static_cast<const uint8_t*>(source.const_data_ptr());
  const StreamParts parts(kOp, p, source.numel(), numel, type);  // before anything is allocated
  Tensor symbols = host_result(stream, {numel}, symbol_dtype);
  decode_stream_into(kOp, p, source.numel(), parts, type, symbols);
  return symbols;
}

void decode_stream_out_cpu(const Tensor& stream, Tensor out) {
  constexpr const char* kOp = "decode_stream_out";
  ANS_CHECK_ARGUMENT(out.is_contiguous(), kOp, "out is not contiguous");
  const SymbolType type = symbol_type(kOp, out.scalar_type());
  check_bytes(kOp, "stream", stream);
  const Tensor source = torch::stable::contiguous(stream);
  const uint8_t* p = static_cast<const uint8_t*>(source.const_data_ptr());
  const StreamParts parts(kOp, p, source.numel(), out.numel(), type);
  decode_stream_into(kOp, p, source.numel(), parts, type, out);
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("encode_stream", TORCH_BOX(&ans::ops::encode_stream_cpu));
  m.impl("decode_stream", TORCH_BOX(&ans::ops::decode_stream_cpu));
  m.impl("decode_stream_out", TORCH_BOX(&ans::ops::decode_stream_out_cpu));
  m.impl("stream_prefix", TORCH_BOX(&ans::ops::stream_prefix_cpu));
  m.impl("pack_directory", TORCH_BOX(&ans::ops::pack_directory_cpu));
  m.impl("stream_layout", TORCH_BOX(&ans::ops::stream_layout_cpu));
}
