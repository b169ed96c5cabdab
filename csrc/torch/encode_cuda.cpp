// CUDA kernels of encode and encode_stream, of one tensor or many: a constant number of launches, and the host waits as often as it has to know sizes.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "core/log2_table.h"
#include "core/normalize.h"
#include "cuda/launch.h"
#include "torch/checks.h"
#include "torch/cuda_support.h"
#include "torch/histograms_cuda.h"
#include "torch/parallel.h"
#include "torch/stream_parts.h"

namespace ans::ops {
namespace {

using core::ChunkEntry;
using format::SymbolType;

// A tensor to encode; contiguous.
struct Source {
  Tensor symbols;
  SymbolType type;
  int64_t chunk_symbols;
  core::FrequencyTable table;
};

std::vector<Tensor> contiguous_symbols(const char* op, const std::vector<Tensor>& symbols) {
  ANS_CHECK_ARGUMENT(!symbols.empty(), op, "there are no tensors");
  std::vector<Tensor> result;
  for (const Tensor& t : symbols) {
    symbol_type(op, t.scalar_type());
    ANS_CHECK_ARGUMENT(on_gpu(t), op, "a tensor of symbols is not on a GPU, but others are");
    check_same_device(op, symbols[0], t, "a tensor");
    result.push_back(torch::stable::contiguous(t));
  }
  return result;
}

Tensor sums_of(const char* op, const Tensor& values, int64_t count, cudaStream_t stream) {
  Tensor sums = torch::stable::new_empty(values, {count}, ScalarType::Long);
  size_t scratch_bytes = 0;
  check_cuda(op, cuda::prefix_sums(nullptr, &scratch_bytes, values.const_data_ptr<int64_t>(), sums.mutable_data_ptr<int64_t>(), count, stream));
  const Tensor scratch = device_bytes(values, int64_t(scratch_bytes));
  check_cuda(op, cuda::prefix_sums(scratch.mutable_data_ptr(), &scratch_bytes, values.const_data_ptr<int64_t>(), sums.mutable_data_ptr<int64_t>(), count, stream));
  return sums;
}

// The chunks of all sources, encoded; they lie in scratch memory until place() brings them together.
class DeviceEncoding {
 public:
  DeviceEncoding(const char* op, const std::vector<Source>& sources, const std::vector<std::string>& names, cudaStream_t stream)
      : op_(op), stream_(stream), like_(sources[0].symbols) {
    std::vector<core::EncodeTable> tables(sources.size());
    const core::Status prepared = parallel_ranges(int64_t(sources.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) core::make_encode_table(sources[size_t(i)].table, sources[size_t(i)].type, &tables[size_t(i)]);
      return core::Status::kOk;
    });
    check_status(op, prepared, "");
    std::vector<core::EncodeJob> jobs;
    std::vector<int32_t> begin{0};
    for (size_t t = 0; t < sources.size(); ++t) {
      const Source& s = sources[t];
      const uint8_t* const data = static_cast<const uint8_t*>(s.symbols.const_data_ptr());
      const int64_t numel = s.symbols.numel(), chunks = core::chunk_count(numel, s.chunk_symbols);
      ANS_CHECK_ARGUMENT(chunks <= std::numeric_limits<int32_t>::max() - begin.back(), op, "there are more than 2^31 chunks; make them longer");
      for (int64_t c = 0; c < chunks; ++c)
        jobs.push_back({data + c * s.chunk_symbols * format::symbol_bytes(s.type), core::symbols_in_chunk(numel, s.chunk_symbols, c), int32_t(t), int32_t(t)});
      begin.push_back(int32_t(jobs.size()));
    }
    first_job_.assign(begin.begin(), begin.end());
    entries_.resize(jobs.size());
    if (jobs.empty()) return;
    encode(tables, jobs, core::plan_blocks(begin, cuda::kEncodeWarps), names);
  }

