// CPU kernels of the tables, the coder and the streams.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "core/chunk_decoder.h"
#include "core/chunk_encoder.h"
#include "core/histogram.h"
#include "core/normalize.h"
#include "core/table_code.h"
#include "cpu/backends.h"
#include "torch/checks.h"
#include "torch/parallel.h"
#include "torch/scratch_pool.h"

namespace ans::ops {
namespace {

using core::ChunkEntry;
using core::Status;
using format::SymbolType;

Tensor bytes_tensor(const Tensor& like, const std::vector<uint8_t>& bytes) {
  Tensor t = torch::stable::new_empty(like, {int64_t(bytes.size())}, ScalarType::Byte);
  if (!bytes.empty()) std::memcpy(t.mutable_data_ptr(), bytes.data(), bytes.size());
  return t;
}

void check_bytes(const char* op, const char* name, const Tensor& t) {
  ANS_CHECK_ARGUMENT(t.scalar_type() == ScalarType::Byte && t.dim() == 1, op, name, " is not a one-dimensional uint8 tensor");
}

void check_chunk_symbols(const char* op, int64_t chunk_symbols) {
  ANS_CHECK_ARGUMENT(chunk_symbols >= 1 && chunk_symbols <= format::kMaxChunkSymbols, op, "chunk_symbols is ", chunk_symbols, ", not in 1 ... ", format::kMaxChunkSymbols);
}

std::vector<uint64_t> check_counts(const char* op, const Tensor& counts, SymbolType type) {
  ANS_CHECK_ARGUMENT(counts.scalar_type() == ScalarType::Long, op, "counts are not int64");
  ANS_CHECK_ARGUMENT(counts.numel() == format::symbol_values(type), op, counts.numel(), " counts, but the symbol type has ", format::symbol_values(type), " values");
  const Tensor source = torch::stable::contiguous(counts);
  const int64_t* p = source.const_data_ptr<int64_t>();
  std::vector<uint64_t> result;
  uint64_t total = 0;
  for (int64_t i = 0; i < source.numel(); ++i) {
    ANS_CHECK_ARGUMENT(p[i] >= 0, op, "a count is negative");
    total += uint64_t(p[i]);
    ANS_CHECK_ARGUMENT(total <= uint64_t{1} << 48, op, "counts sum to more than 2^48");
    result.push_back(uint64_t(p[i]));
  }
  return result;
}

// The table tensor holds one table and nothing else.
core::FrequencyTable parse_table(const char* op, const Tensor& table, SymbolType type) {
  check_bytes(op, "table", table);
  const Tensor source = torch::stable::contiguous(table);
  core::FrequencyTable result;
  int64_t consumed = 0;
  check_status(op, core::read_table(static_cast<const uint8_t*>(source.const_data_ptr()), source.numel(), type, &result, &consumed), "bad table");
  ANS_CHECK_ARGUMENT(consumed == source.numel(), op, "bytes follow the table");
  return result;
}

Tensor build_table_cpu(const Tensor& counts, ScalarType symbol_dtype) {
  constexpr const char* kOp = "build_table";
  const SymbolType type = symbol_type(kOp, symbol_dtype);
  return bytes_tensor(counts, core::write_table(core::build_table(check_counts(kOp, counts, type).data(), type), type));
}

std::tuple<Tensor, Tensor> table_frequencies_cpu(const Tensor& table, ScalarType symbol_dtype) {
  constexpr const char* kOp = "table_frequencies";
  const core::FrequencyTable t = parse_table(kOp, table, symbol_type(kOp, symbol_dtype));
  Tensor frequencies = torch::stable::new_empty(table, {int64_t(t.alphabet_size())}, ScalarType::Int);
  for (int i = 0; i < t.alphabet_size(); ++i) frequencies.mutable_data_ptr<int32_t>()[i] = t.freq[size_t(i)];
  Tensor info = torch::stable::new_empty(table, {5}, ScalarType::Long);
  const int64_t fields[5] = {t.first_value, t.core_size, t.has_escape, t.raw_bits, t.raw_min};
  std::memcpy(info.mutable_data_ptr(), fields, sizeof fields);
  return {frequencies, info};
}

// Chunks as the threads encoded them: each part is a run of whole chunks, in order.
struct EncodedParts {
  struct Part {
    std::unique_ptr<EncodeMemory> memory = ScratchPool::instance().take();
    std::vector<ChunkEntry> entries;
  };
  std::map<int64_t, Part> parts;  // by first chunk

