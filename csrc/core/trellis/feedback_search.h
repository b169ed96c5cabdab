// Viterbi's search where what a column errs is made up for by the columns behind it (GPTQ), for 32 rows side by side, over a vector of csrc/cpu or a warp: compiled once per target.
//
// GPTQ quantizes column after column; after each it moves all later weights such that the output of the layer changes least (Frantar et al. 2022, after Hassibi and Stork 1993).
// With U the upper Cholesky factor of the inverse Hessian, e[i] = error[i] / U[i][i] is subtracted U[i][j] times from column j, and the output's error is the sum of all e[i]^2.
// In a trellis every state has its own path, so its own errors and its own targets (per-survivor processing, Raheli, Polydoros and Tzou 1995).
//
// Paths share what lies far back. A column is decided where all paths agree on it; if they do not for kWindow columns, the best one decides and those that differ end.
// Its errors then count for all paths alike. Sums over columns go from the first to the last, each product and each sum rounded: when a column was decided does not change them.
#pragma once
#include "core/trellis/trellis_search.h"

namespace ans::core {
namespace ANS_TARGET {

// Each integer for itself.
struct NoTrellis {
  static constexpr int kStates = 1;
  static ANS_HD constexpr uint32_t way(uint32_t, int) { return 0; }
};

template <class V>
ANS_INLINE typename V::U32 fset1(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return V::set1(bits);
}

// All that belongs to a search. Paths of states that no row can be in are kFar long.
template <class V, class Machine>
class FeedbackSearch {
 public:
  using U32 = typename V::U32;
  static constexpr int kStates = Machine::kStates;

  ANS_INLINE explicit FeedbackSearch(const FeedbackJob& job) : job_(job), now_(job.history), next_(job.history + kHistory) {
    for (int n = 0; n < kStates; ++n) V::store(path(n), fset1<V>(n == 0 ? 0.0f : kFar));
  }

  ANS_INLINE void run() {
    U32 before[kFeedbackBlock];
    for (int64_t first = 0; first < job_.columns; first += kFeedbackBlock) {
      const int64_t n = job_.columns - first < kFeedbackBlock ? job_.columns - first : kFeedbackBlock;
      decide(first, first + kFeedbackBlock - kFeedbackWindow);
      sum_decided(first, before);
      for (int64_t c = 0; c < n; ++c) column(first + c, V::pick(before, int(c)));
    }
    decide(job_.columns, job_.columns);
    trace_back();
  }

 private:
  static constexpr float kFar = 1e30f;
  static constexpr int64_t kHistory = int64_t{kFeedbackWindow} * kStates * format::kLanes;

  ANS_INLINE uint32_t* path(int n) const { return job_.paths + n * format::kLanes; }
  ANS_INLINE static int64_t slot(int64_t column, int state) { return (column % kFeedbackWindow * kStates + state) * format::kLanes; }

  // Decides columns before `end` as long as the paths agree, those before `until` in any case. Brings the shortest path to 0.
  ANS_INLINE void decide(int64_t end, int64_t until) {
    U32 least = V::load(path(0)), which = V::set1(0);
    for (int n = 1; n < kStates; ++n) {
      const U32 p = V::load(path(n));
      const auto less = V::fless(p, least);
      least = V::select(less, p, least);
      which = V::select(less, V::set1(uint32_t(n)), which);
    }
    for (int n = 0; n < kStates; ++n) V::store(path(n), V::fsub(V::load(path(n)), least));
    for (; decided_ < end; ++decided_) {
      U32 best = V::load(now_ + slot(decided_, 0));
      for (int n = 1; n < kStates; ++n) best = V::select(V::ge(which, V::set1(uint32_t(n))), V::load(now_ + slot(decided_, n)), best);
      if constexpr (kStates > 1) {
        // Above, n up to `which` were taken one after another, so that the last is the one.
        U32 differ = V::set1(0);
        for (int n = 0; n < kStates; ++n) differ = V::or_(differ, other_error(n, best));
        if (V::bits(V::ge(differ, V::set1(1))) != 0) {
          if (decided_ >= until) return;
          for (int n = 0; n < kStates; ++n) V::store(path(n), V::select(V::ge(other_error(n, best), V::set1(1)), fset1<V>(kFar), V::load(path(n))));
        }
      }
      V::store(job_.decided + decided_ * format::kLanes, best);
    }
  }
  // Not 0 where path n, if there is one, errs otherwise in the next column to be decided.
  ANS_INLINE U32 other_error(int n, const U32& best) const {
    const U32 other = V::xor_(V::load(now_ + slot(decided_, n)), best);
    return V::select(V::fless(V::load(path(n)), fset1<V>(kFar / 2)), other, V::set1(0));
  }

