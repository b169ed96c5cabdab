// 32 unsigned 32-bit numbers as a plain array: the definition of what the other backends compute.
#pragma once
#include <cstdint>
#include <cstring>

namespace ans::core {
namespace ANS_TARGET {

struct VectorPlain {
  static constexpr int kDecodeStreams = 2, kEncodeStreams = 2;
  struct U32 {
    uint32_t lane[32];
  };
  using Mask = uint32_t;  // bit i: lane i

  template <class F>
  ANS_INLINE static U32 make(F f) {
    U32 r;
    for (int i = 0; i < 32; ++i) r.lane[i] = f(i);
    return r;
  }
  template <class F>
  ANS_INLINE static Mask test(F f) {
    Mask m = 0;
    for (int i = 0; i < 32; ++i) m |= uint32_t(f(i)) << i;
    return m;
  }
  ANS_INLINE static U32 load(const uint32_t* p) { return make([&](int i) { return p[i]; }); }
  ANS_INLINE static void store(uint32_t* p, const U32& a) { std::memcpy(p, a.lane, sizeof a.lane); }
  ANS_INLINE static U32 load_u8(const uint8_t* p) { return make([&](int i) { return uint32_t(p[i]); }); }
  template <class Out>
  ANS_INLINE static uint32_t equal_mask(const Out* p, Out v) { return test([&](int i) { return p[i] == v; }); }
  template <class Out>
  ANS_INLINE static void store_low(Out* p, const U32& a) {
    for (int i = 0; i < 32; ++i) p[i] = Out(a.lane[i]);
  }
  ANS_INLINE static U32 set1(uint32_t v) { return make([&](int) { return v; }); }
  ANS_INLINE static U32 and_(const U32& a, const U32& b) { return make([&](int i) { return a.lane[i] & b.lane[i]; }); }
  ANS_INLINE static U32 xor_(const U32& a, const U32& b) { return make([&](int i) { return a.lane[i] ^ b.lane[i]; }); }
  ANS_INLINE static U32 or_(const U32& a, const U32& b) { return make([&](int i) { return a.lane[i] | b.lane[i]; }); }
  ANS_INLINE static U32 add(const U32& a, const U32& b) { return make([&](int i) { return a.lane[i] + b.lane[i]; }); }
  ANS_INLINE static U32 sub(const U32& a, const U32& b) { return make([&](int i) { return a.lane[i] - b.lane[i]; }); }
  ANS_INLINE static U32 mul(const U32& a, const U32& b) { return make([&](int i) { return a.lane[i] * b.lane[i]; }); }
  ANS_INLINE static U32 mulhi(const U32& a, const U32& b) {
    return make([&](int i) { return uint32_t(uint64_t(a.lane[i]) * b.lane[i] >> 32); });
  }
  template <int n>
  ANS_INLINE static U32 shr(const U32& a) { return make([&](int i) { return a.lane[i] >> n; }); }
  template <int n>
  ANS_INLINE static U32 shl(const U32& a) { return make([&](int i) { return a.lane[i] << n; }); }
  ANS_INLINE static U32 shr_var(const U32& a, const U32& n) { return make([&](int i) { return a.lane[i] >> n.lane[i]; }); }
  ANS_INLINE static U32 gather(const uint32_t* t, const U32& k) { return make([&](int i) { return t[k.lane[i]]; }); }
  ANS_INLINE static U32 gather16(const uint16_t* t, const U32& k) { return make([&](int i) { return uint32_t(t[k.lane[i]]); }); }
  ANS_INLINE static Mask ge(const U32& a, const U32& b) { return test([&](int i) { return a.lane[i] >= b.lane[i]; }); }
  ANS_INLINE static Mask both(Mask a, Mask b) { return a & b; }
  ANS_INLINE static Mask first(int n) { return n >= 32 ? ~0u : (1u << n) - 1; }
  ANS_INLINE static U32 max(const U32& a, const U32& b) { return make([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; }); }
  ANS_INLINE static bool any_ge(const U32& a, const U32& b) { return ge(a, b) != 0; }
  ANS_INLINE static U32 select(Mask m, const U32& a, const U32& b) {
    return make([&](int i) { return (m >> i & 1) ? a.lane[i] : b.lane[i]; });
  }
  // For the matrix models: numbers are signed where a name says so.
  static constexpr int kDotColumns = 2;
  // What a backend may want to read in one go.
  template <class T>
  ANS_INLINE static const T& fetch(const T& t) { return t; }
  template <int n>
  ANS_INLINE static const U32& pick(const U32 (&of)[n], int i) { return of[i]; }
  ANS_INLINE static U32 load_i8(const uint8_t* p) { return make([&](int i) { return uint32_t(int8_t(p[i])); }); }
  ANS_INLINE static U32 load_i16(const int16_t* p) { return make([&](int i) { return uint32_t(p[i]); }); }
  ANS_INLINE static U32 gather8(const uint8_t* t, const U32& k) { return make([&](int i) { return uint32_t(t[k.lane[i]]); }); }
  ANS_INLINE static U32 shr_by(const U32& a, int n) { return make([&](int i) { return a.lane[i] >> n; }); }
  ANS_INLINE static U32 shl_by(const U32& a, int n) { return make([&](int i) { return a.lane[i] << n; }); }
  ANS_INLINE static U32 sar_by(const U32& a, int n) { return make([&](int i) { return uint32_t(int32_t(a.lane[i]) >> n); }); }
  ANS_INLINE static U32 min_signed(const U32& a, const U32& b) { return make([&](int i) { return int32_t(a.lane[i]) < int32_t(b.lane[i]) ? a.lane[i] : b.lane[i]; }); }
  ANS_INLINE static U32 max_signed(const U32& a, const U32& b) { return make([&](int i) { return int32_t(a.lane[i]) > int32_t(b.lane[i]) ? a.lane[i] : b.lane[i]; }); }
  ANS_INLINE static U32 float_bits(const U32& a) {
    return make([&](int i) {
      const float f = float(int32_t(a.lane[i]));
      uint32_t bits;
      std::memcpy(&bits, &f, sizeof bits);
      return bits;
    });
  }
  ANS_INLINE static U32 dot_pairs(const U32& sum, const U32& a, uint32_t b) {
    return make([&](int i) { return sum.lane[i] + uint32_t(int16_t(a.lane[i]) * int16_t(b)) + uint32_t((int32_t(a.lane[i]) >> 16) * (int32_t(b) >> 16)); });
  }
  ANS_INLINE static uint32_t bits(Mask m) { return m; }
  // Numbers as float32, each operation rounded.
  ANS_INLINE static float as_float(uint32_t v) {
    float f;
    std::memcpy(&f, &v, sizeof f);
    return f;
  }
  ANS_INLINE static uint32_t as_bits(float f) {
    uint32_t v;
    std::memcpy(&v, &f, sizeof v);
    return v;
  }
  ANS_INLINE static U32 fadd(const U32& a, const U32& b) { return make([&](int i) { return as_bits(as_float(a.lane[i]) + as_float(b.lane[i])); }); }
  ANS_INLINE static U32 fsub(const U32& a, const U32& b) { return make([&](int i) { return as_bits(as_float(a.lane[i]) - as_float(b.lane[i])); }); }
  ANS_INLINE static U32 fmul(const U32& a, const U32& b) { return make([&](int i) { return as_bits(as_float(a.lane[i]) * as_float(b.lane[i])); }); }
  ANS_INLINE static Mask fless(const U32& a, const U32& b) { return test([&](int i) { return as_float(a.lane[i]) < as_float(b.lane[i]); }); }
  ANS_INLINE static U32 floor_of(const U32& a) {  // below 2^31
    return make([&](int i) {
      const float f = as_float(a.lane[i]);
      const int32_t whole = int32_t(f);
      return uint32_t(whole - (float(whole) > f));
    });
  }

  ANS_INLINE static void refill(U32& x, const uint8_t*& words) {
    for (int i = 0; i < 32; ++i) {
      if (x.lane[i] >= 65536) continue;
      uint16_t w;
      std::memcpy(&w, words, 2);
      x.lane[i] = x.lane[i] << 16 | w;
      words += 2;
    }
  }
  ANS_INLINE static void spill(U32& x, Mask m, uint8_t*& words) {
    for (int i = 31; i >= 0; --i) {
      if (!(m >> i & 1)) continue;
      words -= 2;
      const uint16_t w = uint16_t(x.lane[i]);
      std::memcpy(words, &w, 2);
      x.lane[i] >>= 16;
    }
  }
};

}  // namespace ANS_TARGET
}  // namespace ans::core
