// CUDA kernels of the operators that decode. Headers are read on the host; everything else stays on the device, in a constant number of launches for any number of streams.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/launch.h"
#include "torch/checks.h"
#include "torch/cuda_support.h"
#include "torch/decode_plan_cuda.h"
#include "torch/matrix_cuda.h"
#include "torch/stream_parts.h"

namespace ans::ops {
namespace {

using format::SymbolType;

// The beginning of a stream, on the host. Behind what has been fetched the memory reads as zeros: it is as long as the stream, but never touched.
class HostHeader {
 public:
  static constexpr int64_t kFirstBytes = 1024;  // enough for most

  HostHeader(const char* op, const Tensor& stream) : size_(stream.numel()), source_(static_cast<const uint8_t*>(stream.const_data_ptr())) {
    memory_.reset(static_cast<uint8_t*>(std::calloc(size_t(size_ + 1), 1)));
    STD_TORCH_CHECK(memory_ != nullptr, "ans::", op, ": [OutOfMemory] there are no ", size_, " bytes for a header");
  }
  const uint8_t* data() const { return memory_.get(); }
  // What is missing of the first `bytes`.
  core::CopyJob missing(int64_t bytes) const {
    bytes = std::min(bytes, size_);
    return {source_ + copied_, memory_.get() + copied_, std::max<int64_t>(0, bytes - copied_)};
  }
  void have(int64_t bytes) { copied_ = std::max(copied_, std::min(bytes, size_)); }
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
  int64_t size_, copied_ = 0;
  const uint8_t* source_;
  std::unique_ptr<uint8_t[], Free> memory_;
};

bool is_matrix(const DeviceStream& s) { return s.parts->model == format::Model::kMatrix; }

// Copies pieces of device memory to the host, all in one go, and waits.
void fetch_pieces(const char* op, const std::vector<core::CopyJob>& pieces, const Tensor& like, cudaStream_t stream) {
  int64_t total = 0;
  for (const core::CopyJob& piece : pieces) total += piece.bytes;
  if (total == 0) return;
  const Tensor joined = device_bytes(like, total);
  std::vector<core::CopyJob> jobs;
  int64_t at = 0;
  for (const core::CopyJob& piece : pieces) {
    jobs.push_back({piece.from, device_pointer<uint8_t>(joined) + at, piece.bytes});
    at += piece.bytes;
  }
  Upload upload;
  const size_t jobs_at = upload.add(jobs);
  upload.send(op, like, stream);
  check_cuda(op, cuda::copy_all(upload.at<core::CopyJob>(jobs_at), int64_t(jobs.size()), stream));
  const std::vector<uint8_t> bytes = fetch_now(op, joined, stream);
  at = 0;
  for (const core::CopyJob& piece : pieces) {
    if (piece.bytes > 0) std::memcpy(piece.to, bytes.data() + at, size_t(piece.bytes));
    at += piece.bytes;
  }
}

// Streams that are to be decoded to where `like` is. Those that are still on the host are copied there, and their headers need not come back; those of matrices stay there.
std::vector<DeviceStream> open_streams(const char* op, const std::vector<Tensor>& sources, const std::vector<int64_t>& numels, const std::vector<SymbolType>& types, const Tensor& like,
                                       cudaStream_t stream) {
  std::vector<DeviceStream> streams;
  std::vector<HostHeader> headers;
  std::vector<size_t> on_device;
  auto take_apart = [&](size_t i, const uint8_t* header) {
    DeviceStream& s = streams[i];
    s.parts.emplace(op, s.which, header, s.bytes.numel(), s.numel, s.type);
    if (s.parts->model == format::Model::kConstant) std::memcpy(&s.constant, header + 1, size_t(format::symbol_bytes(s.type)));
  };
  for (size_t i = 0; i < sources.size(); ++i) {
    check_bytes(op, "stream", sources[i]);
    const Tensor source = torch::stable::contiguous(sources[i]);
    const std::string which = name_stream(i, sources.size());
    if (!source.is_cpu() || on_gpu(source)) {
      check_same_device(op, like, source, "a stream");
      streams.push_back({which, source, numels[i], types[i], std::nullopt});
      headers.emplace_back(op, source);
      on_device.push_back(i);
      continue;
    }
    streams.push_back({which, source, numels[i], types[i], std::nullopt});
    take_apart(i, static_cast<const uint8_t*>(source.const_data_ptr()));  // before anything is allocated
    if (is_matrix(streams[i])) continue;
    streams[i].bytes = device_bytes(like, source.numel());
    check_cuda(op, cudaMemcpyAsync(streams[i].bytes.mutable_data_ptr(), source.const_data_ptr(), size_t(source.numel()), cudaMemcpyHostToDevice, stream));
  }
  auto fetch_headers = [&](auto bytes_of) {
    std::vector<core::CopyJob> pieces;
    for (size_t h = 0; h < headers.size(); ++h) pieces.push_back(headers[h].missing(bytes_of(h)));
    fetch_pieces(op, pieces, like, stream);
    for (size_t h = 0; h < headers.size(); ++h) headers[h].have(bytes_of(h));
  };
  fetch_headers([](size_t) { return HostHeader::kFirstBytes; });
  fetch_headers([&](size_t h) { return headers[h].bound(numels[on_device[h]]); });
  for (size_t h = 0; h < headers.size(); ++h) take_apart(on_device[h], headers[h].data());
  return streams;
}

// A stream in pieces: the payload in device memory, the others there or on the host.
DeviceStream device_pieces(const char* op, const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t numel, int64_t chunk_symbols, SymbolType type,
                           cudaStream_t stream) {
  check_bytes(op, "payload", payload);
  check_bytes(op, "table", table);
  check_directory(op, directory, numel, chunk_symbols);
  for (const Tensor* t : {&directory, &table})
    if (!t->is_cpu()) check_same_device(op, payload, *t, t == &table ? "table" : "directory");
  const std::vector<uint8_t> entry_bytes = fetch_now(op, directory, stream), table_bytes = fetch_now(op, table, stream);
  std::vector<int32_t> entries(entry_bytes.size() / sizeof(int32_t));
  if (!entries.empty()) std::memcpy(entries.data(), entry_bytes.data(), entry_bytes.size());
  DeviceStream s{"", torch::stable::contiguous(payload), numel, type, std::nullopt};
  s.parts.emplace(parse_table(op, table_bytes.data(), int64_t(table_bytes.size()), type), checked_entries(op, entries.data(), numel, chunk_symbols), chunk_symbols);
  check_payload_bytes(op, s.parts->entries, s.bytes.numel());
  return s;
}

// Decodes all streams to where `like` is: to outs[i], or to weights[i] if there are any.
void decode_all(const char* op, const std::vector<DeviceStream>& streams, const std::vector<uint8_t*>& outs, const std::vector<DeviceWeights>& weights, const Tensor& like,
                cudaStream_t stream) {
  if (streams.empty()) return;
  Statuses statuses(like, streams.size());
  run_plan(op, plan_decoding(op, streams, outs, weights, like, stream), statuses.pointer(), stream);
  std::vector<MatrixSource> matrices;
  std::vector<size_t> numbers;
  std::vector<Tensor> symbols;  // that become weights
  for (size_t i = 0; i < streams.size(); ++i) {
    const DeviceStream& s = streams[i];
    if (!is_matrix(s)) continue;
    if (!weights.empty()) symbols.push_back(device_bytes(like, s.numel * format::symbol_bytes(s.type)));
    matrices.push_back({s.which, s.bytes, s.numel, s.type, weights.empty() ? outs[i] : device_pointer<uint8_t>(symbols.back()), {}});
    numbers.push_back(i);
  }
  if (!matrices.empty()) decode_matrices(op, matrices, like, stream);
  for (size_t k = 0; k < symbols.size(); ++k) {
    const DeviceWeights& w = weights[numbers[k]];
    check_cuda(op, cuda::dequantize(matrices[k].out, matrices[k].type, w.rows, w.to.columns, w.to.scale, w.to.exponent, w.to.weight, w.type, nullptr, stream));
  }
  statuses.wait_and_check(op, stream, "the payload is damaged", "stream");
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
  const OnDevice here(payload);
  const std::vector<DeviceStream> streams{device_pieces(kOp, payload, directory, table, numel, chunk_symbols, symbol_type(kOp, symbol_dtype), here.stream)};
  Tensor symbols = torch::stable::new_empty(payload, {numel}, symbol_dtype);
  decode_all(kOp, streams, {static_cast<uint8_t*>(symbols.mutable_data_ptr())}, {}, payload, here.stream);
  return symbols;
}

void decode_out_cuda(const Tensor& payload, const Tensor& directory, const Tensor& table, int64_t chunk_symbols, Tensor out) {
  constexpr const char* kOp = "decode_out";
  ANS_CHECK_ARGUMENT(out.is_contiguous(), kOp, "out is not contiguous");
  check_same_device(kOp, payload, out, "out");
  const OnDevice here(payload);
  const SymbolType type = symbol_type(kOp, out.scalar_type());
  const std::vector<DeviceStream> streams{device_pieces(kOp, payload, directory, table, out.numel(), chunk_symbols, type, here.stream)};
  decode_all(kOp, streams, {static_cast<uint8_t*>(out.mutable_data_ptr())}, {}, payload, here.stream);
}

void decode_to_weights(const char* op, const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent, int64_t chunk_symbols,
                       ScalarType symbol_dtype, const Tensor& weight, cudaStream_t stream) {
  const SymbolType type = symbol_type(op, symbol_dtype);
  check_same_device(op, payload, weight, "out");
  std::vector<Tensor> scales;
  const std::vector<DeviceWeights> weights{device_weights(op, weight, scale, exponent, &scales)};
  decode_all(op, {device_pieces(op, payload, directory, table, weight.numel(), chunk_symbols, type, stream)}, {}, weights, payload, stream);
}

Tensor decode_dequantize_cuda(const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent,
                              torch::headeronly::IntHeaderOnlyArrayRef shape, int64_t chunk_symbols, ScalarType symbol_dtype, ScalarType dtype) {
  constexpr const char* kOp = "decode_dequantize";
  check_directory(kOp, directory, checked_numel(kOp, shape), chunk_symbols);  // before anything is allocated
  float_type(kOp, dtype);
  const OnDevice here(payload);
  Tensor weight = torch::stable::new_empty(payload, shape, dtype);
  decode_to_weights(kOp, payload, directory, table, scale, exponent, chunk_symbols, symbol_dtype, weight, here.stream);
  return weight;
}

void decode_dequantize_out_cuda(const Tensor& payload, const Tensor& directory, const Tensor& table, const Tensor& scale, const Tensor& exponent, int64_t chunk_symbols,
                                ScalarType symbol_dtype, Tensor out) {
  const OnDevice here(payload);
  decode_to_weights("decode_dequantize_out", payload, directory, table, scale, exponent, chunk_symbols, symbol_dtype, out, here.stream);
}

// Checked: streams and where their symbols go.
std::vector<uint8_t*> symbol_addresses(const char* op, const std::vector<Tensor>& sources, const std::vector<Tensor>& outs, std::vector<int64_t>* numels, std::vector<SymbolType>* types) {
  ANS_CHECK_ARGUMENT(sources.size() == outs.size(), op, sources.size(), " streams, but ", outs.size(), " tensors for their symbols");
  ANS_CHECK_ARGUMENT(!outs.empty(), op, "there are no streams");
  std::vector<uint8_t*> addresses;
  for (const Tensor& out : outs) {
    ANS_CHECK_ARGUMENT(on_gpu(out), op, "out is not on a GPU");
    check_same_device(op, outs[0], out, "out");
    ANS_CHECK_ARGUMENT(out.is_contiguous(), op, "out is not contiguous");
    numels->push_back(out.numel());
    types->push_back(symbol_type(op, out.scalar_type()));
    addresses.push_back(device_pointer<uint8_t>(out));
  }
  return addresses;
}

std::vector<DeviceWeights> weight_addresses(const char* op, const std::vector<Tensor>& sources, const std::vector<Tensor>& scales, const std::vector<Tensor>& exponents,
                                            SymbolType type, const std::vector<Tensor>& outs, std::vector<int64_t>* numels, std::vector<SymbolType>* types, std::vector<Tensor>* kept) {
  ANS_CHECK_ARGUMENT(sources.size() == outs.size() && sources.size() == scales.size() && sources.size() == exponents.size(), op, sources.size(), " streams, ", scales.size(),
                     " scales, ", exponents.size(), " exponents and ", outs.size(), " tensors for the weights");
  ANS_CHECK_ARGUMENT(!outs.empty(), op, "there are no streams");
  std::vector<DeviceWeights> weights;
  for (size_t i = 0; i < outs.size(); ++i) {
    ANS_CHECK_ARGUMENT(on_gpu(outs[i]), op, "out is not on a GPU");
    check_same_device(op, outs[0], outs[i], "out");
    weights.push_back(device_weights(op, outs[i], scales[i], exponents[i], kept));
    numels->push_back(outs[i].numel());
    types->push_back(type);
  }
  return weights;
}

Tensor decode_stream_cuda(const Tensor& stream, int64_t numel, ScalarType symbol_dtype) {
  constexpr const char* kOp = "decode_stream";
  const OnDevice here(stream);
  const std::vector<DeviceStream> streams = open_streams(kOp, {stream}, {numel}, {symbol_type(kOp, symbol_dtype)}, stream, here.stream);  // before anything is allocated
  Tensor symbols = torch::stable::new_empty(stream, {numel}, symbol_dtype);
  decode_all(kOp, streams, {device_pointer<uint8_t>(symbols)}, {}, stream, here.stream);
  return symbols;
}

void decode_streams_into(const char* op, const std::vector<Tensor>& sources, const std::vector<Tensor>& outs) {
  std::vector<int64_t> numels;
  std::vector<SymbolType> types;
  const std::vector<uint8_t*> addresses = symbol_addresses(op, sources, outs, &numels, &types);
  const OnDevice here(outs[0]);
  decode_all(op, open_streams(op, sources, numels, types, outs[0], here.stream), addresses, {}, outs[0], here.stream);
}

void decode_stream_out_cuda(const Tensor& stream, Tensor out) { decode_streams_into("decode_stream_out", {stream}, {out}); }
void decode_streams_out_cuda(std::vector<Tensor> streams, std::vector<Tensor> outs) { decode_streams_into("decode_streams_out", streams, outs); }

void decode_streams_dequantize_out_cuda(std::vector<Tensor> sources, std::vector<Tensor> scales, std::vector<Tensor> exponents, ScalarType symbol_dtype, std::vector<Tensor> outs,
                                        std::vector<Tensor> column_factors) {
  constexpr const char* kOp = "decode_streams_dequantize_out";
  std::vector<int64_t> numels;
  std::vector<SymbolType> types;
  std::vector<Tensor> kept;
  const std::vector<DeviceWeights> weights = weight_addresses(kOp, sources, scales, exponents, symbol_type(kOp, symbol_dtype), outs, &numels, &types, &kept);
  const OnDevice here(outs[0]);
  const std::vector<Tensor> factors = checked_column_factors(kOp, outs, column_factors);
  const std::vector<DeviceStream> streams = open_streams(kOp, sources, numels, types, outs[0], here.stream);
  if (factors.empty()) return decode_all(kOp, streams, {}, weights, outs[0], here.stream);
  std::vector<Tensor> symbols;
  std::vector<uint8_t*> addresses;
  for (const DeviceStream& s : streams) {
    symbols.push_back(device_bytes(outs[0], s.numel * format::symbol_bytes(s.type)));
    addresses.push_back(device_pointer<uint8_t>(symbols.back()));
  }
  decode_all(kOp, streams, addresses, {}, outs[0], here.stream);
  for (size_t i = 0; i < streams.size(); ++i) {
    const DeviceWeights& w = weights[i];
    if (streams[i].numel == 0) continue;
    check_cuda(kOp, cuda::dequantize(addresses[i], streams[i].type, w.rows, w.to.columns, w.to.scale, w.to.exponent, w.to.weight, w.type,
                                     factors[i].numel() == 0 ? nullptr : factors[i].const_data_ptr<float>(), here.stream));
  }
  check_cuda(kOp, cudaStreamSynchronize(here.stream));  // symbols and factors are needed until then
}

// ---- a plan made once ----

// Everything is contiguous and on the device, since a plan keeps addresses.
void check_planned(const char* op, const std::vector<Tensor>& tensors, const Tensor& like, const char* name) {
  for (const Tensor& t : tensors) {
    ANS_CHECK_ARGUMENT(on_gpu(t), op, name, " is not on a GPU");
    check_same_device(op, like, t, name);
    ANS_CHECK_ARGUMENT(t.is_contiguous(), op, name, " is not contiguous");
  }
}

std::tuple<Tensor, Tensor> plan_decode_cuda(std::vector<Tensor> sources, std::vector<Tensor> scales, std::vector<Tensor> exponents, ScalarType symbol_dtype, std::vector<Tensor> outs) {
  constexpr const char* kOp = "plan_decode";
  ANS_CHECK_ARGUMENT(!outs.empty(), kOp, "there are no streams");
  const OnDevice here(outs[0]);
  check_planned(kOp, sources, outs[0], "a stream");
  check_planned(kOp, scales, outs[0], "a scale");
  std::vector<int64_t> numels;
  std::vector<SymbolType> types;
  std::vector<Tensor> kept;
  std::vector<uint8_t*> addresses;
  std::vector<DeviceWeights> weights;
  if (scales.empty() && exponents.empty()) addresses = symbol_addresses(kOp, sources, outs, &numels, &types);
  else weights = weight_addresses(kOp, sources, scales, exponents, symbol_type(kOp, symbol_dtype), outs, &numels, &types, &kept);
  const std::vector<DeviceStream> streams = open_streams(kOp, sources, numels, types, outs[0], here.stream);
  for (const DeviceStream& s : streams) ANS_CHECK_ARGUMENT(!is_matrix(s), kOp, s.which, "there are no plans for matrix streams");
  const DecodePlan plan = plan_decoding(kOp, streams, addresses, weights, outs[0], here.stream);
  return {plan.on_host(), *plan.device};
}

Tensor run_decode_cuda(const Tensor& host_plan, const Tensor& device_plan, std::vector<Tensor> sources, std::vector<Tensor> scales, std::vector<Tensor> exponents, std::vector<Tensor> outs) {
  constexpr const char* kOp = "run_decode";
  const OnDevice here(device_plan);
  const DecodePlan plan = DecodePlan::from_host(kOp, host_plan, device_plan);
  const size_t count = plan.streams.size();
  ANS_CHECK_ARGUMENT(sources.size() == count && outs.size() == count && scales.size() == exponents.size() && (scales.empty() || scales.size() == count), kOp,
                     "the plan is for another number of tensors");
  for (size_t i = 0; i < count; ++i) {
    const PlannedStream& p = plan.streams[i];
    bool same = sources[i].const_data_ptr() == p.stream && sources[i].numel() == p.stream_bytes && outs[i].const_data_ptr() == p.out && outs[i].numel() == p.numel;
    same = same && scales.empty() == (p.weight_type < 0);
    if (same && !scales.empty()) same = scales[i].const_data_ptr() == p.scale && exponents[i].const_data_ptr() == static_cast<const void*>(p.exponent);
    ANS_CHECK_ARGUMENT(same, kOp, name_stream(i, count), "the plan was made for other tensors");
  }
  Statuses statuses(device_plan, count);
  run_plan(kOp, plan, statuses.pointer(), here.stream);
  return statuses.tensor();
}

void check_decoded_cuda(const Tensor& status) {
  constexpr const char* kOp = "check_decoded";
  ANS_CHECK_ARGUMENT(status.scalar_type() == ScalarType::Int && status.dim() == 1, kOp, "status is not what run_decode returns");
  const OnDevice here(status);
  const std::vector<uint8_t> bytes = fetch_now(kOp, status, here.stream);
  check_decoded_status(kOp, reinterpret_cast<const int32_t*>(bytes.data()), size_t(status.numel()));
}

}  // namespace
}  // namespace ans::ops

ANS_CUDA_KERNELS(m) {
  m.impl("decode", TORCH_BOX(&ans::ops::decode_cuda));
  m.impl("decode_out", TORCH_BOX(&ans::ops::decode_out_cuda));
  m.impl("decode_dequantize", TORCH_BOX(&ans::ops::decode_dequantize_cuda));
  m.impl("decode_dequantize_out", TORCH_BOX(&ans::ops::decode_dequantize_out_cuda));
  m.impl("decode_stream", TORCH_BOX(&ans::ops::decode_stream_cuda));
  m.impl("decode_stream_out", TORCH_BOX(&ans::ops::decode_stream_out_cuda));
  m.impl("decode_streams_out", TORCH_BOX(&ans::ops::decode_streams_out_cuda));
  m.impl("decode_streams_dequantize_out", TORCH_BOX(&ans::ops::decode_streams_dequantize_out_cuda));
  m.impl("plan_decode", TORCH_BOX(&ans::ops::plan_decode_cuda));
  m.impl("run_decode", TORCH_BOX(&ans::ops::run_decode_cuda));
  m.impl("check_decoded", TORCH_BOX(&ans::ops::check_decoded_cuda));
}
