// The state machines of trellis-coded quantization. A row starts in state 0. In state s, symbol k stands for the integer v = 2k + (s & 1); then the state is next(s, k).
// The even and the odd integers are two cosets, each cut again by the parity of k: a step of the machine chooses among integers that are 4 apart, so that a path is coded
// in as many bits as a grid of twice the step, but finds integers nearly as near as the grid itself (Marcellin and Fischer 1990; with two tables by s & 1, after Kasner, Marcellin
// and Hunt 1999).
#pragma once
#include <cstdint>

#include "core/host_device.h"

namespace ans::core {

template <int kStatesIn, uint32_t kOddIn, uint32_t kParityIn>
struct TrellisMachine {
  static constexpr int kStates = kStatesIn;
  static ANS_HD constexpr uint32_t next(uint32_t s, uint32_t parity) { return s >> 1 ^ ((s & 1) != 0 ? kOddIn : 0) ^ (parity != 0 ? kParityIn : 0); }
};
using Trellis4 = TrellisMachine<4, 2, 1>;
using Trellis8 = TrellisMachine<8, 5, 2>;
using Trellis32 = TrellisMachine<32, 18, 4>;
constexpr bool is_trellis(int states) { return states == 4 || states == 8 || states == 32; }

}  // namespace ans::core