  size_t first_chunk(size_t source) const { return size_t(first_job_[source]); }
  int64_t chunks(size_t source) const { return first_job_[source + 1] - first_job_[source]; }
  const ChunkEntry* entries(size_t source) const { return entries_.data() + first_chunk(source); }
  int64_t bytes(size_t source) const {
    int64_t sum = 0;
    for (int64_t c = 0; c < chunks(source); ++c) sum += 2 * int64_t(entries(source)[c].words);
    return sum;
  }
  // The payload of source i to to[i]: bytes(i) of them.
  void place(const std::vector<uint8_t*>& to) {
    if (entries_.empty()) return;
    std::vector<core::EncodedPlace> places;
    for (size_t i = 0; i < to.size(); ++i) places.push_back({to[i], first_job_[i]});
    Upload upload;
    const size_t at = upload.add(places);
    upload.send(op_, like_, stream_);
    check_cuda(op_, cuda::place_chunks(launch_, upload.at<core::EncodedPlace>(at), stream_));
  }

 private:
  void encode(const std::vector<core::EncodeTable>& tables, const std::vector<core::EncodeJob>& jobs, const std::vector<core::WarpBlock>& blocks, const std::vector<std::string>& names) {
    const int64_t count = int64_t(jobs.size());
    Upload upload;
    const size_t tables_at = upload.add(tables), jobs_at = upload.add(jobs), blocks_at = upload.add(blocks);
    const size_t logs_at = upload.add(core::mantissa_logs().data(), core::mantissa_logs().size());
    upload.send(op_, like_, stream_);
    keep(upload.tensor());
    Statuses statuses(like_, tables.size());
    const Tensor room = keep(torch::stable::new_zeros(like_, {count + 1}, ScalarType::Long)), words = keep(torch::stable::new_zeros(like_, {count + 1}, ScalarType::Long));
    const Tensor entries = keep(torch::stable::new_empty(like_, {count, 2}, ScalarType::Int));
    launch_.blocks = upload.at<core::WarpBlock>(blocks_at);
    launch_.block_count = int64_t(blocks.size());
    launch_.jobs = upload.at<core::EncodeJob>(jobs_at);
    launch_.job_count = count;
    launch_.tables = upload.at<core::EncodeTable>(tables_at);
    launch_.mantissa_logs = upload.at<uint16_t>(logs_at);
    launch_.costs = device_pointer<uint16_t>(keep(device_bytes(like_, 2 * format::kLanes * count)));
    launch_.states = device_pointer<uint32_t>(keep(device_bytes(like_, 4 * format::kLanes * count)));
    launch_.escapes = device_pointer<int64_t>(keep(device_bytes(like_, 8 * count)));
    launch_.room = device_pointer<int64_t>(room);
    launch_.entries = device_pointer<int32_t>(entries);
    launch_.words = device_pointer<int64_t>(words);
    launch_.status = statuses.pointer();
    auto check = [&](const char* explanation) {
      for (size_t i = 0; i < names.size(); ++i) check_status(op_, statuses.found(i), (names[i] + explanation).c_str());
    };

    check_cuda(op_, cuda::encode_costs(launch_, stream_));
    const Tensor room_begin = keep(sums_of(op_, room, count + 1, stream_));
    launch_.room_begin = room_begin.const_data_ptr<int64_t>();
    int64_t room_words = 0;
    check_cuda(op_, cudaMemcpyAsync(&room_words, launch_.room_begin + count, sizeof room_words, cudaMemcpyDeviceToHost, stream_));
    statuses.fetch(op_, stream_);
    check_cuda(op_, cudaStreamSynchronize(stream_));
    check("a symbol is not in the table");

    launch_.scratch = device_pointer<uint16_t>(keep(device_bytes(like_, 2 * room_words)));
    check_cuda(op_, cuda::encode_chunks(launch_, stream_));
    launch_.words_begin = keep(sums_of(op_, words, count + 1, stream_)).const_data_ptr<int64_t>();
    fetch(op_, entries, entries_.data(), stream_);
    statuses.fetch(op_, stream_);
    check_cuda(op_, cudaStreamSynchronize(stream_));
    check("the symbols have changed while they were encoded");
  }
  const Tensor& keep(Tensor t) {
    kept_.push_back(std::move(t));
    return kept_.back();
  }

