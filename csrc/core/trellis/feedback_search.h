// Viterbi's search where what a column errs is made up for by the columns behind it (GPTQ), for 32 rows side by side, over a vector of csrc/cpu or a warp: compiled once per target.
//
// GPTQ quantizes column after column; after each it moves all later weights such that the output of the layer changes least (Frantar et al. 2022, after Hassibi and Stork 1993).
// With U the upper Cholesky factor of the inverse Hessian, e[i] = error[i] / U[i][i] is subtracted U[i][j] times from column j, and the output's error is the sum of all e[i]^2.
// In a trellis every state has its own path, so its own errors and its own targets (per-survivor processing, Raheli, Polydoros and Tzou 1995), or several of them: what is best
// by now need not be so in the end, since targets differ (list Viterbi; without a trellis, a beam of paths).
//
// Paths share what lies far back. A column is decided where all paths agree on it; if they do not for kWindow columns, the best one decides and those that differ end.
// Its errors then count for all paths alike. Sums over columns go from the first to the last, each product and each sum rounded: when a column was decided does not change them.
#pragma once
#include "core/trellis/trellis_search.h"

namespace ans::core {
namespace ANS_TARGET {

template <class V>
ANS_INLINE typename V::U32 fset1(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  return V::set1(bits);
}

// All that belongs to a search. Every state has up to kMost paths, the shortest first; paths that no row has are kFar long.
//
// Columns come in blocks. What a path has erred before the block is kept under the path's number at the beginning of the block, which is its `origin`; only errors of the block
// itself are copied when paths branch off.
//
// Without a trellis there is one state, and two ways on: to the integers below and above the target.
template <class V, int kStatesIn, int kMost>
class FeedbackSearch {
 public:
  using U32 = typename V::U32;
  static constexpr int kStates = kStatesIn;

  ANS_INLINE explicit FeedbackSearch(const FeedbackJob& job) : job_(job), m_(job.memory), lane_(V::load(job.lane_numbers)) {
    now_ = {m_.recent, m_.origin};
    next_ = {of_column(m_.recent, kFeedbackBlock), of_column(m_.origin, 1)};
    for (int p = 0; p < paths(); ++p) V::store(m_.paths + p * kRow, fset1<V>(kFar));
    V::store(m_.paths, fset1<V>(0.0f));
  }

  ANS_INLINE void run() {
    for (int64_t first = 0; first < job_.columns; first += kFeedbackBlock) {
      const int64_t n = job_.columns - first < kFeedbackBlock ? job_.columns - first : kFeedbackBlock;
      decide(first, first + kFeedbackBlock - kFeedbackWindow);
      sum_before(first);
      for (int p = 0; p < paths(); ++p) V::store(now_.origin + p * kRow, V::set1(uint32_t(p)));
      for (int64_t c = 0; c < n; ++c) column(first, c);
      settle(first, n);
    }
    decide(job_.columns, job_.columns);
    trace_back();
  }

 private:
  static constexpr float kFar = 1e30f;
  static constexpr int64_t kRow = format::kLanes;
  // Of a state, or all states, with as many paths as there may be.
  static constexpr int kPaths = kStates * kMost;

  // Of paths since the block began: what they have erred in its columns [kFeedbackBlock][paths][32], and where they come from.
  struct Recent {
    uint32_t *errors, *origin;
  };
  struct Candidate {
    U32 length, error, chosen;  // chosen: the integer << 16 | the path that it continues
  };

  ANS_INLINE int survivors() const { return kMost == 1 ? 1 : job_.survivors; }
  ANS_INLINE int paths() const { return kStates * survivors(); }
  // What has been found for column c of a block, of all paths.
  ANS_INLINE uint32_t* of_column(uint32_t* block, int64_t c) const { return block + c * paths() * kRow; }
  // What all paths have erred in a column that is not decided.
  ANS_INLINE uint32_t* history(int64_t column) const { return of_column(m_.history, column % kFeedbackWindow); }
  // Where the number of path p stands, in every lane.
  ANS_INLINE U32 place(const U32& p) const { return V::add(V::template shl<5>(p), lane_); }

