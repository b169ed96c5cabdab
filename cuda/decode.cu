// Decoding: a warp for the rows of a chunk, then a thread for its tail.
#include "cuda/device.cuh"
#include "cuda/launch.h"
#include "cuda/report.cuh"

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
namespace warp = core::ANS_TARGET;

ANS_INLINE const DecodeTable& table_at(const uint8_t* tables, int t) { return *reinterpret_cast<const DecodeTable*>(tables + t * core::kWarpTableBytes); }

// Where a job's symbols go: number i of them, of the value `symbol`.
template <class Out>
struct SymbolSink {
  Out* out;
  ANS_INLINE SymbolSink(const WarpJob& job, const WarpWeights*) : out(static_cast<Out*>(job.out)) {}
  ANS_INLINE void operator()(int i, int32_t symbol) { out[i] = static_cast<Out>(symbol); }
};

// As weights. A lane's symbols come in ascending order, so that its row of the matrix moves on without a division for each.
template <class T>
struct WeightSink {
  const WarpWeights to;
  const int32_t exponent;
  const int64_t element;  // of the matrix: the chunk's first
  T* out;
  int row_end = 0;  // symbols of the chunk up to which the scale is this one
  float scale = 0;
  ANS_INLINE WeightSink(const WarpJob& job, const WarpWeights* weights)
      : to(weights[job.stream]), exponent(*to.exponent), element(job.element), out(static_cast<T*>(to.weight) + element) {}
  ANS_INLINE void operator()(int i, int32_t symbol) {
    if (i >= row_end) {
      const int64_t row = (element + i) / to.columns, end = (row + 1) * to.columns - element;
      row_end = end < format::kMaxChunkSymbols ? int(end) : int(format::kMaxChunkSymbols);
      scale = core::unpack_scale(to.scale[row], exponent);
    }
    out[i] = core::from_float<T>(core::dequantize_symbol(symbol, scale));
  }
};

// The rows of every wide chunk: a warp each.
template <class Sink>
struct DecodeRows {
  static constexpr int kThreads = 32 * kDecodeWarps, kBlocks = 8;
  struct Shared {
    uint32_t slots[format::kSlots];
    uint32_t rings[kDecodeWarps][warp::WarpWords<Warp>::kRingWords / 2];
  };
  DecodeLaunch d;

  ANS_INLINE void operator()(Shared& shared) const {
    const WarpBlock block = d.blocks[Block::number()];
    const DecodeTable& table = table_at(d.tables, block.table);
    for (uint32_t s = uint32_t(Block::thread()); s < uint32_t(format::kSlots); s += kThreads) shared.slots[s] = core::slot_entry(table, s);
    Block::sync();
    const int w = Block::warp();
    if (w >= block.jobs) return;
    const int number = block.first_job + w;
    const WarpJob job = d.jobs[number];
    if (job.tail == job.symbols) return;  // a narrow chunk has no rows
    Sink sink(job, d.weights);
    const warp::WarpTable in{shared.slots, table.first_value, table.escape_index, table.raw_bits, table.first_value + table.raw_offset};
    const core::Status s = warp::decode_chunk_rows<Warp, true>(in, {job.begin, job.end, job.symbols - job.tail}, reinterpret_cast<uint16_t*>(shared.rings[w]),
                                                               d.states + int64_t{32} * number, sink);
    if (Warp::lane() == 0) report(d.status, job.stream, s);
  }
};

template <int kBuckets, class Sink>
ANS_INLINE core::Status tail_of(const DecodeTable& table, const WarpJob& job, const uint32_t* state, Sink& sink, bool is_signed) {
  const int first = int(job.symbols - job.tail);
  auto put = [&](int i, uint32_t symbol) {  // mod 2^16
    const int32_t value = table.symbol_bytes == 2 ? int32_t(int16_t(symbol)) : is_signed ? int32_t(int8_t(symbol)) : int32_t(uint8_t(symbol));
    sink(first + i, value);
  };
  if (first == 0) return core::decode_tail<kBuckets>(table, core::WordPieces{job.begin, int((job.end - job.begin) / 2)}, job.tail, put);
  return core::decode_tail<kBuckets>(table, core::StatePieces{state}, job.tail, put);
}

// The tail of every chunk: a thread each.
template <class Sink>
struct DecodeTails {
  static constexpr int kThreads = 64, kBlocks = 16;  // few: a tail is long, and so many multiprocessors share the work
  struct Shared {};
  DecodeLaunch d;
  bool is_signed;

  ANS_INLINE void operator()(Shared&) const {
    const int64_t number = Block::number() * kThreads + Block::thread();
    if (number >= d.job_count) return;
    const WarpJob job = d.jobs[number];
    if (d.status[job.stream] != 0) return;  // its states may be none
    const DecodeTable& table = table_at(d.tables, d.table_of_job[number]);
    Sink sink(job, d.weights);
    const uint32_t* state = d.states + 32 * number;
    const core::Status s = table.buckets == 64    ? tail_of<64>(table, job, state, sink, is_signed)
                           : table.buckets == 128 ? tail_of<128>(table, job, state, sink, is_signed)
                                                  : tail_of<256>(table, job, state, sink, is_signed);
    report(d.status, job.stream, s);
  }
};

template <class Sink>
cudaError_t launch_both(const DecodeLaunch& d, bool is_signed, cudaStream_t stream) {
  if (const cudaError_t e = launch(DecodeRows<Sink>{d}, d.block_count, stream); e != cudaSuccess) return e;
  using Tails = DecodeTails<Sink>;
  return launch(Tails{d, is_signed}, blocks_for(d.job_count, Tails::kThreads), stream);
}

}  // namespace

cudaError_t decode(const DecodeLaunch& d, SymbolType type, cudaStream_t stream) {
  if (type == SymbolType::kI16) return launch_both<SymbolSink<uint16_t>>(d, true, stream);
  return launch_both<SymbolSink<uint8_t>>(d, type == SymbolType::kI8, stream);
}

cudaError_t decode_dequantize(const DecodeLaunch& d, SymbolType type, FloatType weight_type, cudaStream_t stream) {
  const bool is_signed = type != SymbolType::kU8;
  switch (weight_type) {
    case FloatType::kFloat32: return launch_both<WeightSink<float>>(d, is_signed, stream);
    case FloatType::kBFloat16: return launch_both<WeightSink<BFloat16>>(d, is_signed, stream);
    case FloatType::kFloat16: return launch_both<WeightSink<Float16>>(d, is_signed, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace ans::cuda