  const char* op_;
  cudaStream_t stream_;
  Tensor like_;
  std::vector<Tensor> kept_;
  cuda::EncodeLaunch launch_{};
  std::vector<int64_t> first_job_;  // of every source, and their number
  std::vector<ChunkEntry> entries_;
};
static_assert(sizeof(ChunkEntry) == 2 * sizeof(int32_t), "a directory is copied as it is");

// Directory tensors of some sources, from their entries on the host.
std::vector<Tensor> directories(const char* op, const DeviceEncoding& encoding, const Tensor& like, size_t count, cudaStream_t stream) {
  std::vector<Tensor> result;
  for (size_t i = 0; i < count; ++i) {
    Tensor directory = torch::stable::new_empty(like, {encoding.chunks(i), 2}, ScalarType::Int);
    const size_t bytes = size_t(encoding.chunks(i)) * sizeof(ChunkEntry);
    if (bytes > 0) check_cuda(op, cudaMemcpyAsync(directory.mutable_data_ptr(), encoding.entries(i), bytes, cudaMemcpyHostToDevice, stream));
    result.push_back(directory);
  }
  return result;
}

std::tuple<std::vector<Tensor>, std::vector<Tensor>> encode_all(const char* op, const std::vector<Tensor>& symbols, const std::vector<Tensor>& tables,
                                                                 const std::vector<int64_t>& chunk_symbols) {
  ANS_CHECK_ARGUMENT(symbols.size() == tables.size() && symbols.size() == chunk_symbols.size(), op, symbols.size(), " tensors, ", tables.size(), " tables and ", chunk_symbols.size(),
                     " chunk sizes");
  const std::vector<Tensor> contiguous = contiguous_symbols(op, symbols);
  const OnDevice here(contiguous[0]);
  std::vector<std::vector<uint8_t>> table_bytes;
  std::vector<Tensor> kept;
  for (size_t i = 0; i < symbols.size(); ++i) {
    check_bytes(op, "table", tables[i]);
    if (!tables[i].is_cpu()) check_same_device(op, symbols[0], tables[i], "a table");
    check_chunk_symbols(op, chunk_symbols[i]);
    kept.push_back(torch::stable::contiguous(tables[i]));
    table_bytes.emplace_back(size_t(kept.back().numel()));
    fetch(op, kept.back(), table_bytes.back().data(), here.stream);
  }
  check_cuda(op, cudaStreamSynchronize(here.stream));
  std::vector<Source> sources;
  std::vector<std::string> names;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const SymbolType type = symbol_type(op, symbols[i].scalar_type());
    sources.push_back({contiguous[i], type, chunk_symbols[i], parse_table(op, table_bytes[i].data(), int64_t(table_bytes[i].size()), type)});
    names.push_back(name_of("tensor", i, symbols.size()));
  }
  DeviceEncoding encoding(op, sources, names, here.stream);
  std::vector<Tensor> payloads;
  std::vector<uint8_t*> to;
  for (size_t i = 0; i < sources.size(); ++i) {
    payloads.push_back(device_bytes(contiguous[i], encoding.bytes(i)));
    to.push_back(device_pointer<uint8_t>(payloads.back()));
  }
  encoding.place(to);
  return {payloads, directories(op, encoding, contiguous[0], sources.size(), here.stream)};
}

