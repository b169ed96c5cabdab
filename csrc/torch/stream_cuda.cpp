// CUDA kernels of the streams of BITSTREAM.md. Headers are read on the host; everything else stays on the device, in two launches for any number of streams.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <cuda_runtime_api.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cuda/launch.h"
#include "torch/checks.h"
#include "torch/cuda_support.h"
#include "torch/stream_parts.h"

namespace ans::ops {
namespace {

using core::FloatType;
using core::Status;
using format::SymbolType;

// The beginning of a stream, copied to the host. Behind it the memory reads as zeros: it is as long as the stream, but never touched.
class HostHeader {
 public:
  static constexpr int64_t kFirstBytes = 1024;  // enough for most

  HostHeader(const char* op, const Tensor& stream) : op_(op), size_(stream.numel()), source_(static_cast<const uint8_t*>(stream.const_data_ptr())) {
    memory_.reset(static_cast<uint8_t*>(std::calloc(size_t(size_ + 1), 1)));
    STD_TORCH_CHECK(memory_ != nullptr, "ans::", op, ": [OutOfMemory] there are no ", size_, " bytes for a header");
  }
  // Queues the copying of what is missing of the first `bytes`.
  void fetch(int64_t bytes, cudaStream_t stream) {
    bytes = std::min(bytes, size_);
    if (bytes > copied_) check_cuda(op_, cudaMemcpyAsync(memory_.get() + copied_, source_ + copied_, size_t(bytes - copied_), cudaMemcpyDeviceToHost, stream));
    copied_ = std::max(copied_, bytes);
  }
  const uint8_t* data() const { return memory_.get(); }
  // As much as the header of any legal stream takes that begins like this one (5 bytes have been fetched).
  int64_t bound(int64_t numel) const {
    constexpr int64_t kMaxTableBytes = 4096, kMaxEntryBytes = 24;  // whatever the codes
    int64_t chunk_symbols = 0;
    if (format::Model(memory_[0]) == format::Model::kOrder0)
      for (int i = 0; i < 4 && i + 1 < size_; ++i) {
        chunk_symbols |= int64_t(memory_[size_t(1 + i)] & 127) << 7 * i;
        if (memory_[size_t(1 + i)] < 128) break;
      }
    const int64_t chunks = chunk_symbols > 0 ? core::chunk_count(numel, chunk_symbols) : 1;
    return kMaxTableBytes + kMaxEntryBytes * std::min(chunks, size_);
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  const char* op_;
  int64_t size_, copied_ = 0;
  const uint8_t* source_;
  std::unique_ptr<uint8_t[], Free> memory_;
};

// A stream in device memory, taken apart.
struct DeviceStream {
  std::string which;
  Tensor bytes;
  int64_t numel;
  SymbolType type;
  std::optional<StreamParts> parts;
  int32_t constant = 0;  // of a constant stream: its symbol's bytes

