// The search with feedback against paths that are kept whole, and every backend, and a warp, against every other.
#define ANS_TARGET target_feedback_test
#include "cpu/target_macros.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "core/trellis/feedback_search.h"
#include "core/vector_warp.h"
#include "cpu/backends.h"
#include "emulated_block.h"

namespace ans {
namespace {

using core::kColumnCosts;
using core::kTargetOne;

struct Rows {
  int64_t columns, stride;
  std::vector<float> targets, feedback, weight;  // [columns][32], [columns][stride], [columns]
  std::vector<uint32_t> costs;
  std::vector<uint8_t> column_class;
};

Rows make_rows(std::mt19937& rng, int64_t columns, int classes, double spread, double feedback) {
  Rows r{columns, (columns + core::kFeedbackBlock - 1) / core::kFeedbackBlock * core::kFeedbackBlock, {}, {}, {}, {}, {}};
  std::normal_distribution<float> bell(0, 1);
  for (int64_t i = 0; i < columns * format::kLanes; ++i) r.targets.push_back(float(spread) * bell(rng));
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t j = 0; j < r.stride; ++j) r.feedback.push_back(j > i && j < columns ? float(feedback / std::sqrt(double(columns))) * bell(rng) : 0.0f);
  for (int64_t j = 0; j < columns; ++j) {
    r.weight.push_back(float(kTargetOne * kTargetOne) * (0.3f + std::fabs(bell(rng))));
    r.column_class.push_back(uint8_t(rng() % unsigned(classes)));
  }
  for (int i = 0; i < classes * kColumnCosts; ++i) r.costs.push_back(rng() % (4 * kTargetOne * kTargetOne));
  return r;
}

struct Found {
  std::vector<int32_t> values;
  std::vector<float> errors;
  bool operator==(const Found& other) const { return values == other.values && errors == other.errors; }
};

using Search = core::FeedbackSearches::Search;

// Memory of exactly what the search may use.
Found search(Search by, int states, int survivors, const Rows& r) {
  const size_t size = size_t(r.columns * format::kLanes);
  std::vector<uint32_t> lanes;
  for (uint32_t i = 0; i < uint32_t(format::kLanes); ++i) lanes.push_back(i);
  std::vector<uint32_t> memory(size_t(core::FeedbackScratch::bytes(r.columns, states, survivors)) / 4);
  const core::FeedbackScratch scratch(reinterpret_cast<uint8_t*>(memory.data()), r.columns, states, survivors);
  if (size > 0) std::memcpy(scratch.targets, r.targets.data(), 4 * size);
  by({scratch, survivors, r.columns, r.stride, r.feedback.data(), r.weight.data(), r.costs.data(), r.column_class.data(), core::trellis_ways(states).data(), lanes.data()});
  Found found{std::vector<int32_t>(size), std::vector<float>(size)};
  if (size > 0) std::memcpy(found.values.data(), scratch.values, 4 * size), std::memcpy(found.errors.data(), scratch.decided, 4 * size);
  return found;
}

struct Alone {  // each integer for itself
  static constexpr int kStates = 1;
  static uint32_t next(uint32_t, uint32_t) { return 0; }
};

struct Path {
  float length;
  std::vector<float> errors;
  std::vector<int32_t> values;
  Path longer(float by, float error, int32_t value) const {
    Path path = *this;
    path.length += by;
    path.errors.push_back(error);
    path.values.push_back(value);
    return path;
  }
};

// One row, with all paths as they are: those of each state, the shortest first.
template <class Machine>
Path whole_paths(const Rows& r, int lane, int survivors) {
  std::vector<std::vector<Path>> paths(Machine::kStates);
  paths[0].push_back({0.0f, {}, {}});
  for (int64_t j = 0; j < r.columns; ++j) {
    if (j % core::kFeedbackBlock == 0) {
      float least = 1e30f;
      for (const auto& of_state : paths)
        for (const Path& p : of_state) least = std::min(least, p.length);
      for (auto& of_state : paths)
        for (Path& p : of_state) p.length -= least;
    }
    std::vector<std::vector<Path>> next(Machine::kStates);
    auto offer = [&](uint32_t n, Path path) {
      auto& best = next[n];
      size_t at = best.size();
      while (at > 0 && path.length < best[at - 1].length) --at;
      best.insert(best.begin() + long(at), std::move(path));
      if (best.size() > size_t(survivors)) best.pop_back();
    };
    auto cost = [&](int32_t v, float error) {
      return error * error * r.weight[size_t(j)] + float(r.costs[size_t(r.column_class[size_t(j)]) * kColumnCosts + size_t(core::trellis_place(v))]);
    };
    for (uint32_t s = 0; s < uint32_t(Machine::kStates); ++s)
      for (const Path& path : paths[s]) {
        float sum = 0;
        for (int64_t i = 0; i < j; ++i) sum += path.errors[size_t(i)] * r.feedback[size_t(i * r.stride + j)];
        const float t = r.targets[size_t(j * format::kLanes + lane)] - sum;
        if (Machine::kStates == 1) {
          const int32_t low = int32_t(std::floor(t));
          const float below = t - float(low), over = below - 1.0f;
          offer(0, path.longer(cost(low, below), below, low));
          offer(0, path.longer(cost(low + 1, over), over, low + 1));
          continue;
        }
        for (uint32_t parity = 0; parity < 2; ++parity) {
          const int32_t residue = int32_t(2 * parity + (s & 1)), low = 4 * int32_t(std::floor((t - float(residue)) / 4)) + residue;
          const float below = t - float(low), over = below - 4.0f;
          const bool above = cost(low + 4, over) < cost(low, below);
          offer(Machine::next(s, parity), path.longer(std::min(cost(low, below), cost(low + 4, over)), above ? over : below, above ? low + 4 : low));
        }
      }
    paths = std::move(next);
  }
  const Path* best = nullptr;
  for (const auto& of_state : paths)
    for (const Path& p : of_state)
      if (best == nullptr || p.length < best->length) best = &p;
  return *best;
}

template <class Machine>
void check(int states, int survivors, unsigned seed) {
  std::mt19937 rng(seed);
  const Search by = cpu::kScalar.trellises.feedback.of(states, survivors);
  for (int trial = 0; trial < 8; ++trial) {  // too few columns for anything to be decided early
    const Rows r = make_rows(rng, 1 + rng() % (core::kFeedbackWindow - core::kFeedbackBlock), 1 + trial % 3, trial % 4 == 0 ? 200 : 3, trial % 3 == 0 ? 0 : 0.7);
    const Found found = search(by, states, survivors, r);
    for (int lane = 0; lane < format::kLanes; ++lane) {
      const Path path = whole_paths<Machine>(r, lane, survivors);
      for (int64_t j = 0; j < r.columns; ++j) {
        ASSERT_EQ(path.values[size_t(j)], found.values[size_t(j * format::kLanes + lane)]) << "trial " << trial << " lane " << lane << " column " << j << " of " << r.columns;
        ASSERT_EQ(path.errors[size_t(j)], found.errors[size_t(j * format::kLanes + lane)]);
      }
    }
  }
  for (const int64_t columns : {0, 1, 7, 64, 65, 700}) {
    const Rows r = make_rows(rng, columns, 2, 4, 0.9);
    const Found expected = search(by, states, survivors, r);
    for (const cpu::Backend* backend : cpu::available_backends())
      ASSERT_EQ(search(backend->trellises.feedback.of(states, survivors), states, survivors, r), expected) << backend->name << ", " << columns << " columns";
    // What is said to be erred is what these integers err, and the machine has them.
    for (int lane = 0; lane < format::kLanes; ++lane) {
      uint32_t state = 0;
      for (int64_t j = 0; j < columns; ++j) {
        const size_t at = size_t(j * format::kLanes + lane);
        float sum = 0;
        for (int64_t i = 0; i < j; ++i) sum += expected.errors[size_t(i * format::kLanes + lane)] * r.feedback[size_t(i * r.stride + j)];
        ASSERT_NEAR(expected.errors[at], (r.targets[at] - sum) - float(expected.values[at]), 1e-5) << columns << " columns, lane " << lane << ", " << j;
        if (Machine::kStates > 1) {
          ASSERT_EQ(uint32_t(expected.values[at]) & 1, state & 1);
        }
        state = Machine::next(state, uint32_t(expected.values[at] >> 1) & 1);
      }
    }
  }
}

TEST(Feedback, FollowsAllPathsOnEveryBackend) {
  check<Alone>(0, 1, 1);
  check<core::Trellis4>(4, 1, 2);
  check<core::Trellis8>(8, 1, 3);
  check<core::Trellis32>(32, 1, 4);
}

TEST(Feedback, FollowsSeveralPathsOfEveryState) {
  for (const int survivors : {2, 3, 4}) {
    check<Alone>(0, survivors, 5);
    check<core::Trellis4>(4, survivors, 6);
  }
  check<core::Trellis8>(8, 4, 7);
  check<core::Trellis32>(32, 2, 8);
}

// Of all rows: what the search makes least, without costs of symbols.
double total_error(const Rows& r, const Found& found) {
  double sum = 0;
  for (size_t i = 0; i < found.errors.size(); ++i) sum += double(found.errors[i]) * double(found.errors[i]) * double(r.weight[i / size_t(format::kLanes)]);
  return sum;
}

TEST(Feedback, MorePathsErrLess) {
  std::mt19937 rng(9);
  Rows r = make_rows(rng, 200, 1, 4, 0.9);
  std::fill(r.costs.begin(), r.costs.end(), 0u);
  for (const int states : {0, 8}) {
    double before = 1e300;
    for (const int survivors : {1, 2, 4}) {
      const double error = total_error(r, search(cpu::backend().trellises.feedback.of(states, survivors), states, survivors, r));
      EXPECT_LT(error, 0.995 * before) << states << " states, " << survivors << " survivors";
      before = error;
    }
  }
}

template <int kStates, int kMost>
void by_warp(const core::FeedbackJob& job) {
  testing::EmulatedWarp::run([&] { core::ANS_TARGET::search_with_feedback<core::ANS_TARGET::VectorWarp<testing::EmulatedWarp>, kStates, kMost>(job); }, 1);
}

TEST(Feedback, AWarpFindsTheSame) {
  std::mt19937 rng(10);
  for (const int64_t columns : {1, 70, 130}) {
    const Rows r = make_rows(rng, columns, 2, 4, 0.9);
    const core::FeedbackSearches& searches = cpu::kScalar.trellises.feedback;
    ASSERT_EQ(search(by_warp<1, 1>, 0, 1, r), search(searches.one[0], 0, 1, r));
    ASSERT_EQ(search(by_warp<8, 1>, 8, 1, r), search(searches.one[2], 8, 1, r));
    ASSERT_EQ(search(by_warp<8, 4>, 8, 3, r), search(searches.several[2], 8, 3, r));
  }
}

}  // namespace
}  // namespace ans