  // What decided columns contribute to a block.
  ANS_INLINE void sum_decided(int64_t first, U32 (&sum)[kFeedbackBlock]) const {
    ANS_UNROLL
    for (int c = 0; c < kFeedbackBlock; ++c) sum[c] = V::set1(0);
    const float* feedback = job_.feedback + first;
    for (int64_t i = 0; i < decided_; ++i, feedback += job_.stride) {
      const U32 error = V::load(job_.decided + i * format::kLanes);
      ANS_UNROLL
      for (int c = 0; c < kFeedbackBlock; ++c) sum[c] = V::fadd(sum[c], V::fmul(error, fset1<V>(feedback[c])));
    }
  }

  ANS_INLINE void column(int64_t j, const U32& before) {
    constexpr int kTogether = kStates < 8 ? kStates : 8;
    const U32 target = V::load(reinterpret_cast<const uint32_t*>(job_.targets) + j * format::kLanes), weight = fset1<V>(job_.weight[j]);
    const uint32_t* const costs = job_.costs + (job_.column_class == nullptr ? 0 : int64_t(job_.column_class[j]) * kColumnCosts);
    constexpr int kWays = kStates == 1 ? 1 : 2;
    // Of every state, and each parity of what may follow: the best integer, what it errs, what the path is then.
    U32 value[kStates * kWays], error[kStates * kWays], length[kStates * kWays];
    for (int begin = 0; begin < kStates; begin += kTogether) {
      U32 sum[kTogether];
      ANS_UNROLL
      for (int s = 0; s < kTogether; ++s) sum[s] = before;
      for (int64_t i = decided_; i < j; ++i) {
        const U32 f = fset1<V>(job_.feedback[i * job_.stride + j]);
        const uint32_t* const errors = now_ + slot(i, begin);
        ANS_UNROLL
        for (int s = 0; s < kTogether; ++s) sum[s] = V::fadd(sum[s], V::fmul(V::load(errors + s * format::kLanes), f));
      }
      for (int s = 0; s < kTogether; ++s) {
        const U32 wanted = V::fsub(target, sum[s]), high = fset1<V>(float(kMaxTrellisValue)), low = fset1<V>(-float(kMaxTrellisValue));
        const U32 t = V::select(V::fless(wanted, low), low, V::select(V::fless(high, wanted), high, wanted)), so_far = V::load(path(begin + s));
        for (int k = 0; k < kWays; ++k) {
          const int at = (begin + s) * kWays + k;
          choose(t, uint32_t(2 * k + ((begin + s) & 1)), weight, costs, so_far, value[at], error[at], length[at]);
        }
      }
    }
    typename V::Mask other[kStates];
    U32 decision = V::set1(0);
    for_each_number(std::make_integer_sequence<int, kStates>{}, [&](auto number) __attribute__((always_inline)) {
      constexpr int n = decltype(number)::value;
      constexpr int lower = place_of(n, 0), upper = place_of(n, 1);
      other[n] = V::fless(length[upper], length[lower]);
      V::store(path(n), V::select(other[n], length[upper], length[lower]));
      V::store(next_ + slot(j, n), V::select(other[n], error[upper], error[lower]));
      V::store_low(reinterpret_cast<uint16_t*>(job_.chosen) + (j * kStates + n) * format::kLanes, V::select(other[n], value[upper], value[lower]));
      decision = V::or_(decision, V::select(other[n], V::set1(1u << n), V::set1(0)));
    });
    V::store(job_.decisions + j * format::kLanes, decision);
    for (int64_t i = decided_; i < j; ++i)
      for_each_number(std::make_integer_sequence<int, kStates>{}, [&](auto number) __attribute__((always_inline)) {
        constexpr int n = decltype(number)::value;
        constexpr int lower = place_of(n, 0) / kWays, upper = place_of(n, 1) / kWays;
        V::store(next_ + slot(i, n), V::select(other[n], V::load(now_ + slot(i, upper)), V::load(now_ + slot(i, lower))));
      });
    uint32_t* const old = now_;
    now_ = next_;
    next_ = old;
  }
  // Where a way into state n stands among values, errors and lengths.
  static ANS_HD constexpr int place_of(int n, int which) {
    if (kStates == 1) return 0;
    const uint32_t way = Machine::way(uint32_t(n), which);
    return int((way & 0xFF) * 2 + (way >> 8));
  }

