// Shorthands of the code that is compiled once per target.
#define ANS_INLINE inline __attribute__((always_inline))
#define ANS_NOINLINE __attribute__((noinline))
#define ANS_UNROLL _Pragma("GCC unroll 8")