  const uint8_t* data() const { return static_cast<const uint8_t*>(bytes.const_data_ptr()); }
  int64_t symbol_bytes() const { return numel * format::symbol_bytes(type); }
};

DeviceStream device_stream(const char* op, const std::string& which, const Tensor& stream, int64_t numel, SymbolType type) {
  check_bytes(op, "stream", stream);
  return {which, torch::stable::contiguous(stream), numel, type, std::nullopt};
}

void read_headers(const char* op, std::vector<DeviceStream>* streams, cudaStream_t stream) {
  std::vector<HostHeader> headers;
  for (const DeviceStream& s : *streams) {
    check_same_device(op, streams->front().bytes, s.bytes, "a stream");
    headers.emplace_back(op, s.bytes).fetch(HostHeader::kFirstBytes, stream);
  }
  check_cuda(op, cudaStreamSynchronize(stream));
  for (size_t i = 0; i < headers.size(); ++i) headers[i].fetch(headers[i].bound((*streams)[i].numel), stream);
  check_cuda(op, cudaStreamSynchronize(stream));
  for (size_t i = 0; i < headers.size(); ++i) {
    DeviceStream& s = (*streams)[i];
    s.parts.emplace(op, s.which, headers[i].data(), s.bytes.numel(), s.numel, s.type);
    if (s.parts->model == format::Model::kConstant) std::memcpy(&s.constant, headers[i].data() + 1, size_t(format::symbol_bytes(s.type)));
  }
}

// A stream in pieces, all of them in device memory.
DeviceStream device_pieces(const char* op, const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t numel, int64_t chunk_symbols, SymbolType type,
                           cudaStream_t stream) {
  check_bytes(op, "payload", payload);
  check_bytes(op, "table", table);
  check_directory(op, directory, numel, chunk_symbols);
  check_same_device(op, payload, directory, "directory");
  check_same_device(op, payload, table, "table");
  const Tensor entries_there = torch::stable::contiguous(directory), table_there = torch::stable::contiguous(table);
  std::vector<int32_t> entries(size_t(entries_there.numel()));
  std::vector<uint8_t> table_bytes(size_t(table_there.numel()));
  if (!entries.empty()) check_cuda(op, cudaMemcpyAsync(entries.data(), entries_there.const_data_ptr(), entries.size() * sizeof(int32_t), cudaMemcpyDeviceToHost, stream));
  if (!table_bytes.empty()) check_cuda(op, cudaMemcpyAsync(table_bytes.data(), table_there.const_data_ptr(), table_bytes.size(), cudaMemcpyDeviceToHost, stream));
  check_cuda(op, cudaStreamSynchronize(stream));
  DeviceStream s{"", torch::stable::contiguous(payload), numel, type, std::nullopt};
  s.parts.emplace(parse_table(op, table_bytes.data(), int64_t(table_bytes.size()), type), checked_entries(op, entries.data(), numel, chunk_symbols), chunk_symbols);
  check_payload_bytes(op, s.parts->entries, s.bytes.numel());
  return s;
}

template <class T>
Tensor upload(const char* op, const Tensor& like, const std::vector<T>& values, cudaStream_t stream) {
  const int64_t bytes = int64_t(values.size() * sizeof(T));
  Tensor t = torch::stable::new_empty(like, {bytes}, ScalarType::Byte);
  if (bytes > 0) check_cuda(op, cudaMemcpyAsync(t.mutable_data_ptr(), values.data(), size_t(bytes), cudaMemcpyHostToDevice, stream));
  return t;
}

// Symbols of a raw or constant stream.
void copy_symbols(const char* op, const DeviceStream& s, uint8_t* out, cudaStream_t stream) {
  const int64_t bytes = s.symbol_bytes(), width = format::symbol_bytes(s.type);
  if (bytes == 0) return;
  if (s.parts->model == format::Model::kRaw) return check_cuda(op, cudaMemcpyAsync(out, s.data() + 1, size_t(bytes), cudaMemcpyDeviceToDevice, stream));
  if (width == 1) return check_cuda(op, cudaMemsetAsync(out, s.constant, size_t(bytes), stream));
  check_cuda(op, cudaMemcpyAsync(out, s.data() + 1, size_t(width), cudaMemcpyDeviceToDevice, stream));
  for (int64_t done = width; done < bytes; done *= 2)
    check_cuda(op, cudaMemcpyAsync(out + done, out, size_t(std::min(done, bytes - done)), cudaMemcpyDeviceToDevice, stream));
}

// Where the weights of a stream go; `type` tells their dtype.
struct DeviceWeights {
  core::WarpWeights to;
  FloatType type;
  int64_t rows;
};

// Decodes all streams: to outs[i], or to weights[i] if there are any.
void decode_all(const char* op, const std::vector<DeviceStream>& streams, const std::vector<uint8_t*>& outs, const std::vector<DeviceWeights>& weights, cudaStream_t stream) {
  if (streams.empty()) return;
  const Tensor& like = streams.front().bytes;
  std::map<std::pair<SymbolType, int>, std::vector<size_t>> groups;  // what one launch can decode
  for (size_t i = 0; i < streams.size(); ++i) {
    const DeviceStream& s = streams[i];
    if (s.parts->model == format::Model::kOrder0OneChunk || s.parts->model == format::Model::kOrder0) {
      groups[{s.type, weights.empty() ? -1 : int(weights[i].type)}].push_back(i);
    } else if (weights.empty()) {
      copy_symbols(op, s, outs[i], stream);
    } else if (s.numel > 0) {
      Tensor symbols = torch::stable::new_empty(like, {s.symbol_bytes()}, ScalarType::Byte);
      copy_symbols(op, s, static_cast<uint8_t*>(symbols.mutable_data_ptr()), stream);
      const core::WarpWeights& to = weights[i].to;
      check_cuda(op, cuda::dequantize(symbols.const_data_ptr(), s.type, weights[i].rows, to.columns, to.scale, to.exponent, to.weight, weights[i].type, stream));
    }
  }
  if (groups.empty()) return;

  std::vector<core::WarpWeights> all_weights;
  for (const DeviceWeights& w : weights) all_weights.push_back(w.to);
  const Tensor weights_there = upload(op, like, all_weights, stream);
  Tensor status = torch::stable::new_zeros(like, {int64_t(streams.size())}, ScalarType::Int);
  for (const auto& [kind, members] : groups) {
    std::vector<uint8_t> tables(members.size() * core::kWarpTableBytes);
    std::vector<core::WarpJob> jobs;
    std::vector<int32_t> table_of_job, first_job_of_table{0};
    for (size_t t = 0; t < members.size(); ++t) {
      const DeviceStream& s = streams[members[t]];
      const auto table = std::make_unique<core::DecodeTable>();
      core::make_decode_table(s.parts->table, s.type, false, table.get());
      std::memcpy(tables.data() + t * core::kWarpTableBytes, table.get(), core::kWarpTableBytes);
      const uint8_t* chunk = s.data() + s.parts->payload_begin;
      for (size_t c = 0; c < s.parts->entries.size(); ++c) {
        const core::ChunkEntry& entry = s.parts->entries[c];
        const int64_t first = int64_t(c) * s.parts->chunk_symbols;
        uint8_t* out = weights.empty() ? outs[members[t]] + first * format::symbol_bytes(s.type) : nullptr;
        const uint8_t* end = chunk + 2 * int64_t(entry.words);
        jobs.push_back({chunk, end, out, core::symbols_in_chunk(s.numel, s.parts->chunk_symbols, int64_t(c)), first, entry.tail, int32_t(members[t])});
        table_of_job.push_back(int32_t(t));
        chunk = end;
      }
      first_job_of_table.push_back(int32_t(jobs.size()));
    }
    const std::vector<core::WarpBlock> blocks = core::plan_blocks(first_job_of_table, cuda::kDecodeWarps);
    const Tensor tables_there = upload(op, like, tables, stream), jobs_there = upload(op, like, jobs, stream);
    const Tensor table_of_job_there = upload(op, like, table_of_job, stream), blocks_there = upload(op, like, blocks, stream);
    Tensor states = torch::stable::new_empty(like, {format::kLanes * int64_t(jobs.size())}, ScalarType::Int);
    const cuda::DecodeLaunch launch{static_cast<const core::WarpBlock*>(blocks_there.const_data_ptr()),
                                    int64_t(blocks.size()),
                                    static_cast<const core::WarpJob*>(jobs_there.const_data_ptr()),
                                    static_cast<const int32_t*>(table_of_job_there.const_data_ptr()),
                                    int64_t(jobs.size()),
                                    static_cast<const uint8_t*>(tables_there.const_data_ptr()),
                                    weights.empty() ? nullptr : static_cast<const core::WarpWeights*>(weights_there.const_data_ptr()),
                                    static_cast<uint32_t*>(states.mutable_data_ptr()),
                                    static_cast<uint32_t*>(status.mutable_data_ptr())};
    check_cuda(op, weights.empty() ? cuda::decode(launch, kind.first, stream) : cuda::decode_dequantize(launch, kind.first, FloatType(kind.second), stream));
  }
  std::vector<uint32_t> found(streams.size());
  check_cuda(op, cudaMemcpyAsync(found.data(), status.const_data_ptr(), found.size() * sizeof(uint32_t), cudaMemcpyDeviceToHost, stream));
  check_cuda(op, cudaStreamSynchronize(stream));
  for (size_t i = 0; i < streams.size(); ++i) check_status(op, Status(int(found[i])), (streams[i].which + "the payload is damaged").c_str());
}

// Checked: where the weights of a matrix go. `scales` keeps them.
DeviceWeights device_weights(const char* op, const Tensor& weight, const Tensor& scale, const Tensor& exponent, std::vector<Tensor>* scales) {
  ANS_CHECK_ARGUMENT(weight.is_contiguous(), op, "out is not contiguous");
  check_row_scales(op, weight, scale, exponent);
  const RowShape shape = row_shape(op, weight);
  scales->push_back(torch::stable::contiguous(scale));
  return {{static_cast<const core::Float16*>(scales->back().const_data_ptr()), exponent.const_data_ptr<int32_t>(), shape.columns, weight.mutable_data_ptr()},
          float_type(op, weight.scalar_type()),
          shape.rows};
}

Tensor decode_cuda(const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t numel, int64_t chunk_symbols, ScalarType symbol_dtype) {
  constexpr const char* kOp = "decode";
  const DeviceGuard guard(payload.get_device_index());
  const cudaStream_t current = current_stream(payload);
  const std::vector<DeviceStream> streams{device_pieces(kOp, payload, directory, table, numel, chunk_symbols, symbol_type(kOp, symbol_dtype), current)};
  Tensor symbols = torch::stable::new_empty(payload, {numel}, symbol_dtype);
  decode_all(kOp, streams, {static_cast<uint8_t*>(symbols.mutable_data_ptr())}, {}, current);
  return symbols;
}

void decode_out_cuda(const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t chunk_symbols, Tensor out) {
  constexpr const char* kOp = "decode_out";
  ANS_CHECK_ARGUMENT(out.is_contiguous(), kOp, "out is not contiguous");
  check_same_device(kOp, payload, out, "out");
  const DeviceGuard guard(payload.get_device_index());
  const cudaStream_t current = current_stream(payload);
  const SymbolType type = symbol_type(kOp, out.scalar_type());
  const std::vector<DeviceStream> streams{device_pieces(kOp, payload, directory, table, out.numel(), chunk_symbols, type, current)};
  decode_all(kOp, streams, {static_cast<uint8_t*>(out.mutable_data_ptr())}, {}, current);
}

void decode_to_weights(const char* op, const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent, int64_t chunk_symbols,
                       ScalarType symbol_dtype, const Tensor& weight, const cudaStream_t current) {
  const SymbolType type = symbol_type(op, symbol_dtype);
  check_same_device(op, payload, weight, "out");
  std::vector<Tensor> scales;
  const std::vector<DeviceWeights> weights{device_weights(op, weight, scale, exponent, &scales)};
  decode_all(op, {device_pieces(op, payload, directory, table, weight.numel(), chunk_symbols, type, current)}, {}, weights, current);
}

Tensor decode_dequantize_cuda(const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent,
                              torch::headeronly::IntHeaderOnlyArrayRef shape, int64_t chunk_symbols, ScalarType symbol_dtype, ScalarType dtype) {
  constexpr const char* kOp = "decode_dequantize";
  check_directory(kOp, directory, checked_numel(kOp, shape), chunk_symbols);  // before anything is allocated
  float_type(kOp, dtype);
  const DeviceGuard guard(payload.get_device_index());
  Tensor weight = torch::stable::new_empty(payload, shape, dtype);
  decode_to_weights(kOp, payload, directory, table, scale, exponent, chunk_symbols, symbol_dtype, weight, current_stream(payload));
  return weight;
}

void decode_dequantize_out_cuda(const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent, int64_t chunk_symbols,
                                ScalarType symbol_dtype, Tensor out) {
  const DeviceGuard guard(payload.get_device_index());
  decode_to_weights("decode_dequantize_out", payload, directory, table, scale, exponent, chunk_symbols, symbol_dtype, out, current_stream(payload));
}

Tensor decode_stream_cuda(const Tensor& stream, int64_t numel, ScalarType symbol_dtype) {
  constexpr const char* kOp = "decode_stream";
  const DeviceGuard guard(stream.get_device_index());
  const cudaStream_t current = current_stream(stream);
  std::vector<DeviceStream> streams{device_stream(kOp, "", stream, numel, symbol_type(kOp, symbol_dtype))};
  read_headers(kOp, &streams, current);  // before anything is allocated
  Tensor symbols = torch::stable::new_empty(stream, {numel}, symbol_dtype);
  decode_all(kOp, streams, {static_cast<uint8_t*>(symbols.mutable_data_ptr())}, {}, current);
  return symbols;
}

void decode_streams_into(const char* op, const std::vector<Tensor>& sources, const std::vector<Tensor>& outs) {
  ANS_CHECK_ARGUMENT(sources.size() == outs.size(), op, sources.size(), " streams, but ", outs.size(), " tensors for their symbols");
  if (sources.empty()) return;
  const DeviceGuard guard(sources[0].get_device_index());
  const cudaStream_t current = current_stream(sources[0]);
  std::vector<DeviceStream> streams;
  std::vector<uint8_t*> addresses;
  for (size_t i = 0; i < sources.size(); ++i) {
    check_same_device(op, sources[0], outs[i], "out");
    ANS_CHECK_ARGUMENT(outs[i].is_contiguous(), op, "out is not contiguous");
    streams.push_back(device_stream(op, name_stream(i, sources.size()), sources[i], outs[i].numel(), symbol_type(op, outs[i].scalar_type())));
    addresses.push_back(static_cast<uint8_t*>(outs[i].mutable_data_ptr()));
  }
  read_headers(op, &streams, current);
  decode_all(op, streams, addresses, {}, current);
}

void decode_stream_out_cuda(const Tensor& stream, Tensor out) { decode_streams_into("decode_stream_out", {stream}, {out}); }
void decode_streams_out_cuda(std::vector<Tensor> streams, std::vector<Tensor> outs) { decode_streams_into("decode_streams_out", streams, outs); }

void decode_streams_dequantize_out_cuda(std::vector<Tensor> sources, std::vector<Tensor> scales, std::vector<Tensor> exponents, ScalarType symbol_dtype, std::vector<Tensor> outs) {
  constexpr const char* kOp = "decode_streams_dequantize_out";
  const SymbolType type = symbol_type(kOp, symbol_dtype);
  ANS_CHECK_ARGUMENT(sources.size() == outs.size() && sources.size() == scales.size() && sources.size() == exponents.size(), kOp, sources.size(), " streams, ", scales.size(),
                     " scales, ", exponents.size(), " exponents and ", outs.size(), " tensors for the weights");
  if (sources.empty()) return;
  const DeviceGuard guard(sources[0].get_device_index());
  const cudaStream_t current = current_stream(sources[0]);
  std::vector<DeviceStream> streams;
  std::vector<DeviceWeights> weights;
  std::vector<Tensor> kept;
  for (size_t i = 0; i < sources.size(); ++i) {
    check_same_device(kOp, sources[0], outs[i], "out");
    streams.push_back(device_stream(kOp, name_stream(i, sources.size()), sources[i], outs[i].numel(), type));
    weights.push_back(device_weights(kOp, outs[i], scales[i], exponents[i], &kept));
  }
  read_headers(kOp, &streams, current);
  decode_all(kOp, streams, {}, weights, current);
}

}  // namespace
}  // namespace ans::ops

STABLE_TORCH_LIBRARY_IMPL(ans, CUDA, m) {
  m.impl("decode", TORCH_BOX(&ans::ops::decode_cuda));
  m.impl("decode_out", TORCH_BOX(&ans::ops::decode_out_cuda));
  m.impl("decode_dequantize", TORCH_BOX(&ans::ops::decode_dequantize_cuda));
  m.impl("decode_dequantize_out", TORCH_BOX(&ans::ops::decode_dequantize_out_cuda));
  m.impl("decode_stream", TORCH_BOX(&ans::ops::decode_stream_cuda));
  m.impl("decode_stream_out", TORCH_BOX(&ans::ops::decode_stream_out_cuda));
  m.impl("decode_streams_out", TORCH_BOX(&ans::ops::decode_streams_out_cuda));
  m.impl("decode_streams_dequantize_out", TORCH_BOX(&ans::ops::decode_streams_dequantize_out_cuda));
}
