// The state machines of trellis-coded quantization. A row starts in state 0. In state s, symbol k stands for the integer v = 2k + (s & 1); then the state is next(s, k).
// The even and the odd integers are two cosets, each cut again by the parity of k: a step of the machine chooses among integers that are 4 apart, so that a path is coded
// in as many bits as a grid of twice the step, but finds integers nearly as near as the grid itself (Marcellin and Fischer 1990; with two tables by s & 1, after Kasner, Marcellin
// and Hunt 1999).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "core/host_device.h"

namespace ans::core {

template <int kStatesIn, uint32_t kOddIn, uint32_t kParityIn>
struct TrellisMachine {
  static constexpr int kStates = kStatesIn;
  static constexpr uint32_t kOdd = kOddIn, kParity = kParityIn;
  static ANS_HD constexpr uint32_t next(uint32_t s, uint32_t parity) { return s >> 1 ^ ((s & 1) != 0 ? kOddIn : 0) ^ (parity != 0 ? kParityIn : 0); }
  // The two ways into state n, as state | parity << 8: the lower state first.
  static ANS_HD constexpr uint32_t way(uint32_t n, int which) {
    int found = 0;
    for (uint32_t s = 0; s < uint32_t(kStates); ++s)
      for (uint32_t parity = 0; parity < 2; ++parity)
        if (next(s, parity) == n && found++ == which) return s | parity << 8;
    return 0;
  }
};
using Trellis4 = TrellisMachine<4, 2, 1>;
using Trellis8 = TrellisMachine<8, 5, 2>;
using Trellis32 = TrellisMachine<32, 18, 4>;
// [states][2], for a number of states that is_trellis(). Without a trellis (0): both ways lead from the only state to itself.
inline std::array<uint32_t, 64> trellis_ways(int states) {
  std::array<uint32_t, 64> ways{};
  if (states == 0) ways[1] = 1u << 8;
  for (uint32_t n = 0; n < uint32_t(states); ++n)
    for (int which = 0; which < 2; ++which) ways[2 * n + size_t(which)] = states == 4 ? Trellis4::way(n, which) : states == 8 ? Trellis8::way(n, which) : Trellis32::way(n, which);
  return ways;
}
// The numbers that make a machine of so many states; 0 without one.
constexpr uint32_t trellis_odd(int states) { return states == 4 ? Trellis4::kOdd : states == 8 ? Trellis8::kOdd : states == 32 ? Trellis32::kOdd : 0; }
constexpr uint32_t trellis_parity(int states) { return states == 4 ? Trellis4::kParity : states == 8 ? Trellis8::kParity : states == 32 ? Trellis32::kParity : 0; }
constexpr bool is_trellis(int states) { return states == 4 || states == 8 || states == 32; }

}  // namespace ans::core
