// ANS_HD marks a function that the host compiler and nvcc both compile: the arithmetic is written once and runs on both.
//
// On the host it is always inlined, for a reason: the instruction-set translation units include these headers inside a
// `#pragma GCC target` region. An ordinary inline function would be emitted by several of them under one name, the linker
// would keep any one, and the scalar backend could end up running AVX-512 code.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define ANS_HD __host__ __device__ __forceinline__
#else
#define ANS_HD inline __attribute__((always_inline))
#endif

#if defined(__FAST_MATH__)
#error "torch_ans promises the same bits on every device; do not compile it with -ffast-math"
#endif

namespace ans::core {

ANS_HD int leading_zero_bits(uint32_t v) {  // v > 0
#if defined(__CUDA_ARCH__)
  return __clz(int(v));
#else
  return __builtin_clz(v);
#endif
}

ANS_HD int leading_zero_bits(uint64_t v) {  // v > 0
#if defined(__CUDA_ARCH__)
  return __clzll(static_cast<long long>(v));
#else
  return __builtin_clzll(v);
#endif
}

}  // namespace ans::core