std::vector<Tensor> encode_streams_all(const char* op, const std::vector<Tensor>& symbols, const std::vector<int64_t>& chunk_symbols) {
  ANS_CHECK_ARGUMENT(symbols.size() == chunk_symbols.size(), op, symbols.size(), " tensors and ", chunk_symbols.size(), " chunk sizes");
  for (int64_t n : chunk_symbols) check_chunk_symbols(op, n);
  const std::vector<Tensor> contiguous = contiguous_symbols(op, symbols);
  const OnDevice here(contiguous[0]);
  const size_t count = contiguous.size();

  std::vector<int64_t> bins;
  const Tensor counts_there = queue_histograms(op, contiguous, &bins, here.stream);
  std::vector<uint64_t> counts(size_t(counts_there.numel()));
  fetch(op, counts_there, counts.data(), here.stream);
  check_cuda(op, cudaStreamSynchronize(here.stream));
  std::vector<std::vector<uint8_t>> heads(count);
  std::vector<core::FrequencyTable> tables(count);
  const core::Status chosen = parallel_ranges(int64_t(count), 1, [&](int64_t begin, int64_t end) {
    for (size_t i = size_t(begin); i < size_t(end); ++i) {
      const SymbolType type = symbol_type(op, contiguous[i].scalar_type());
      heads[i] = core::stream_prefix(counts.data() + bins[i], type, chunk_symbols[i], &tables[i]);
    }
    return core::Status::kOk;
  });
  check_status(op, chosen, "");

  std::vector<Source> sources;
  std::vector<std::string> names;
  std::vector<size_t> coded;  // which streams have chunks
  for (size_t i = 0; i < count; ++i) {
    const format::Model model = format::Model(heads[i][0]);
    if (model == format::Model::kRaw || model == format::Model::kConstant) continue;
    sources.push_back({contiguous[i], symbol_type(op, contiguous[i].scalar_type()), chunk_symbols[i], tables[i]});
    names.push_back(name_of("tensor", i, count));
    coded.push_back(i);
  }
  std::optional<DeviceEncoding> encoding;
  if (!sources.empty()) encoding.emplace(op, sources, names, here.stream);
  std::vector<int64_t> body(count, 0);
  for (size_t i = 0; i < count; ++i)
    if (format::Model(heads[i][0]) == format::Model::kRaw) body[i] = contiguous[i].numel() * contiguous[i].element_size();
  for (size_t s = 0; s < coded.size(); ++s) {
    const std::vector<uint8_t> directory = core::write_directory(encoding->entries(s), encoding->chunks(s));
    heads[coded[s]].insert(heads[coded[s]].end(), directory.begin(), directory.end());
    body[coded[s]] = encoding->bytes(s);
  }

  // Heads travel together, and are then copied to their streams as raw bodies are.
  Upload upload;
  std::vector<size_t> head_at;
  for (const std::vector<uint8_t>& head : heads) head_at.push_back(upload.add(head));
  upload.send(op, contiguous[0], here.stream);
  std::vector<Tensor> streams;
  std::vector<core::CopyJob> copies;
  for (size_t i = 0; i < count; ++i) {
    streams.push_back(device_bytes(contiguous[i], int64_t(heads[i].size()) + body[i]));
    uint8_t* const out = device_pointer<uint8_t>(streams.back());
    copies.push_back({upload.at<uint8_t>(head_at[i]), out, int64_t(heads[i].size())});
    if (format::Model(heads[i][0]) == format::Model::kRaw && body[i] > 0)
      check_cuda(op, cudaMemcpyAsync(out + heads[i].size(), contiguous[i].const_data_ptr(), size_t(body[i]), cudaMemcpyDeviceToDevice, here.stream));
  }
  Upload copy_upload;
  const size_t copies_at = copy_upload.add(copies);
  copy_upload.send(op, contiguous[0], here.stream);
  check_cuda(op, cuda::copy_all(copy_upload.at<core::CopyJob>(copies_at), int64_t(copies.size()), here.stream));
  std::vector<uint8_t*> to;
  for (size_t i : coded) to.push_back(device_pointer<uint8_t>(streams[i]) + heads[i].size());
  if (encoding) encoding->place(to);
  return streams;
}

std::tuple<Tensor, Tensor> encode_cuda(const Tensor& symbols, const Tensor& table, int64_t chunk_symbols) {
  const auto [payloads, entries] = encode_all("encode", {symbols}, {table}, {chunk_symbols});
  return {payloads[0], entries[0]};
}
std::tuple<std::vector<Tensor>, std::vector<Tensor>> encode_many_cuda(std::vector<Tensor> symbols, std::vector<Tensor> tables, std::vector<int64_t> chunk_symbols) {
  return encode_all("encode_many", symbols, tables, chunk_symbols);
}
Tensor encode_stream_cuda(const Tensor& symbols, int64_t chunk_symbols) { return encode_streams_all("encode_stream", {symbols}, {chunk_symbols})[0]; }
std::vector<Tensor> encode_streams_cuda(std::vector<Tensor> symbols, std::vector<int64_t> chunk_symbols) { return encode_streams_all("encode_streams", symbols, chunk_symbols); }

}  // namespace
}  // namespace ans::ops

ANS_CUDA_KERNELS(m) {
  m.impl("encode", TORCH_BOX(&ans::ops::encode_cuda));
  m.impl("encode_many", TORCH_BOX(&ans::ops::encode_many_cuda));
  m.impl("encode_stream", TORCH_BOX(&ans::ops::encode_stream_cuda));
  m.impl("encode_streams", TORCH_BOX(&ans::ops::encode_streams_cuda));
}
