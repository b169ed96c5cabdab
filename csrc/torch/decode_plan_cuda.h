// Decoding on a GPU in two steps: a plan, made on the host from the headers of all streams, and its run: a constant number of launches, without a wait. So a run can be captured
// in a CUDA graph, and a plan used many times.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "torch/cuda_support.h"
#include "torch/stream_parts.h"

namespace ans::ops {

// A stream in device memory, taken apart.
struct DeviceStream {
  std::string which;  // begins the text of an error
  Tensor bytes;
  int64_t numel;
  format::SymbolType type;
  std::optional<StreamParts> parts;
  int32_t constant = 0;  // of a constant stream: its symbol's bytes

  const uint8_t* data() const { return static_cast<const uint8_t*>(bytes.const_data_ptr()); }
};

// Where the weights of a stream go; `type` tells their dtype.
struct DeviceWeights {
  core::WarpWeights to;
  core::FloatType type;
  int64_t rows;
};

// What has to be done, as numbers: it lives on in a tensor. Everything is 8 bytes, so that the host can keep it as int64.
struct PlannedStream {
  int64_t model, symbol_type, constant, numel;
  const uint8_t* stream;
  int64_t stream_bytes;
  void* out;                   // symbols, or weights
  int64_t weight_type;         // -1: symbols
  int64_t rows, columns;       // of weights
  const core::Float16* scale;
  const int32_t* exponent;
};
struct PlannedGroup {  // what one launch decodes; places in the plan's part on the device
  int64_t symbol_type, weight_type, blocks, block_count, jobs, table_of_job, job_count, tables;
};
struct DecodePlan {
  std::vector<PlannedStream> streams;
  std::vector<PlannedGroup> groups;
  int64_t weights = 0;  // place of core::WarpWeights of every stream
  int64_t copies = 0, copy_count = 0;
  std::optional<Tensor> device;

  Tensor on_host() const;
  static DecodePlan from_host(const char* op, const Tensor& host, const Tensor& device);
};

// outs: where the symbols of each stream go, or empty, and then there are weights; `like`: where. Streams of matrices are left out.
DecodePlan plan_decoding(const char* op, const std::vector<DeviceStream>& streams, const std::vector<uint8_t*>& outs, const std::vector<DeviceWeights>& weights, const Tensor& like,
                         cudaStream_t stream);

// Queues everything. status: a zeroed word for every stream.
void run_plan(const char* op, const DecodePlan& plan, uint32_t* status, cudaStream_t stream);

}  // namespace ans::ops
