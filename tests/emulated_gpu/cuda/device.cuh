// cuda/device.cuh for the emulated GPU: the same names, on the host. A launch runs at once.
#pragma once
#include <cuda_runtime.h>

#include <climits>
#include <cstdint>
#include <cstring>
#include <exception>

#include "emulated_block.h"

#define ANS_TARGET target_emulated_gpu
#define ANS_INLINE inline __attribute__((always_inline))
#define ANS_NOINLINE __attribute__((noinline))
#define ANS_UNROLL _Pragma("GCC unroll 8")
#define __device__
#define __constant__

namespace ans::cuda {

using Warp = ans::testing::EmulatedWarp;

struct Block {
  static int thread() { return ans::testing::EmulatedBlock::thread(); }
  static int64_t number() { return ans::testing::EmulatedBlock::number(); }
  static int warp() { return thread() / 32; }
  static void sync() { ans::testing::EmulatedBlock::sync(); }
};

using Counter = unsigned long long;

// Threads of the emulation never run at the same time.
inline void atomic_add(uint32_t* p, uint32_t v) { *p += v; }
inline void atomic_add(Counter* p, Counter v) { *p += v; }
inline void atomic_max(uint32_t* p, uint32_t v) { *p = *p > v ? *p : v; }
inline void set_if_zero(uint32_t* p, uint32_t v) { *p = *p == 0 ? v : *p; }

template <class K>
cudaError_t launch(const K& kernel, int64_t blocks, cudaStream_t) {
  if (blocks < 0 || blocks > INT_MAX) return cudaErrorInvalidConfiguration;
  const auto shared = std::make_unique<typename K::Shared>();
  for (int64_t block = 0; block < blocks; ++block) {
    std::memset(static_cast<void*>(shared.get()), 0xA5, sizeof *shared);  // shared memory begins with anything
    try {
      ans::testing::EmulatedBlock::run(K::kThreads, block, [&] { kernel(*shared); }, unsigned(block) + 1);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "emulated GPU: %s\n", e.what());
      return cudaErrorLaunchFailure;
    }
  }
  return cudaSuccess;
}

constexpr int64_t blocks_for(int64_t work, int64_t per_block) { return work / per_block + (work % per_block != 0); }

}  // namespace ans::cuda