  EncodedParts() = default;
  EncodedParts(EncodedParts&&) = default;
  EncodedParts& operator=(EncodedParts&&) = delete;
  ~EncodedParts() {
    for (auto& part : parts) ScratchPool::instance().give_back(std::move(part.second.memory));
  }
  int64_t bytes() const {
    int64_t total = 0;
    for (const auto& part : parts) total += part.second.memory->out.size();
    return total;
  }
  void copy_to(uint8_t* out) const {
    for (const auto& [first, part] : parts) {
      const core::ByteBuffer& bytes = part.memory->out;
      if (bytes.size() > 0) std::memcpy(out, bytes.data(), size_t(bytes.size()));
      out += bytes.size();
    }
  }
  std::vector<ChunkEntry> entries() const {
    std::vector<ChunkEntry> all;
    for (const auto& [first, part] : parts) all.insert(all.end(), part.entries.begin(), part.entries.end());
    return all;
  }
};

EncodedParts encode_chunks(const char* op, const void* data, SymbolType type, int64_t numel, const core::FrequencyTable& table, int64_t chunk_symbols) {
  const auto prepared = std::make_unique<core::EncodeTable>();
  core::make_encode_table(table, type, prepared.get());
  EncodedParts encoded;
  std::mutex adding;
  const core::RowCoder& coder = cpu::backend().coder;
  const Status status = parallel_ranges(core::chunk_count(numel, chunk_symbols), 1, [&](int64_t begin, int64_t end) {
    EncodedParts::Part part;
    // Most weights take between a half and the whole of their bytes: what is not touched costs nothing.
    part.memory->out.reserve(std::min(numel, (end - begin) * chunk_symbols) * format::symbol_bytes(type));
    core::ChunkEncoder encoder(coder, *prepared, part.memory->scratch);
    const Status s = encoder.encode(data, numel, chunk_symbols, begin, end, &part.memory->out, &part.entries);
    const std::lock_guard<std::mutex> lock(adding);
    encoded.parts.emplace(begin, std::move(part));
    return s;
  });
  check_status(op, status, "a symbol is not in the table");
  return encoded;
}

void write_entries(const std::vector<ChunkEntry>& entries, int32_t* out) {
  for (const ChunkEntry& e : entries) {
    *out++ = e.words;
    *out++ = e.tail;
  }
}

std::tuple<Tensor, Tensor> encode_cpu(const Tensor& symbols, const Tensor& table, int64_t chunk_symbols) {
  constexpr const char* kOp = "encode";
  const SymbolType type = symbol_type(kOp, symbols.scalar_type());
  check_chunk_symbols(kOp, chunk_symbols);
  const Tensor source = torch::stable::contiguous(symbols);
  const EncodedParts encoded = encode_chunks(kOp, source.const_data_ptr(), type, source.numel(), parse_table(kOp, table, type), chunk_symbols);
  Tensor payload = host_result(symbols, {encoded.bytes()}, ScalarType::Byte);
  encoded.copy_to(static_cast<uint8_t*>(payload.mutable_data_ptr()));
  const std::vector<ChunkEntry> entries = encoded.entries();
  Tensor directory = torch::stable::new_empty(symbols, {int64_t(entries.size()), 2}, ScalarType::Int);
  write_entries(entries, directory.mutable_data_ptr<int32_t>());
  return {payload, directory};
}

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

// Payload and directory of a stream, checked against each other.
struct Chunks {
  Chunks(const char* op, const Tensor& payload_in, const Tensor& directory, int64_t numel_in, int64_t chunk_symbols_in) : numel(numel_in), chunk_symbols(chunk_symbols_in) {
    check_bytes(op, "payload", payload_in);
    check_chunk_symbols(op, chunk_symbols);
    ANS_CHECK_ARGUMENT(numel >= 0, op, "numel is negative");
    ANS_CHECK_ARGUMENT(directory.scalar_type() == ScalarType::Int && directory.dim() == 2 && directory.size(1) == 2, op, "directory is not an int32 tensor [chunks, 2]");
    ANS_CHECK_ARGUMENT(directory.size(0) == core::chunk_count(numel, chunk_symbols), op, "directory has ", directory.size(0), " chunks; ", numel, " symbols in chunks of ",
                       chunk_symbols, " need ", core::chunk_count(numel, chunk_symbols));
    bytes.emplace(torch::stable::contiguous(payload_in));
    const Tensor source = torch::stable::contiguous(directory);
    const int32_t* p = source.const_data_ptr<int32_t>();
    for (int64_t i = 0; i < source.size(0); ++i) {
      entries.push_back({p[2 * i], p[2 * i + 1]});
      check_status(op, core::check_chunk(entries.back(), core::symbols_in_chunk(numel, chunk_symbols, i)), "bad chunk directory");
    }
    place(op, static_cast<const uint8_t*>(bytes->const_data_ptr()), bytes->numel());
  }
  // Entries that read_directory() has checked, and the bytes behind them.
  Chunks(const char* op, const uint8_t* payload, int64_t payload_bytes, std::vector<ChunkEntry> checked, int64_t numel_in, int64_t chunk_symbols_in)
      : numel(numel_in), chunk_symbols(chunk_symbols_in), entries(std::move(checked)) {
    place(op, payload, payload_bytes);
  }
  const uint8_t* chunk(int64_t i) const { return begin + offsets[size_t(i)]; }
  const uint8_t* end() const { return begin + size; }
  int64_t count() const { return int64_t(entries.size()); }

