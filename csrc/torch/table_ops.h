// The operators whose work is the host's wherever their tensors are: tables, prefixes, directories. `Memory` says how to read and write tensors:
//   Memory(tensor)                                the device of the tensor
//   Bytes read(op, tensor)                        what a tensor holds, as bytes: data(), size()
//   void write(op, tensor, source, bytes)         into a contiguous tensor
#pragma once
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <tuple>
#include <vector>

#include "core/normalize.h"
#include "core/table_code.h"
#include "torch/checks.h"
#include "torch/stream_parts.h"

namespace ans::ops {

// CPU tensors.
struct HostMemory {
  struct Bytes {
    Tensor tensor;
    const uint8_t* data() const { return static_cast<const uint8_t*>(tensor.const_data_ptr()); }
    size_t size() const { return size_t(tensor.numel() * tensor.element_size()); }
  };
  explicit HostMemory(const Tensor&) {}
  Bytes read(const char*, const Tensor& tensor) const { return {torch::stable::contiguous(tensor)}; }
  void write(const char*, Tensor& tensor, const void* source, size_t bytes) const {
    if (bytes > 0) std::memcpy(tensor.mutable_data_ptr(), source, bytes);
  }
};

template <class Memory>
struct TableOps {
  static Tensor result(const Memory& memory, const char* op, const Tensor& like, const std::vector<uint8_t>& bytes) {
    Tensor t = torch::stable::new_empty(like, {int64_t(bytes.size())}, ScalarType::Byte);
    memory.write(op, t, bytes.data(), bytes.size());
    return t;
  }

  static std::vector<uint64_t> checked_counts(const Memory& memory, const char* op, const Tensor& counts, format::SymbolType type) {
    ANS_CHECK_ARGUMENT(counts.scalar_type() == ScalarType::Long, op, "counts are not int64");
    ANS_CHECK_ARGUMENT(counts.numel() == format::symbol_values(type), op, counts.numel(), " counts, but the symbol type has ", format::symbol_values(type), " values");
    const auto source = memory.read(op, counts);
    std::vector<int64_t> values(size_t(counts.numel()));
    std::memcpy(values.data(), source.data(), source.size());
    std::vector<uint64_t> result;
    uint64_t total = 0;
    for (int64_t value : values) {
      ANS_CHECK_ARGUMENT(value >= 0, op, "a count is negative");
      total += uint64_t(value);
      ANS_CHECK_ARGUMENT(total <= uint64_t{1} << 48, op, "counts sum to more than 2^48");
      result.push_back(uint64_t(value));
    }
    return result;
  }

  static Tensor build_table(const Tensor& counts, ScalarType symbol_dtype) {
    constexpr const char* kOp = "build_table";
    const Memory memory(counts);
    const format::SymbolType type = symbol_type(kOp, symbol_dtype);
    return result(memory, kOp, counts, core::write_table(core::build_table(checked_counts(memory, kOp, counts, type).data(), type), type));
  }

  static std::tuple<Tensor, Tensor> table_frequencies(const Tensor& table, ScalarType symbol_dtype) {
    constexpr const char* kOp = "table_frequencies";
    const Memory memory(table);
    check_bytes(kOp, "table", table);
    const auto bytes = memory.read(kOp, table);
    const core::FrequencyTable t = parse_table(kOp, bytes.data(), int64_t(bytes.size()), symbol_type(kOp, symbol_dtype));
    const std::vector<int32_t> freq(t.freq.begin(), t.freq.begin() + t.alphabet_size());
    Tensor frequencies = torch::stable::new_empty(table, {int64_t(freq.size())}, ScalarType::Int);
    memory.write(kOp, frequencies, freq.data(), freq.size() * sizeof(int32_t));
    const int64_t fields[5] = {t.first_value, t.core_size, t.has_escape, t.raw_bits, t.raw_min};
    Tensor info = torch::stable::new_empty(table, {5}, ScalarType::Long);
    memory.write(kOp, info, fields, sizeof fields);
    return {frequencies, info};
  }

  static Tensor stream_prefix(const Tensor& counts, ScalarType symbol_dtype, int64_t chunk_symbols) {
    constexpr const char* kOp = "stream_prefix";
    const Memory memory(counts);
    const format::SymbolType type = symbol_type(kOp, symbol_dtype);
    check_chunk_symbols(kOp, chunk_symbols);
    return result(memory, kOp, counts, core::stream_prefix(checked_counts(memory, kOp, counts, type).data(), type, chunk_symbols, nullptr));
  }

  static Tensor pack_directory(const Tensor& directory) {
    constexpr const char* kOp = "pack_directory";
    const Memory memory(directory);
    check_directory(kOp, directory);
    const auto source = memory.read(kOp, directory);
    std::vector<core::ChunkEntry> entries(size_t(directory.size(0)));
    if (!entries.empty()) std::memcpy(entries.data(), source.data(), source.size());
    for (size_t i = 0; i < entries.size(); ++i) {
      const core::ChunkEntry& e = entries[i];
      ANS_CHECK_ARGUMENT(e.words > 0 && e.words <= format::max_chunk_words(format::kMaxChunkSymbols) && e.tail >= 0 && e.tail <= format::kMaxTail, kOp, "chunk ", i, " is out of range");
    }
    return result(memory, kOp, directory, core::write_directory(entries.data(), int64_t(entries.size())));
  }

  static std::tuple<Tensor, Tensor> stream_layout(const Tensor& stream, int64_t numel, ScalarType symbol_dtype) {
    constexpr const char* kOp = "stream_layout";
    const Memory memory(stream);
    check_bytes(kOp, "stream", stream);
    const auto source = memory.read(kOp, stream);
    const StreamParts parts(kOp, "", source.data(), int64_t(source.size()), numel, symbol_type(kOp, symbol_dtype));
    const int64_t layout[5] = {int64_t(parts.model), parts.chunk_symbols, parts.table_begin, parts.table_end, parts.payload_begin};
    Tensor layout_out = torch::stable::new_empty(stream, {5}, ScalarType::Long);
    memory.write(kOp, layout_out, layout, sizeof layout);
    Tensor directory = torch::stable::new_empty(stream, {int64_t(parts.entries.size()), 2}, ScalarType::Int);
    memory.write(kOp, directory, parts.entries.data(), parts.entries.size() * sizeof(core::ChunkEntry));
    return {layout_out, directory};
  }

  template <class Library>
  static void register_in(Library& m) {
    m.impl("build_table", TORCH_BOX(&TableOps::build_table));
    m.impl("table_frequencies", TORCH_BOX(&TableOps::table_frequencies));
    m.impl("stream_prefix", TORCH_BOX(&TableOps::stream_prefix));
    m.impl("pack_directory", TORCH_BOX(&TableOps::pack_directory));
    m.impl("stream_layout", TORCH_BOX(&TableOps::stream_layout));
  }
};
static_assert(sizeof(core::ChunkEntry) == 2 * sizeof(int32_t), "a directory is copied as it is");

}  // namespace ans::ops
