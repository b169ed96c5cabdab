// What the threads of a warp do together, for csrc/core's templates (vector_warp.h says what is expected), and the names that those are compiled under.
#pragma once
#include <cstdint>

#define ANS_TARGET target_cuda
#define ANS_INLINE __device__ __forceinline__
#define ANS_NOINLINE __device__ __noinline__
#define ANS_UNROLL _Pragma("unroll")

namespace ans::cuda {

struct DeviceWarp {
  static constexpr uint32_t kAll = 0xffffffffu;
  __device__ __forceinline__ static unsigned lane() { return threadIdx.x % 32; }
  __device__ __forceinline__ static uint32_t ballot(bool flag) { return __ballot_sync(kAll, flag); }
  __device__ __forceinline__ static uint32_t shuffle(uint32_t v, unsigned source) { return __shfl_sync(kAll, v, int(source)); }
  __device__ __forceinline__ static void sync() { __syncwarp(); }
};

}  // namespace ans::cuda