  // The better of the two integers next to a target that are congruent to `residue`, modulo 4 (without a trellis: of all).
  ANS_INLINE static void choose(const U32& t, uint32_t residue, const U32& weight, const uint32_t* costs, const U32& so_far, U32& value, U32& error, U32& length) {
    constexpr float kApart = kStates == 1 ? 1.0f : 4.0f;
    U32 low, place, place_above;
    if constexpr (kStates == 1) {
      low = V::floor_of(t);
      const U32 above = V::add(low, V::set1(1));
      place = place_among_costs(low), place_above = place_among_costs(above);
    } else {
      const U32 m = V::floor_of(V::fmul(V::fsub(t, fset1<V>(float(residue))), fset1<V>(0.25f)));
      low = V::add(V::template shl<2>(m), V::set1(residue));
      const uint32_t offset = residue * 2 * kReach;
      place = V::add(within_reach<V>(m, kReach), V::set1(offset)), place_above = V::add(within_reach<V>(m, kReach + 1), V::set1(offset));
    }
    const U32 below = V::fsub(t, V::float_bits(low)), over = V::fsub(below, fset1<V>(kApart));
    const U32 first = V::fadd(V::fmul(V::fmul(below, below), weight), V::float_bits(V::gather(costs, place)));
    const U32 second = V::fadd(V::fmul(V::fmul(over, over), weight), V::float_bits(V::gather(costs, place_above)));
    const auto above = V::fless(second, first);
    value = V::select(above, V::add(low, V::set1(uint32_t(kApart))), low);
    error = V::select(above, over, below);
    length = V::fadd(so_far, V::select(above, second, first));
  }
  // trellis_place().
  ANS_INLINE static U32 place_among_costs(const U32& v) {
    return V::add(V::mul(V::and_(v, V::set1(3)), V::set1(2 * kReach)), within_reach<V>(V::sar_by(v, 2), kReach));
  }

  // The shortest path, from its end.
  ANS_INLINE void trace_back() {
    U32 least = V::load(path(0)), state = V::set1(0);
    for (int n = 1; n < kStates; ++n) {
      const U32 p = V::load(path(n));
      const auto less = V::fless(p, least);
      least = V::select(less, p, least);
      state = V::select(less, V::set1(uint32_t(n)), state);
    }
    const U32 lane = V::load(job_.lane_numbers), one = V::set1(1);
    for (int64_t j = job_.columns; j-- > 0;) {
      const uint16_t* const chosen = reinterpret_cast<const uint16_t*>(job_.chosen) + j * kStates * format::kLanes;
      const U32 v = V::gather16(chosen, V::add(V::mul(state, V::set1(format::kLanes)), lane));
      V::store(reinterpret_cast<uint32_t*>(job_.values) + j * format::kLanes, V::sar_by(V::template shl<16>(v), 16));
      if constexpr (kStates > 1) {
        const U32 which = V::and_(V::shr_var(V::load(job_.decisions + j * format::kLanes), state), one);
        state = V::and_(V::gather(job_.ways, V::add(V::add(state, state), which)), V::set1(0xFF));
      }
    }
  }

  const FeedbackJob& job_;
  uint32_t *now_, *next_;
  int64_t decided_ = 0;
};

template <class V, class Machine>
ANS_INLINE void search_with_feedback(const FeedbackJob& job) {
  FeedbackSearch<V, Machine>(job).run();
}

}  // namespace ANS_TARGET
}  // namespace ans::core