  void place(const char* op, const uint8_t* payload, int64_t payload_bytes) {
    begin = payload;
    size = payload_bytes;
    int64_t position = 0;
    for (const ChunkEntry& e : entries) {
      offsets.push_back(position);
      position += 2 * int64_t(e.words);
    }
    if (position > size) check_status(op, Status::kPayloadTruncated, "the payload is shorter than the directory says");
    if (position < size) check_status(op, Status::kPayloadTrailing, "the payload is longer than the directory says");
  }

  int64_t numel, chunk_symbols;
  std::optional<Tensor> bytes;  // keeps the payload
  const uint8_t* begin = nullptr;
  int64_t size = 0;
  std::vector<ChunkEntry> entries;
  std::vector<int64_t> offsets;
};

std::unique_ptr<core::DecodeTable> decode_table(const char* op, const Tensor& table, SymbolType type) {
  auto prepared = std::make_unique<core::DecodeTable>();
  core::make_decode_table(parse_table(op, table, type), type, prepared.get());
  return prepared;
}

void decode_chunks(const char* op, const Chunks& chunks, const core::DecodeTable& table, Tensor& symbols) {
  uint8_t* out = static_cast<uint8_t*>(symbols.mutable_data_ptr());
  const core::RowCoder& coder = cpu::backend().coder;
  const Status status = parallel_ranges(chunks.count(), 1, [&](int64_t begin, int64_t end) {
    core::ChunkDecoder decoder(coder, table);
    return decoder.decode(chunks.chunk(begin), chunks.end(), chunks.entries.data(), chunks.numel, chunks.chunk_symbols, begin, end,
                          out + begin * chunks.chunk_symbols * table.symbol_bytes);
  });
  check_status(op, status, "the payload is damaged");
}

Tensor decode_cpu(const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t numel, int64_t chunk_symbols, ScalarType symbol_dtype) {
  constexpr const char* kOp = "decode";
  const SymbolType type = symbol_type(kOp, symbol_dtype);
  const Chunks chunks(kOp, payload, directory, numel, chunk_symbols);  // before anything is allocated
  const auto prepared = decode_table(kOp, table, type);
  Tensor symbols = host_result(payload, {numel}, symbol_dtype);
  decode_chunks(kOp, chunks, *prepared, symbols);
  return symbols;
}

void decode_out_cpu(const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t chunk_symbols, Tensor out) {
  constexpr const char* kOp = "decode_out";
  ANS_CHECK_ARGUMENT(out.is_contiguous(), kOp, "out is not contiguous");
  const SymbolType type = symbol_type(kOp, out.scalar_type());
  const Chunks chunks(kOp, payload, directory, out.numel(), chunk_symbols);
  decode_chunks(kOp, chunks, *decode_table(kOp, table, type), out);
}

void decode_dequantize_into(const char* op, const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent,
                            int64_t chunk_symbols, ScalarType symbol_dtype, Tensor& weight) {
  const SymbolType type = symbol_type(op, symbol_dtype);
  const core::FloatType weight_type = float_type(op, weight.scalar_type());
  const RowShape shape = row_shape(op, weight);
  const int64_t numel = weight.numel();
  const Chunks chunks(op, payload, directory, numel, chunk_symbols);
  const auto prepared = decode_table(op, table, type);
  check_row_scales(op, weight, scale, exponent);
  const Tensor scales = torch::stable::contiguous(scale);
  const cpu::Backend& backend = cpu::backend();
  const core::WeightTarget target{&backend.quantizer,
                                  type,
                                  static_cast<const core::Float16*>(scales.const_data_ptr()),
                                  *exponent.const_data_ptr<int32_t>(),
                                  shape.columns,
                                  weight_type,
                                  static_cast<uint8_t*>(weight.mutable_data_ptr())};
  const Status status = parallel_ranges(chunks.count(), 1, [&](int64_t begin, int64_t end) {
    core::ChunkDecoder decoder(backend.coder, *prepared);
    return decoder.decode_weights(chunks.chunk(begin), chunks.end(), chunks.entries.data(), numel, chunk_symbols, begin, end, target);
  });
  check_status(op, status, "the payload is damaged");
}

Tensor decode_dequantize_cpu(const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent,
                             torch::headeronly::IntHeaderOnlyArrayRef shape, int64_t chunk_symbols, ScalarType symbol_dtype, ScalarType dtype) {
  constexpr const char* kOp = "decode_dequantize";
  ANS_CHECK_ARGUMENT(shape.size() >= 1, kOp, "shape needs at least one dimension, the row");
  float_type(kOp, dtype);
  int64_t numel = 1;
  for (int64_t d : shape) {
    ANS_CHECK_ARGUMENT(d >= 0, kOp, "shape has a negative dimension");
    ANS_CHECK_ARGUMENT(d == 0 || numel <= std::numeric_limits<int64_t>::max() / d, kOp, "shape has too many elements");
    numel *= d;
  }
  const Chunks chunks(kOp, payload, directory, numel, chunk_symbols);  // before anything is allocated
  Tensor weight = host_result(payload, shape, dtype);
  decode_dequantize_into(kOp, payload, directory, table, scale, exponent, chunk_symbols, symbol_dtype, weight);
  return weight;
}

void decode_dequantize_out_cpu(const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent, int64_t chunk_symbols,
                               ScalarType symbol_dtype, Tensor out) {
  constexpr const char* kOp = "decode_dequantize_out";
  ANS_CHECK_ARGUMENT(out.is_contiguous(), kOp, "out is not contiguous");
  decode_dequantize_into(kOp, payload, directory, table, scale, exponent, chunk_symbols, symbol_dtype, out);
}

Tensor stream_prefix_cpu(const Tensor& counts, ScalarType symbol_dtype, int64_t chunk_symbols) {
  constexpr const char* kOp = "stream_prefix";
  const SymbolType type = symbol_type(kOp, symbol_dtype);
  check_chunk_symbols(kOp, chunk_symbols);
  return bytes_tensor(counts, core::stream_prefix(check_counts(kOp, counts, type).data(), type, chunk_symbols, nullptr));
}

Tensor pack_directory_cpu(const Tensor& directory) {
  constexpr const char* kOp = "pack_directory";
  ANS_CHECK_ARGUMENT(directory.scalar_type() == ScalarType::Int && directory.dim() == 2 && directory.size(1) == 2, kOp, "directory is not an int32 tensor [chunks, 2]");
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

std::string cpu_backend(std::string_view name) {
  const bool selected = name.empty() || cpu::select_backend(name == "best" ? "" : std::string(name));
  ANS_CHECK_ARGUMENT(selected, "cpu_backend", "this machine has no backend of that name");
  return cpu::backend().name;
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CPU, m) {
  m.impl("build_table", TORCH_BOX(&ans::ops::build_table_cpu));
  m.impl("table_frequencies", TORCH_BOX(&ans::ops::table_frequencies_cpu));
  m.impl("encode", TORCH_BOX(&ans::ops::encode_cpu));
  m.impl("decode", TORCH_BOX(&ans::ops::decode_cpu));
  m.impl("decode_dequantize", TORCH_BOX(&ans::ops::decode_dequantize_cpu));
  m.impl("decode_out", TORCH_BOX(&ans::ops::decode_out_cpu));
  m.impl("decode_dequantize_out", TORCH_BOX(&ans::ops::decode_dequantize_out_cpu));
  m.impl("encode_stream", TORCH_BOX(&ans::ops::encode_stream_cpu));
  m.impl("decode_stream", TORCH_BOX(&ans::ops::decode_stream_cpu));
  m.impl("decode_stream_out", TORCH_BOX(&ans::ops::decode_stream_out_cpu));
  m.impl("stream_prefix", TORCH_BOX(&ans::ops::stream_prefix_cpu));
  m.impl("pack_directory", TORCH_BOX(&ans::ops::pack_directory_cpu));
  m.impl("stream_layout", TORCH_BOX(&ans::ops::stream_layout_cpu));
}
STABLE_TORCH_LIBRARY_IMPL(ans, CompositeExplicitAutograd, m) { m.impl("cpu_backend", TORCH_BOX(&ans::ops::cpu_backend)); }
