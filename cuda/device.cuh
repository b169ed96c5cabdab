// What kernels are written with: the threads of a warp and of a block, atomics, a launch. A kernel is a struct of its arguments,
//   struct Name { static constexpr int kThreads, kBlocks; struct Shared {…}; ANS_INLINE void operator()(Shared& shared) const; };
// (kBlocks of kThreads shall fit on a multiprocessor together) and knows nothing of CUDA beside what stands here. So tests/emulated_gpu, which has a file of this name too, runs the very sources of this folder on the host.
#pragma once
#include <cuda_runtime.h>

#include <climits>
#include <cstdint>

#define ANS_TARGET target_cuda
#define ANS_INLINE __device__ __forceinline__
#define ANS_NOINLINE __device__ __noinline__
#define ANS_UNROLL _Pragma("unroll")

namespace ans::cuda {

// What the threads of a warp do together, for csrc/core's templates (vector_warp.h says what is expected).
struct Warp {
  static constexpr uint32_t kAll = 0xffffffffu;
  ANS_INLINE static unsigned lane() { return threadIdx.x % 32; }
  ANS_INLINE static uint32_t ballot(bool flag) { return __ballot_sync(kAll, flag); }
  ANS_INLINE static uint32_t shuffle(uint32_t v, unsigned source) { return __shfl_sync(kAll, v, int(source)); }
  ANS_INLINE static void sync() { __syncwarp(); }
  ANS_INLINE static uint32_t opaque(uint32_t v) {
    asm volatile("" : "+r"(v));
    return v;
  }
  ANS_INLINE static void set_bits(uint32_t* p, uint32_t bits) { atomicOr(p, bits); }
};

struct Block {
  ANS_INLINE static int thread() { return int(threadIdx.x); }
  ANS_INLINE static int64_t number() { return int64_t(blockIdx.x); }
  // Number of the thread's warp. By a shuffle, for then the compiler knows that it is the same in all lanes, and all that depends on it; otherwise it would look
  // before every ballot whether they are together.
  ANS_INLINE static int warp() { return __shfl_sync(0xffffffffu, int(threadIdx.x / 32), 0); }
  ANS_INLINE static void sync() { __syncthreads(); }
};

using Counter = unsigned long long;  // atomics know no int64_t
static_assert(sizeof(Counter) == sizeof(int64_t), "counts are written in place");

ANS_INLINE void atomic_add(uint32_t* p, uint32_t v) { atomicAdd(p, v); }
ANS_INLINE void atomic_add(Counter* p, Counter v) { atomicAdd(p, v); }
ANS_INLINE void atomic_max(uint32_t* p, uint32_t v) { atomicMax(p, v); }
ANS_INLINE void set_if_zero(uint32_t* p, uint32_t v) { atomicCAS(p, 0u, v); }

template <class K>
__global__ void __launch_bounds__(K::kThreads, K::kBlocks) run(const K kernel) {
  __shared__ typename K::Shared shared;
  kernel(shared);
}

// Queues `blocks` blocks of a kernel; none is legal.
template <class K>
cudaError_t launch(const K& kernel, int64_t blocks, cudaStream_t stream) {
  if (blocks == 0) return cudaSuccess;
  if (blocks < 0 || blocks > INT_MAX) return cudaErrorInvalidConfiguration;
  run<<<static_cast<unsigned>(blocks), K::kThreads, 0, stream>>>(kernel);
  return cudaGetLastError();
}

// Blocks of `per_block` that cover `work` items.
constexpr int64_t blocks_for(int64_t work, int64_t per_block) { return work / per_block + (work % per_block != 0); }

}  // namespace ans::cuda
