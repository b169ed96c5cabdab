// Counting symbols: CUB for one array of bytes, a kernel that counts in shared memory for the rest: contexts, 16-bit symbols, many arrays.
#include "cuda/device.cuh"

#include <cub/device/device_histogram.cuh>

#include "cuda/launch.h"

namespace ans::cuda {
namespace {

constexpr int kSharedCounters = 8192;  // 32 KiB of 32-bit counters per block: several blocks fit on a multiprocessor
constexpr int64_t kSliceSymbols = 1 << 14;
constexpr int64_t kMaxBlocks = 2048;  // of an array: enough to fill the largest GPUs; fewer blocks flush fewer counters

// Each block counts into shared memory what falls into a window of its context's bins, and everything else directly into global memory. Quantized
// weights crowd around zero, so the window catches nearly all. Where there is room, warps have counters of their own.
struct CountSymbols {
  static constexpr int kThreads = 256, kBlocks = 4;
  struct Shared {
    uint32_t counts[kSharedCounters];
  };
  const HistogramJob* jobs;
  int count;
  uint32_t* status;

  // Bins [begin, begin + size) of every context.
  struct Window {
    int bins, lowest, begin, size, copies;
    ANS_INLINE explicit Window(const HistogramJob& job) : bins(job.bins), lowest(job.lowest), size(bins), copies(1) {
      while (size * job.num_contexts > kSharedCounters) size /= 2;
      begin = lowest < 0 ? bins / 2 - size / 2 : 0;  // around zero where there are negative values
      while (copies < kThreads / 32 && 2 * copies * size * job.num_contexts <= kSharedCounters) copies *= 2;
    }
  };

  template <class Symbol>
  ANS_INLINE void count_slices(const HistogramJob& job, const Window& window, uint32_t* own, int64_t first_slice, uint32_t* job_status) const {
    const Symbol* const symbols = static_cast<const Symbol*>(job.symbols);
    // Blocks take slices in turn. A block's counter would overflow at 2^32 symbols, which needs 2^43 in the array.
    for (int64_t begin = first_slice * kSliceSymbols; begin < job.numel; begin += job.blocks * kSliceSymbols) {
      const int64_t end = begin + kSliceSymbols < job.numel ? begin + kSliceSymbols : job.numel;
      for (int64_t i = begin + Block::thread(); i < end; i += kThreads) {
        const int context = job.contexts != nullptr ? job.contexts[i] : 0;
        if (context >= job.num_contexts) {
          set_if_zero(job_status, uint32_t(core::Status::kInvalidArgument));
          continue;
        }
        const int bin = int(symbols[i]) - window.lowest, position = bin - window.begin;
        if (position >= 0 && position < window.size) atomic_add(&own[context * window.size + position], 1u);
        else atomic_add(reinterpret_cast<Counter*>(job.counts) + int64_t(context) * window.bins + bin, Counter{1});
      }
    }
  }

  ANS_INLINE void operator()(Shared& shared) const {
    const int at = core::find_job(jobs, count, Block::number());
    const HistogramJob job = jobs[at];
    const Window window(job);
    const int counters = window.size * job.num_contexts;
    for (int i = Block::thread(); i < counters * window.copies; i += kThreads) shared.counts[i] = 0;
    Block::sync();
    uint32_t* const own = shared.counts + Block::warp() % window.copies * counters;
    const int64_t slice = Block::number() - job.first;
    switch (job.type) {
      case SymbolType::kI8: count_slices<int8_t>(job, window, own, slice, status + at); break;
      case SymbolType::kU8: count_slices<uint8_t>(job, window, own, slice, status + at); break;
      case SymbolType::kI16: count_slices<int16_t>(job, window, own, slice, status + at); break;
    }
    Block::sync();
    for (int i = Block::thread(); i < counters; i += kThreads) {
      uint32_t sum = 0;
      for (int copy = 0; copy < window.copies; ++copy) sum += shared.counts[copy * counters + i];
      const int64_t bin = int64_t(i / window.size) * window.bins + window.begin + i % window.size;
      if (sum != 0) atomic_add(reinterpret_cast<Counter*>(job.counts) + bin, Counter{sum});
    }
  }
};

}  // namespace

cudaError_t byte_histogram(void* scratch, size_t* scratch_bytes, const uint8_t* bytes, int64_t count, int64_t* counts, cudaStream_t stream) {
  constexpr int kBins = 256;
  return cub::DeviceHistogram::HistogramEven(scratch, *scratch_bytes, bytes, reinterpret_cast<Counter*>(counts), kBins + 1, 0, kBins, count, stream);
}

int64_t histogram_blocks(int64_t numel) {
  const int64_t slices = blocks_for(numel, kSliceSymbols);
  return slices < kMaxBlocks ? slices : kMaxBlocks;
}

cudaError_t histograms(const HistogramJob* jobs, int count, int64_t blocks, uint32_t* status, cudaStream_t stream) { return launch(CountSymbols{jobs, count, status}, blocks, stream); }

}  // namespace ans::cuda
