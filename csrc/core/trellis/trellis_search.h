// Viterbi's algorithm for 32 rows side by side, over a vector of csrc/cpu: compiled once per target.
#pragma once
#include <type_traits>
#include <utility>

#include "core/trellis/trellis.h"
#include "core/trellis/trellis_coder.h"
#include "core/trellis/trellis_target.h"
#include "format/bitstream.h"

namespace ans::core {
namespace ANS_TARGET {

// v mod 4 of what follows state s by a symbol of this parity.
ANS_HD constexpr uint32_t residue_of(uint32_t from) { return 2 * (from >> 8) + (from & 1); }

// Calls f with every number, each known to the compiler: states stay in registers.
template <int... n, class F>
ANS_INLINE void for_each_number(std::integer_sequence<int, n...>, const F& f) {
  (f(std::integral_constant<int, n>{}), ...);
}

// The m of the integer 4 * m + residue that is at or below a target.
template <class V>
ANS_INLINE typename V::U32 point_below(const typename V::U32& target, const typename V::U32& residue) {
  return V::sar_by(V::sub(target, V::mul(residue, V::set1(kTargetOne))), kTargetBits + 2);
}

template <class V>
ANS_INLINE typename V::U32 within_reach(const typename V::U32& m, int offset) {
  return V::min_signed(V::max_signed(V::add(m, V::set1(uint32_t(offset))), V::set1(0)), V::set1(2 * kReach - 1));
}

template <class V, class Machine>
ANS_INLINE void search_trellis(const TrellisJob& job) {
  using U32 = typename V::U32;
  constexpr int kStates = Machine::kStates, kShift = kTargetBits + 2;
  constexpr uint32_t kFar = 1u << 30;
  constexpr int64_t kColumnsBetween = 256;  // so many add less than 2^31 to a path
  const U32 zero = V::set1(0), one = V::set1(1);
  U32 path[kStates], next[kStates];
  ANS_UNROLL
  for (int n = 0; n < kStates; ++n) path[n] = V::set1(n == 0 ? 0 : kFar);

  for (int64_t j = 0; j < job.columns; ++j) {
    const U32 target = V::load(reinterpret_cast<const uint32_t*>(job.targets) + j * format::kLanes);
    const uint32_t* const costs = job.costs + (job.column_class == nullptr ? 0 : int64_t(job.column_class[j]) * kColumnCosts);
    U32 best[kResidues], above = zero, decided = zero;
    ANS_UNROLL
    for (int r = 0; r < kResidues; ++r) {
      const U32 m = point_below<V>(target, V::set1(uint32_t(r)));
      const U32 below = V::sub(V::sub(target, V::set1(uint32_t(r * kTargetOne))), V::template shl<kShift>(m)), over = V::sub(V::set1(4 * kTargetOne), below);
      const uint32_t* const of = costs + r * 2 * kReach;
      const U32 low = V::add(V::mul(below, below), V::gather(of, within_reach<V>(m, kReach))), high = V::add(V::mul(over, over), V::gather(of, within_reach<V>(m, kReach + 1)));
      const auto second = V::ge(low, V::add(high, one));
      best[r] = V::select(second, high, low);
      above = V::or_(above, V::select(second, V::set1(1u << r), zero));
    }
    for_each_number(std::make_integer_sequence<int, kStates>{}, [&](auto number) __attribute__((always_inline)) {
      constexpr int n = decltype(number)::value;
      constexpr uint32_t lower = Machine::way(n, 0), upper = Machine::way(n, 1);
      const U32 first = V::add(path[lower & 0xFF], best[residue_of(lower)]), second = V::add(path[upper & 0xFF], best[residue_of(upper)]);
      const auto other = V::ge(first, V::add(second, one));
      next[n] = V::select(other, second, first);
      decided = V::or_(decided, V::select(other, V::set1(1u << n), zero));
    });
    V::store(job.decisions + j * format::kLanes, decided);
    V::store(job.points + j * format::kLanes, above);
    if ((j + 1) % kColumnsBetween == 0) {
      U32 least = next[0];
      ANS_UNROLL
      for (int n = 1; n < kStates; ++n) least = V::select(V::ge(least, next[n]), next[n], least);
      ANS_UNROLL
      for (int n = 0; n < kStates; ++n) next[n] = V::sub(next[n], least);
    }
    ANS_UNROLL
    for (int n = 0; n < kStates; ++n) path[n] = next[n];
  }

  U32 state = zero, least = path[0];
  ANS_UNROLL
  for (int n = 1; n < kStates; ++n) {
    const auto better = V::ge(least, V::add(path[n], one));
    least = V::select(better, path[n], least);
    state = V::select(better, V::set1(uint32_t(n)), state);
  }
  for (int64_t j = job.columns; j-- > 0;) {
    const U32 which = V::and_(V::shr_var(V::load(job.decisions + j * format::kLanes), state), one);
    const U32 way = V::gather(job.ways, V::add(V::add(state, state), which)), parity = V::template shr<8>(way);
    state = V::and_(way, V::set1(0xFF));
    const U32 residue = V::add(V::add(parity, parity), V::and_(state, one));
    const U32 above = V::and_(V::shr_var(V::load(job.points + j * format::kLanes), residue), one);
    const U32 m = V::add(point_below<V>(V::load(reinterpret_cast<const uint32_t*>(job.targets) + j * format::kLanes), residue), above);
    V::store(reinterpret_cast<uint32_t*>(job.values) + j * format::kLanes, V::add(V::template shl<2>(m), residue));
  }
}

// Target: int32_t in 1 / 2^kTargetBits, or float in steps.
template <class T, class Target>
Status find_row_targets(const T* weights, float row_step, const float* column_step, int64_t columns, Target* targets) {
  constexpr int64_t kPiece = 256;
  Target piece[kPiece];
  for (int64_t first = 0; first < columns; first += kPiece) {
    const int64_t n = columns - first < kPiece ? columns - first : kPiece;
    bool all = true;
    if (column_step == nullptr) {
      for (int64_t j = 0; j < n; ++j) all &= trellis_target(to_float(weights[first + j]), row_step, &piece[j]);
    } else {
      for (int64_t j = 0; j < n; ++j) all &= trellis_target(to_float(weights[first + j]), multiply(row_step, column_step[first + j]), &piece[j]);
    }
    if (!all) {
      for (int64_t j = 0; j < n; ++j)
        if (const float w = to_float(weights[first + j]); !(w - w == 0)) return Status::kNotFinite;
      return Status::kSymbolOutOfRange;
    }
    for (int64_t j = 0; j < n; ++j) targets[(first + j) * format::kLanes] = piece[j];
  }
  return Status::kOk;
}
template <class Target>
Status find_targets(const void* weights, FloatType type, float row_step, const float* column_step, int64_t columns, Target* targets) {
  switch (type) {
    case FloatType::kFloat32: return find_row_targets(static_cast<const float*>(weights), row_step, column_step, columns, targets);
    case FloatType::kBFloat16: return find_row_targets(static_cast<const BFloat16*>(weights), row_step, column_step, columns, targets);
    case FloatType::kFloat16: break;
  }
  return find_row_targets(static_cast<const Float16*>(weights), row_step, column_step, columns, targets);
}

}  // namespace ANS_TARGET
}  // namespace ans::core