  ANS_INLINE U32 shortest(U32& least) const {
    U32 which = V::set1(0);
    least = V::load(m_.paths);
    for (int p = 1; p < paths(); ++p) {
      const U32 length = V::load(m_.paths + p * kRow);
      const auto less = V::fless(length, least);
      least = V::select(less, length, least);
      which = V::select(less, V::set1(uint32_t(p)), which);
    }
    return which;
  }

  // Decides columns before `end` as long as the paths agree, those before `until` in any case. Brings the shortest path to 0.
  ANS_INLINE void decide(int64_t end, int64_t until) {
    U32 least;
    const U32 best_place = place(shortest(least));
    for (int p = 0; p < paths(); ++p) V::store(m_.paths + p * kRow, V::fsub(V::load(m_.paths + p * kRow), least));
    for (; decided_ < end; ++decided_) {
      const uint32_t* const errors = history(decided_);
      const U32 best = V::gather(errors, best_place);
      U32 differ = V::set1(0);
      for (int p = 0; p < paths(); ++p) differ = V::or_(differ, other_error(errors, p, best));
      if (V::bits(V::ge(differ, V::set1(1))) != 0) {
        if (decided_ >= until) return;
        for (int p = 0; p < paths(); ++p)
          V::store(m_.paths + p * kRow, V::select(V::ge(other_error(errors, p, best), V::set1(1)), fset1<V>(kFar), V::load(m_.paths + p * kRow)));
      }
      V::store(m_.decided + decided_ * kRow, best);
    }
  }
  // Not 0 where path p, if there is one, errs otherwise than the best.
  ANS_INLINE U32 other_error(const uint32_t* errors, int p, const U32& best) const {
    const U32 other = V::xor_(V::load(errors + p * kRow), best);
    return V::select(V::fless(V::load(m_.paths + p * kRow), fset1<V>(kFar / 2)), other, V::set1(0));
  }

  // What columns before a block contribute to its targets: those decided to all paths, others to each its own.
  ANS_INLINE void sum_before(int64_t first) const {
    U32 decided[kFeedbackBlock];
    ANS_UNROLL
    for (int c = 0; c < kFeedbackBlock; ++c) decided[c] = V::set1(0);
    const float* const feedback = job_.feedback + first;
    for (int64_t i = 0; i < decided_; ++i) add_errors(decided, V::load(m_.decided + i * kRow), feedback + i * job_.stride);
    for (int p = 0; p < paths(); ++p) {
      U32 sum[kFeedbackBlock];
      ANS_UNROLL
      for (int c = 0; c < kFeedbackBlock; ++c) sum[c] = decided[c];
      for (int64_t i = decided_; i < first; ++i) add_errors(sum, V::load(history(i) + p * kRow), feedback + i * job_.stride);
      ANS_UNROLL
      for (int c = 0; c < kFeedbackBlock; ++c) V::store(of_column(m_.sums, c) + p * kRow, sum[c]);
    }
  }
  ANS_INLINE static void add_errors(U32 (&sum)[kFeedbackBlock], const U32& error, const float* feedback) {
    ANS_UNROLL
    for (int c = 0; c < kFeedbackBlock; ++c) sum[c] = V::fadd(sum[c], V::fmul(error, fset1<V>(feedback[c])));
  }

