// Counting symbols: CUB for one histogram of bytes, a windowed shared-memory kernel for the rest.
#include <cub/device/device_histogram.cuh>

#include "cuda/launch.h"

namespace ans::cuda {
namespace {

// Counters are int64 to the caller; atomics and CUB want the unsigned type of the same size.
using Counter = unsigned long long;
static_assert(sizeof(Counter) == sizeof(int64_t), "counts are written in place");

constexpr int kThreads = 256;
constexpr int64_t kSharedCounters = 8192;  // 32 KiB of 32-bit counters per block: several blocks fit on an SM
constexpr int64_t kSliceSymbols = 1 << 14;
constexpr int64_t kMaxBlocks = 2048;  // enough to fill the largest GPUs; fewer blocks flush fewer counters

// Each block counts into shared memory what falls into the window [window_begin, window_begin + window) of its context's bins,
// and everything else directly into global memory. Quantized weights crowd around zero, so the window catches nearly all.
template <class Symbol>
__global__ void windowed_histogram(const Symbol* symbols, const uint8_t* contexts, int64_t numel, int num_contexts,
                                   int bins, int lowest, int window_begin, int window, Counter* counts, uint32_t* status) {
  extern __shared__ uint32_t shared_counts[];
  const int shared_size = num_contexts * window;
  for (int i = threadIdx.x; i < shared_size; i += kThreads) shared_counts[i] = 0;
  __syncthreads();

  // Blocks take slices in turn. A block's counter would overflow at 2^32 symbols, which needs 2^43 in the tensor.
  for (int64_t begin = blockIdx.x * kSliceSymbols; begin < numel; begin += gridDim.x * kSliceSymbols) {
    const int64_t end = begin + kSliceSymbols < numel ? begin + kSliceSymbols : numel;
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
      const int context = contexts != nullptr ? contexts[i] : 0;
      if (context >= num_contexts) {
        atomicOr(status, kStatusContextOutOfRange);
        continue;
      }
      const int bin = static_cast<int>(symbols[i]) - lowest;
      const int position = bin - window_begin;
      if (position >= 0 && position < window) {
        atomicAdd(&shared_counts[context * window + position], 1u);
      } else {
        atomicAdd(&counts[static_cast<int64_t>(context) * bins + bin], Counter{1});
      }
    }
  }
  __syncthreads();

  for (int i = threadIdx.x; i < shared_size; i += kThreads) {
    const uint32_t count = shared_counts[i];
    const int64_t bin = static_cast<int64_t>(i / window) * bins + window_begin + i % window;
    if (count != 0) atomicAdd(&counts[bin], Counter{count});
  }
}

template <class Symbol>
cudaError_t launch_windowed(const void* symbols, SymbolType type, const uint8_t* contexts, int64_t numel,
                            int64_t num_contexts, int64_t* counts, uint32_t* status, cudaStream_t stream) {
  if (num_contexts < 1 || num_contexts > 256) return cudaErrorInvalidValue;  // contexts are bytes
  const int bins = format::symbol_values(type);
  const int lowest = format::symbol_min(type);
  const cudaError_t cleared = cudaMemsetAsync(counts, 0, static_cast<size_t>(num_contexts * bins) * sizeof(int64_t), stream);
  if (cleared != cudaSuccess || numel == 0) return cleared;
  int window = bins;
  while (window * num_contexts > kSharedCounters) window /= 2;
  const int window_begin = lowest < 0 ? bins / 2 - window / 2 : 0;  // around zero where there are negative values
  const int64_t slices = (numel - 1) / kSliceSymbols + 1;
  const auto blocks = static_cast<unsigned>(slices < kMaxBlocks ? slices : kMaxBlocks);
  const auto shared_bytes = static_cast<size_t>(window * num_contexts) * sizeof(uint32_t);
  windowed_histogram<<<blocks, kThreads, shared_bytes, stream>>>(
      static_cast<const Symbol*>(symbols), contexts, numel, static_cast<int>(num_contexts), bins, lowest,
      window_begin, window, reinterpret_cast<Counter*>(counts), status);
  return cudaGetLastError();
}

template <class Symbol>
cudaError_t cub_histogram(void* scratch, size_t* scratch_bytes, const void* symbols, int lowest, int64_t numel,
                          int64_t* counts, cudaStream_t stream) {
  constexpr int kBins = 256;
  return cub::DeviceHistogram::HistogramEven(scratch, *scratch_bytes, static_cast<const Symbol*>(symbols),
                                             reinterpret_cast<Counter*>(counts), kBins + 1, lowest, lowest + kBins, numel,
                                             stream);
}

}  // namespace

cudaError_t histogram(void* scratch, size_t* scratch_bytes, const void* symbols, SymbolType type, int64_t numel,
                      int64_t* counts, cudaStream_t stream) {
  switch (type) {
    case SymbolType::kI8:
      return cub_histogram<int8_t>(scratch, scratch_bytes, symbols, -128, numel, counts, stream);
    case SymbolType::kU8:
      return cub_histogram<uint8_t>(scratch, scratch_bytes, symbols, 0, numel, counts, stream);
    case SymbolType::kI16:
      // CUB would keep 65536 counters per block in global memory: hundreds of megabytes of scratch.
      if (scratch == nullptr) {
        *scratch_bytes = 1;
        return cudaSuccess;
      }
      return launch_windowed<int16_t>(symbols, type, nullptr, numel, 1, counts, nullptr, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t histogram_by_context(const void* symbols, SymbolType type, const uint8_t* contexts, int64_t numel,
                                 int64_t num_contexts, int64_t* counts, uint32_t* status, cudaStream_t stream) {
  switch (type) {
    case SymbolType::kI8:
      return launch_windowed<int8_t>(symbols, type, contexts, numel, num_contexts, counts, status, stream);
    case SymbolType::kU8:
      return launch_windowed<uint8_t>(symbols, type, contexts, numel, num_contexts, counts, status, stream);
    case SymbolType::kI16:
      return launch_windowed<int16_t>(symbols, type, contexts, numel, num_contexts, counts, status, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace ans::cuda
