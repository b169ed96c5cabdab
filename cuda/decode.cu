// Decoding: a warp for the rows of a chunk, then a thread for its tail.
#include "cuda/device_warp.cuh"
#include "cuda/launch.h"

#include "core/quantize_arithmetic.h"
#include "core/tail_decoder.h"
#include "core/warp_decoder.h"

namespace ans::cuda {
namespace {

using core::BFloat16;
using core::DecodeTable;
using core::WarpBlock;
using core::WarpJob;
using core::WarpWeights;
namespace warp = core::target_cuda;

constexpr int kThreads = 32 * kDecodeWarps;
constexpr int kTailThreads = 64;  // few: a tail is long, and so many multiprocessors share the work

__device__ const DecodeTable& table_at(const uint8_t* tables, int t) { return *reinterpret_cast<const DecodeTable*>(tables + t * core::kWarpTableBytes); }

// The first error of a stream stays.
__device__ void report(uint32_t* status, int stream, core::Status s) {
  if (s != core::Status::kOk) atomicCAS(&status[stream], 0u, static_cast<uint32_t>(s));
}

// Where a job's symbols go: number i of them, of the value `symbol`.
template <class Out>
struct SymbolSink {
  Out* out;
  __device__ SymbolSink(const WarpJob& job, const WarpWeights*) : out(static_cast<Out*>(job.out)) {}
  __device__ void operator()(int64_t i, int32_t symbol) { out[i] = static_cast<Out>(symbol); }
};

// As weights. A lane's symbols come in ascending order, so that its row moves on without a division.
template <class T>
struct WeightSink {
  const WarpWeights to;
  const int32_t exponent;
  const int64_t element;
  int64_t row, row_end;
  float scale;
  __device__ WeightSink(const WarpJob& job, const WarpWeights* weights) : to(weights[job.stream]), exponent(*to.exponent), element(job.element) {
    row = element / to.columns;
    row_end = (row + 1) * to.columns;
    scale = core::unpack_scale(to.scale[row], exponent);
  }
  __device__ void operator()(int64_t i, int32_t symbol) {
    const int64_t at = element + i;
    if (at >= row_end) {
      row = at / to.columns;
      row_end = (row + 1) * to.columns;
      scale = core::unpack_scale(to.scale[row], exponent);
    }
    static_cast<T*>(to.weight)[at] = core::from_float<T>(core::dequantize_symbol(symbol, scale));
  }
};

template <class Sink>
__global__ void __launch_bounds__(kThreads) rows_kernel(const WarpBlock* blocks, const WarpJob* jobs, const uint8_t* tables, const WarpWeights* weights, uint32_t* states,
                                                        uint32_t* status) {
  __shared__ uint32_t slots[format::kSlots];
  __shared__ uint32_t rings[kDecodeWarps][warp::WarpWords<DeviceWarp>::kRingWords / 2];
  const WarpBlock block = blocks[blockIdx.x];
  const DecodeTable& table = table_at(tables, block.table);
  for (uint32_t s = threadIdx.x; s < format::kSlots; s += kThreads) slots[s] = core::slot_entry(table, s);
  __syncthreads();
  const int w = threadIdx.x / 32;
  if (w >= block.jobs) return;
  const int number = block.first_job + w;
  const WarpJob job = jobs[number];
  if (job.tail == job.symbols) return;  // a narrow chunk has no rows
  Sink sink(job, weights);
  const warp::WarpTable in{slots, table.first_value, table.escape_index, table.raw_bits, table.first_value + table.raw_offset};
  const core::Status s = warp::decode_chunk_rows<DeviceWarp, true>(in, {job.begin, job.end, job.symbols - job.tail}, reinterpret_cast<uint16_t*>(rings[w]),
                                                                   states + int64_t{32} * number, sink);
  if (DeviceWarp::lane() == 0) report(status, job.stream, s);
}

template <int kBuckets, class Sink>
__device__ core::Status tail_of(const DecodeTable& table, const WarpJob& job, const uint32_t* state, Sink& sink, bool is_signed) {
  const int64_t first = job.symbols - job.tail;
  auto put = [&](int i, uint32_t symbol) {  // mod 2^16
    const int32_t value = table.symbol_bytes == 2 ? int32_t(int16_t(symbol)) : is_signed ? int32_t(int8_t(symbol)) : int32_t(uint8_t(symbol));
    sink(first + i, value);
  };
  if (first == 0) return core::decode_tail<kBuckets>(table, core::WordPieces{job.begin, int((job.end - job.begin) / 2)}, job.tail, put);
  return core::decode_tail<kBuckets>(table, core::StatePieces{state}, job.tail, put);
}

template <class Sink>
__global__ void __launch_bounds__(kTailThreads) tails_kernel(const int32_t* table_of_job, const WarpJob* jobs, int64_t job_count, const uint8_t* tables, const WarpWeights* weights,
                                                             bool is_signed, const uint32_t* states, uint32_t* status) {
  const int64_t number = int64_t{blockIdx.x} * kTailThreads + threadIdx.x;
  if (number >= job_count) return;
  const WarpJob job = jobs[number];
  if (status[job.stream] != 0) return;  // its states may be none
  const DecodeTable& table = table_at(tables, table_of_job[number]);
  Sink sink(job, weights);
  const uint32_t* state = states + 32 * number;
  const core::Status s = table.buckets == 64    ? tail_of<64>(table, job, state, sink, is_signed)
                         : table.buckets == 128 ? tail_of<128>(table, job, state, sink, is_signed)
                                                : tail_of<256>(table, job, state, sink, is_signed);
  report(status, job.stream, s);
}

template <class Sink>
cudaError_t launch(const DecodeLaunch& d, bool is_signed, cudaStream_t stream) {
  if (d.job_count == 0) return cudaSuccess;
  rows_kernel<Sink><<<static_cast<unsigned>(d.block_count), kThreads, 0, stream>>>(d.blocks, d.jobs, d.tables, d.weights, d.states, d.status);
  if (const cudaError_t e = cudaGetLastError(); e != cudaSuccess) return e;
  const int64_t grid = (d.job_count - 1) / kTailThreads + 1;
  tails_kernel<Sink><<<static_cast<unsigned>(grid), kTailThreads, 0, stream>>>(d.table_of_job, d.jobs, d.job_count, d.tables, d.weights, is_signed, d.states, d.status);
  return cudaGetLastError();
}

}  // namespace

cudaError_t decode(const DecodeLaunch& d, SymbolType type, cudaStream_t stream) {
  if (type == SymbolType::kI16) return launch<SymbolSink<uint16_t>>(d, true, stream);
  return launch<SymbolSink<uint8_t>>(d, type == SymbolType::kI8, stream);
}

cudaError_t decode_dequantize(const DecodeLaunch& d, SymbolType type, FloatType weight_type, cudaStream_t stream) {
  const bool is_signed = type != SymbolType::kU8;
  switch (weight_type) {
    case FloatType::kFloat32: return launch<WeightSink<float>>(d, is_signed, stream);
    case FloatType::kBFloat16: return launch<WeightSink<BFloat16>>(d, is_signed, stream);
    case FloatType::kFloat16: return launch<WeightSink<Float16>>(d, is_signed, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace ans::cuda