  ANS_INLINE void column(int64_t first, int64_t c) {
    const int64_t j = first + c;
    const U32 target = V::load(reinterpret_cast<const uint32_t*>(m_.targets) + j * kRow), weight = fset1<V>(job_.weight[j]);
    const U32 high = fset1<V>(float(kMaxTrellisValue)), low = fset1<V>(-float(kMaxTrellisValue));
    const uint32_t* const costs = job_.costs + (job_.column_class == nullptr ? 0 : int64_t(job_.column_class[j]) * kColumnCosts);
    Candidate candidates[kPaths][2];
    for (int s = 0; s < kStates; ++s)
      for (int r = 0; r < survivors(); ++r) {
        const int p = s * survivors() + r;
        U32 sum = V::gather(of_column(m_.sums, c), place(V::load(now_.origin + p * kRow)));
        for (int64_t i = 0; i < c; ++i) sum = V::fadd(sum, V::fmul(V::load(of_column(now_.errors, i) + p * kRow), fset1<V>(job_.feedback[(first + i) * job_.stride + j])));
        const U32 wanted = V::fsub(target, sum), so_far = V::load(m_.paths + p * kRow);
        const U32 t = V::select(V::fless(wanted, low), low, V::select(V::fless(high, wanted), high, wanted));
        if constexpr (kStates == 1) {
          neighbours(t, uint32_t(p), weight, costs, so_far, candidates[r]);
        } else {
          for (int k = 0; k < 2; ++k) candidates[s * kMost + r][k] = nearest(t, uint32_t(2 * k + (s & 1)), uint32_t(p), weight, costs, so_far);
        }
      }
    uint32_t* const chosen = of_column(m_.chosen, j);
    // Not unrolled over states: all of them would take minutes to compile, and is no faster.
    for (int n = 0; n < kStates; ++n) {
      Candidate best[kMost];
      ANS_UNROLL
      for (int r = 0; r < kMost; ++r) best[r] = {fset1<V>(kFar), V::set1(0), V::set1(0)};
      for (int which = 0; which < 2; ++which) {
        const uint32_t way = job_.ways[2 * n + which];
        for (int r = 0; r < survivors(); ++r) insert(best, candidates[(way & 0xFF) * kMost + uint32_t(r)][way >> 8]);
      }
      ANS_UNROLL
      for (int r = 0; r < kMost; ++r)
        if (r < survivors()) {
          const int p = n * survivors() + r;
          V::store(m_.paths + p * kRow, best[r].length);
          V::store(of_column(next_.errors, c) + p * kRow, best[r].error);
          V::store(chosen + p * kRow, best[r].chosen);
          const U32 branch = place(V::and_(best[r].chosen, V::set1(0xFFFF)));
          V::store(next_.origin + p * kRow, V::gather(now_.origin, branch));
          for (int64_t i = 0; i < c; ++i) V::store(of_column(next_.errors, i) + p * kRow, V::gather(of_column(now_.errors, i), branch));
        }
    }
    const Recent old = now_;
    now_ = next_;
    next_ = old;
  }
  // Among the best, in order; behind those of like length.
  ANS_INLINE static void insert(Candidate (&best)[kMost], Candidate one) {
    ANS_UNROLL
    for (int r = 0; r < kMost; ++r) {
      const auto less = V::fless(one.length, best[r].length);
      const Candidate old = best[r];
      best[r] = {V::select(less, one.length, old.length), V::select(less, one.error, old.error), V::select(less, one.chosen, old.chosen)};
      one = {V::select(less, old.length, one.length), V::select(less, old.error, one.error), V::select(less, old.chosen, one.chosen)};
    }
  }

  // A block is behind: what came before it goes to the paths that there are now, its own errors join.
  ANS_INLINE void settle(int64_t first, int64_t n) const {
    for (int64_t i = decided_; i < first; ++i) {
      uint32_t* const errors = history(i);
      for (int p = 0; p < paths(); ++p) V::store(next_.errors + p * kRow, V::gather(errors, place(V::load(now_.origin + p * kRow))));
      for (int p = 0; p < paths(); ++p) V::store(errors + p * kRow, V::load(next_.errors + p * kRow));
    }
    for (int64_t c = 0; c < n; ++c)
      for (int p = 0; p < paths(); ++p) V::store(history(first + c) + p * kRow, V::load(of_column(now_.errors, c) + p * kRow));
  }

