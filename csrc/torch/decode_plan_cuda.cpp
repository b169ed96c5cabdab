#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include "torch/decode_plan_cuda.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

namespace ans::ops {
namespace {

using core::FloatType;
using format::Model;
using format::SymbolType;

bool has_chunks(const PlannedStream& s) { return Model(s.model) == Model::kOrder0OneChunk || Model(s.model) == Model::kOrder0; }
int64_t symbol_bytes(const PlannedStream& s) { return s.numel * format::symbol_bytes(SymbolType(s.symbol_type)); }

constexpr int64_t kCopyBytes = 1 << 16;  // of a block

void add_copies(const uint8_t* from, uint8_t* to, int64_t bytes, std::vector<core::CopyJob>* copies) {
  for (int64_t at = 0; at < bytes; at += kCopyBytes) copies->push_back({from + at, to + at, std::min(kCopyBytes, bytes - at)});
}

void fill_constant(const char* op, const PlannedStream& s, uint8_t* out, cudaStream_t stream) {
  const int64_t bytes = symbol_bytes(s), width = format::symbol_bytes(SymbolType(s.symbol_type));
  if (bytes == 0) return;
  if (width == 1) return check_cuda(op, cudaMemsetAsync(out, int(s.constant), size_t(bytes), stream));
  check_cuda(op, cudaMemcpyAsync(out, s.stream + 1, size_t(width), cudaMemcpyDeviceToDevice, stream));
  for (int64_t done = width; done < bytes; done *= 2)
    check_cuda(op, cudaMemcpyAsync(out + done, out, size_t(std::min(done, bytes - done)), cudaMemcpyDeviceToDevice, stream));
}

// Weights of a raw or constant stream, by way of its symbols.
void fill_weights(const char* op, const PlannedStream& s, const Tensor& like, cudaStream_t stream) {
  if (s.numel == 0) return;
  const Tensor symbols = device_bytes(like, symbol_bytes(s));
  uint8_t* const p = device_pointer<uint8_t>(symbols);
  if (Model(s.model) == Model::kConstant) fill_constant(op, s, p, stream);
  else check_cuda(op, cudaMemcpyAsync(p, s.stream + 1, size_t(symbol_bytes(s)), cudaMemcpyDeviceToDevice, stream));
  check_cuda(op, cuda::dequantize(p, SymbolType(s.symbol_type), s.rows, s.columns, s.scale, s.exponent, s.out, FloatType(s.weight_type), nullptr, stream));
}

}  // namespace

DecodePlan plan_decoding(const char* op, const std::vector<DeviceStream>& streams, const std::vector<uint8_t*>& outs, const std::vector<DeviceWeights>& weights, const Tensor& like,
                         cudaStream_t stream) {
  DecodePlan plan;
  std::map<std::pair<int64_t, int64_t>, std::vector<size_t>> groups;
  std::vector<core::WarpWeights> all_weights;
  std::vector<core::CopyJob> copies;
  for (size_t i = 0; i < streams.size(); ++i) {
    const DeviceStream& s = streams[i];
    PlannedStream p{int64_t(s.parts->model), int64_t(s.type), s.constant, s.numel, s.data(), s.bytes.numel(), nullptr, -1, 0, 0, nullptr, nullptr};
    if (weights.empty()) {
      p.out = outs[i];
    } else {
      const DeviceWeights& w = weights[i];
      p.out = w.to.weight, p.weight_type = int64_t(w.type), p.rows = w.rows, p.columns = w.to.columns, p.scale = w.to.scale, p.exponent = w.to.exponent;
      all_weights.push_back(w.to);
    }
    if (has_chunks(p)) groups[{p.symbol_type, p.weight_type}].push_back(i);
    else if (s.parts->model == Model::kRaw && weights.empty()) add_copies(s.data() + 1, outs[i], symbol_bytes(p), &copies);
    plan.streams.push_back(p);
  }

  Upload upload;
  plan.weights = int64_t(upload.add(all_weights));
  plan.copies = int64_t(upload.add(copies));
  plan.copy_count = int64_t(copies.size());
  for (const auto& [kind, members] : groups) {
    std::vector<uint8_t> tables(members.size() * core::kWarpTableBytes);
    std::vector<core::WarpJob> jobs;
    std::vector<int32_t> table_of_job, first_job_of_table{0};
    const auto table = std::make_unique<core::DecodeTable>();
    for (size_t t = 0; t < members.size(); ++t) {
      const DeviceStream& s = streams[members[t]];
      core::make_decode_table(s.parts->table, s.type, false, table.get());
      std::memcpy(tables.data() + t * core::kWarpTableBytes, table.get(), core::kWarpTableBytes);
      const uint8_t* chunk = s.data() + s.parts->payload_begin;
      for (size_t c = 0; c < s.parts->entries.size(); ++c) {
        const core::ChunkEntry& entry = s.parts->entries[c];
        const int64_t first = int64_t(c) * s.parts->chunk_symbols;
        uint8_t* const out = weights.empty() ? outs[members[t]] + first * format::symbol_bytes(s.type) : nullptr;
        const uint8_t* const end = chunk + 2 * int64_t(entry.words);
        jobs.push_back({chunk, end, out, core::symbols_in_chunk(s.numel, s.parts->chunk_symbols, int64_t(c)), first, entry.tail, int32_t(members[t])});
        table_of_job.push_back(int32_t(t));
        chunk = end;
      }
      ANS_CHECK_ARGUMENT(jobs.size() <= size_t(std::numeric_limits<int32_t>::max()), op, "there are more than 2^31 chunks");
      first_job_of_table.push_back(int32_t(jobs.size()));
    }
    const std::vector<core::WarpBlock> blocks = core::plan_blocks(first_job_of_table, cuda::kDecodeWarps);
    PlannedGroup g{kind.first, kind.second, 0, int64_t(blocks.size()), 0, 0, int64_t(jobs.size()), 0};
    g.blocks = int64_t(upload.add(blocks)), g.jobs = int64_t(upload.add(jobs)), g.table_of_job = int64_t(upload.add(table_of_job)), g.tables = int64_t(upload.add(tables));
    plan.groups.push_back(g);
  }
  upload.send(op, like, stream);
  plan.device.emplace(upload.tensor());
  return plan;
}

void run_plan(const char* op, const DecodePlan& plan, uint32_t* status, cudaStream_t stream) {
  const Tensor& device = *plan.device;
  const uint8_t* const base = static_cast<const uint8_t*>(device.const_data_ptr());
  for (const PlannedStream& s : plan.streams) {
    if (has_chunks(s) || Model(s.model) == Model::kMatrix) continue;
    if (s.weight_type >= 0) fill_weights(op, s, device, stream);
    else if (Model(s.model) == Model::kConstant) fill_constant(op, s, static_cast<uint8_t*>(s.out), stream);
  }
  check_cuda(op, cuda::copy_all(reinterpret_cast<const core::CopyJob*>(base + plan.copies), plan.copy_count, stream));
  for (const PlannedGroup& g : plan.groups) {
    const Tensor states = device_bytes(device, 4 * format::kLanes * g.job_count);
    const cuda::DecodeLaunch launch{reinterpret_cast<const core::WarpBlock*>(base + g.blocks),
                                    g.block_count,
                                    reinterpret_cast<const core::WarpJob*>(base + g.jobs),
                                    reinterpret_cast<const int32_t*>(base + g.table_of_job),
                                    g.job_count,
                                    base + g.tables,
                                    g.weight_type < 0 ? nullptr : reinterpret_cast<const core::WarpWeights*>(base + plan.weights),
                                    device_pointer<uint32_t>(states),
                                    status};
    const SymbolType type = SymbolType(g.symbol_type);
    check_cuda(op, g.weight_type < 0 ? cuda::decode(launch, type, stream) : cuda::decode_dequantize(launch, type, FloatType(g.weight_type), stream));
  }
}

// ---- as a tensor: [number of streams, of groups, weights, copies, copy_count], streams, groups ----

namespace {
constexpr int64_t kPlanHead = 5;
static_assert(sizeof(PlannedStream) % 8 == 0 && sizeof(PlannedGroup) % 8 == 0, "a plan is kept as int64");
}  // namespace

Tensor DecodePlan::on_host() const {
  const int64_t head[kPlanHead] = {int64_t(streams.size()), int64_t(groups.size()), weights, copies, copy_count};
  const size_t stream_bytes = streams.size() * sizeof(PlannedStream), group_bytes = groups.size() * sizeof(PlannedGroup);
  const int64_t numbers = int64_t((sizeof head + stream_bytes + group_bytes) / 8);
  Tensor t = torch::stable::empty({numbers}, ScalarType::Long, std::nullopt, torch::stable::Device(torch::headeronly::DeviceType::CPU));
  uint8_t* p = static_cast<uint8_t*>(t.mutable_data_ptr());
  std::memcpy(p, head, sizeof head);
  if (stream_bytes > 0) std::memcpy(p + sizeof head, streams.data(), stream_bytes);
  if (group_bytes > 0) std::memcpy(p + sizeof head + stream_bytes, groups.data(), group_bytes);
  return t;
}

DecodePlan DecodePlan::from_host(const char* op, const Tensor& host, const Tensor& device) {
  const bool is_plan = host.is_cpu() && host.scalar_type() == ScalarType::Long && host.dim() == 1 && host.numel() >= kPlanHead && device.scalar_type() == ScalarType::Byte;
  ANS_CHECK_ARGUMENT(is_plan, op, "this is no plan");
  const uint8_t* p = static_cast<const uint8_t*>(host.const_data_ptr());
  int64_t head[kPlanHead];
  std::memcpy(head, p, sizeof head);
  ANS_CHECK_ARGUMENT(head[0] >= 0 && head[0] <= host.numel() && head[1] >= 0 && head[1] <= host.numel() &&
                         8 * host.numel() == int64_t(sizeof head + size_t(head[0]) * sizeof(PlannedStream) + size_t(head[1]) * sizeof(PlannedGroup)),
                     op, "this is no plan");
  DecodePlan plan;
  plan.streams.resize(size_t(head[0]));
  plan.groups.resize(size_t(head[1]));
  plan.weights = head[2], plan.copies = head[3], plan.copy_count = head[4];
  p += sizeof head;
  if (!plan.streams.empty()) std::memcpy(plan.streams.data(), p, plan.streams.size() * sizeof(PlannedStream));
  if (!plan.groups.empty()) std::memcpy(plan.groups.data(), p + plan.streams.size() * sizeof(PlannedStream), plan.groups.size() * sizeof(PlannedGroup));
  plan.device.emplace(device);
  return plan;
}

}  // namespace ans::ops
