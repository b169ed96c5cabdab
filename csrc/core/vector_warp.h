// 32 unsigned 32-bit numbers, one in a register of every thread of a warp; for Lanes32. `W` is what the threads do together: the GPU's instructions
// (cuda/device.cuh), or 32 emulated threads on the host, which the tests run (tests/emulated_gpu/emulated_block.h):
//   unsigned lane()             0 … 31
//   uint32_t ballot(bool)       bit i: lane i's flag
//   uint32_t shuffle(v, i)      lane i's v
//   void sync()                 what lanes wrote before, others see after
//   uint32_t opaque(v)          v, of which the compiler does not know where it comes from: so it keeps it
//   void set_bits(p, v)         *p |= v, whoever else does so at the same time
// All lanes must call these (but the last two) together: branch on nothing that is not the same in all lanes.
#pragma once
#include <cstdint>
#include <cstring>

namespace ans::core {
namespace ANS_TARGET {

ANS_INLINE uint32_t count_bits(uint32_t v) {
#if defined(__CUDA_ARCH__)
  return uint32_t(__popc(int(v)));
#else
  return uint32_t(__builtin_popcount(v));
#endif
}

// shuffle() of 64 bits.
template <class W>
ANS_INLINE uint64_t shuffle_wide(uint64_t v, unsigned source) {
  const uint64_t low = W::shuffle(uint32_t(v), source), high = W::shuffle(uint32_t(v >> 32), source);
  return high << 32 | low;
}

template <class W>
struct VectorWarp {
  static constexpr int kDecodeStreams = 1, kEncodeStreams = 1;
  using U32 = uint32_t;
  using Mask = bool;

  ANS_INLINE static uint32_t lanes_below() { return (1u << W::lane()) - 1; }

  ANS_INLINE static U32 load(const uint32_t* p) { return p[W::lane()]; }
  ANS_INLINE static void store(uint32_t* p, U32 v) { p[W::lane()] = v; }
  ANS_INLINE static U32 load_u8(const uint8_t* p) { return p[W::lane()]; }
  template <class Out>
  ANS_INLINE static void store_low(Out* p, U32 v) { p[W::lane()] = Out(v); }
  ANS_INLINE static U32 set1(uint32_t v) { return v; }
  ANS_INLINE static U32 and_(U32 a, U32 b) { return a & b; }
  ANS_INLINE static U32 or_(U32 a, U32 b) { return a | b; }
  ANS_INLINE static U32 xor_(U32 a, U32 b) { return a ^ b; }
  ANS_INLINE static U32 add(U32 a, U32 b) { return a + b; }
  ANS_INLINE static U32 sub(U32 a, U32 b) { return a - b; }
  ANS_INLINE static U32 mul(U32 a, U32 b) { return a * b; }
  ANS_INLINE static U32 mulhi(U32 a, U32 b) { return uint32_t(uint64_t(a) * b >> 32); }
  template <int n>
  ANS_INLINE static U32 shr(U32 a) { return a >> n; }
  template <int n>
  ANS_INLINE static U32 shl(U32 a) { return a << n; }
  ANS_INLINE static U32 shr_var(U32 a, U32 n) { return a >> n; }
  ANS_INLINE static U32 gather(const uint32_t* t, U32 i) { return t[i]; }
  ANS_INLINE static U32 gather16(const uint16_t* t, U32 i) { return t[i]; }
  ANS_INLINE static Mask ge(U32 a, U32 b) { return a >= b; }
  ANS_INLINE static Mask both(Mask a, Mask b) { return a && b; }
  ANS_INLINE static Mask first(int n) { return int(W::lane()) < n; }
  ANS_INLINE static U32 select(Mask m, U32 a, U32 b) { return m ? a : b; }