  // The integer v, and what follows from it for a path.
  ANS_INLINE static Candidate candidate(const U32& v, uint32_t p, const U32& error, const U32& length) { return {length, error, V::or_(V::template shl<16>(v), V::set1(p))}; }
  ANS_INLINE static U32 costs_of(const U32& error, const U32& weight, const uint32_t* costs, const U32& at) {
    return V::fadd(V::fmul(V::fmul(error, error), weight), V::float_bits(V::gather(costs, at)));
  }

  // The better of the two integers next to a target that are congruent to `residue`, modulo 4.
  ANS_INLINE static Candidate nearest(const U32& t, uint32_t residue, uint32_t p, const U32& weight, const uint32_t* costs, const U32& so_far) {
    const U32 m = V::floor_of(V::fmul(V::fsub(t, fset1<V>(float(residue))), fset1<V>(0.25f)));
    const U32 low = V::add(V::template shl<2>(m), V::set1(residue)), offset = V::set1(residue * 2 * kReach);
    const U32 below = V::fsub(t, V::float_bits(low)), over = V::fsub(below, fset1<V>(4.0f));
    const U32 first = costs_of(below, weight, costs, V::add(within_reach<V>(m, kReach), offset));
    const U32 second = costs_of(over, weight, costs, V::add(within_reach<V>(m, kReach + 1), offset));
    const auto above = V::fless(second, first);
    return candidate(V::select(above, V::add(low, V::set1(4)), low), p, V::select(above, over, below), V::fadd(so_far, V::select(above, second, first)));
  }
  // Both integers next to a target.
  ANS_INLINE static void neighbours(const U32& t, uint32_t p, const U32& weight, const uint32_t* costs, const U32& so_far, Candidate (&found)[2]) {
    const U32 low = V::floor_of(t), above = V::add(low, V::set1(1));
    const U32 below = V::fsub(t, V::float_bits(low)), over = V::fsub(below, fset1<V>(1.0f));
    found[0] = candidate(low, p, below, V::fadd(so_far, costs_of(below, weight, costs, place_among_costs(low))));
    found[1] = candidate(above, p, over, V::fadd(so_far, costs_of(over, weight, costs, place_among_costs(above))));
  }
  // trellis_place().
  ANS_INLINE static U32 place_among_costs(const U32& v) {
    return V::add(V::mul(V::and_(v, V::set1(3)), V::set1(2 * kReach)), within_reach<V>(V::sar_by(v, 2), kReach));
  }

  // The shortest path, from its end.
  ANS_INLINE void trace_back() const {
    U32 least;
    U32 p = shortest(least);
    for (int64_t j = job_.columns; j-- > 0;) {
      const U32 chosen = V::gather(of_column(m_.chosen, j), place(p));
      V::store(reinterpret_cast<uint32_t*>(m_.values) + j * kRow, V::sar_by(chosen, 16));
      p = V::and_(chosen, V::set1(0xFFFF));
    }
  }

  const FeedbackJob& job_;
  const FeedbackScratch& m_;
  const U32 lane_;
  Recent now_, next_;
  int64_t decided_ = 0;
};

template <class V, int kStates, int kMost>
ANS_INLINE void search_with_feedback(const FeedbackJob& job) {
  FeedbackSearch<V, kStates, kMost>(job).run();
}

template <class V>
constexpr FeedbackSearches feedback_searches() {
  return {{search_with_feedback<V, 1, 1>, search_with_feedback<V, 4, 1>, search_with_feedback<V, 8, 1>, search_with_feedback<V, 32, 1>},
          {search_with_feedback<V, 1, kMaxSurvivors>, search_with_feedback<V, 4, kMaxSurvivors>, search_with_feedback<V, 8, kMaxSurvivors>,
           search_with_feedback<V, 32, kMaxSurvivors>}};
}

}  // namespace ANS_TARGET
}  // namespace ans::core