  // For the matrix models: numbers are signed where a name says so.
  static constexpr int kDotColumns = 8;
  ANS_INLINE static U32 load_i8(const uint8_t* p) { return uint32_t(int32_t(int8_t(p[W::lane()]))); }
  ANS_INLINE static U32 gather8(const uint8_t* t, U32 i) { return t[i]; }
  ANS_INLINE static U32 shr_by(U32 a, int n) { return a >> n; }
  ANS_INLINE static U32 shl_by(U32 a, int n) { return a << n; }
  ANS_INLINE static U32 sar_by(U32 a, int n) { return uint32_t(int32_t(a) >> n); }
  ANS_INLINE static U32 min_signed(U32 a, U32 b) { return int32_t(a) < int32_t(b) ? a : b; }
  ANS_INLINE static U32 max_signed(U32 a, U32 b) { return int32_t(a) > int32_t(b) ? a : b; }
  ANS_INLINE static U32 float_bits(U32 a) {
    const float f = float(int32_t(a));
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
  }
  // As few loads as its alignment allows.
  template <class T>
  ANS_INLINE static T fetch(const T& t) { return t; }
  // of[i], by selecting: what is indexed would not stay in registers.
  template <int n>
  ANS_INLINE static U32 pick(const U32 (&of)[n], int i) {
    U32 v = of[0];
    ANS_UNROLL
    for (int k = 1; k < n; ++k) v = i == k ? of[k] : v;
    return v;
  }
  // Of b's two numbers only the low 8 bits count, which is all that coefficients have.
  ANS_INLINE static U32 dot_pairs(U32 sum, U32 a, uint32_t b) {
#if defined(__CUDA_ARCH__)
    return uint32_t(__dp2a_lo(int(a), int(__byte_perm(b, 0, 0x4420)), int(sum)));
#else
    return sum + uint32_t(int16_t(a) * int8_t(b)) + uint32_t((int32_t(a) >> 16) * int8_t(b >> 16));
#endif
  }
  // Numbers as float32, each operation rounded.
  ANS_INLINE static float as_float(U32 v) {
    float f;
    memcpy(&f, &v, sizeof f);
    return f;
  }
  ANS_INLINE static U32 as_bits(float f) {
    U32 v;
    memcpy(&v, &f, sizeof v);
    return v;
  }
#if defined(__CUDA_ARCH__)
  ANS_INLINE static U32 fadd(U32 a, U32 b) { return as_bits(__fadd_rn(as_float(a), as_float(b))); }
  ANS_INLINE static U32 fsub(U32 a, U32 b) { return as_bits(__fsub_rn(as_float(a), as_float(b))); }
  ANS_INLINE static U32 fmul(U32 a, U32 b) { return as_bits(__fmul_rn(as_float(a), as_float(b))); }
  ANS_INLINE static U32 floor_of(U32 a) { return uint32_t(__float2int_rd(as_float(a))); }
#else
  ANS_INLINE static U32 fadd(U32 a, U32 b) { return as_bits(as_float(a) + as_float(b)); }
  ANS_INLINE static U32 fsub(U32 a, U32 b) { return as_bits(as_float(a) - as_float(b)); }
  ANS_INLINE static U32 fmul(U32 a, U32 b) { return as_bits(as_float(a) * as_float(b)); }
  ANS_INLINE static U32 floor_of(U32 a) {
    const int32_t whole = int32_t(as_float(a));
    return uint32_t(whole - (float(whole) > as_float(a)));
  }
#endif
  ANS_INLINE static Mask fless(U32 a, U32 b) { return as_float(a) < as_float(b); }
  ANS_INLINE static uint32_t bits(Mask m) { return W::ballot(m); }

  // Words as WarpWords gives them. All lanes read one, whether they take it or not: that is cheaper than a branch.
  template <class Words>
  ANS_INLINE static void refill(U32& x, Words& words) {
    const bool low = x < 65536;
    const uint32_t all = W::ballot(low);
    const uint32_t refilled = x << 16 | words.of_lane(all);
    x = low ? refilled : x;
    words.advance(count_bits(all));
  }
  // `words` is 2-byte aligned.
  ANS_INLINE static void spill(U32& x, Mask full, uint8_t*& words) {
    const uint32_t all = W::ballot(full);
    words -= 2 * count_bits(all);
    if (!full) return;
    reinterpret_cast<uint16_t*>(words)[count_bits(all & lanes_below())] = uint16_t(x);
    x >>= 16;
  }
  // Words as WarpSpill takes them.
  template <class Words>
  ANS_INLINE static void spill(U32& x, Mask full, Words& words) {
    const uint32_t all = W::ballot(full);
    words.put(full, all, x);
    x = full ? x >> 16 : x;
  }
};

}  // namespace ANS_TARGET
}  // namespace ans::core
