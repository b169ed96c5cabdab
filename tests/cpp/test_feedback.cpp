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

// Memory of exactly what the search may use.
template <class Search>
Found search(const Search& by, int states, const Rows& r) {
  const auto ways = core::trellis_ways(states < 4 ? 4 : states);
  const size_t size = size_t(r.columns * format::kLanes), paths = size_t(states);
  std::vector<uint32_t> lanes, path(paths * format::kLanes), history(2 * core::kFeedbackWindow * paths * format::kLanes), decided(size), decisions(size);
  for (uint32_t i = 0; i < uint32_t(format::kLanes); ++i) lanes.push_back(i);
  std::vector<int16_t> chosen(size * paths + 2);
  Found found{std::vector<int32_t>(size), std::vector<float>(size)};
  by(core::FeedbackJob{r.targets.data(), r.columns, r.stride, r.feedback.data(), r.weight.data(), r.costs.data(), r.column_class.data(), ways.data(), lanes.data(), path.data(),
                       history.data(), decided.data(), decisions.data(), chosen.data(), found.values.data()});
  if (size > 0) std::memcpy(found.errors.data(), decided.data(), 4 * size);
  return found;
}

struct Alone {  // each integer for itself
  static constexpr int kStates = 1;
  static uint32_t next(uint32_t, uint32_t) { return 0; }
};

struct Path {
  float length = 1e30f;
  std::vector<float> errors;
  std::vector<int32_t> values;
};

// One row, with all paths as they are.
template <class Machine>
Path whole_paths(const Rows& r, int lane) {
  std::vector<Path> paths(Machine::kStates);
  paths[0].length = 0;
  for (int64_t j = 0; j < r.columns; ++j) {
    if (j % core::kFeedbackBlock == 0) {
      float least = paths[0].length;
      for (const Path& p : paths) least = std::min(least, p.length);
      for (Path& p : paths) p.length -= least;
    }
    std::vector<Path> next(Machine::kStates);
    std::vector<bool> reached(Machine::kStates, false);
    for (uint32_t s = 0; s < uint32_t(Machine::kStates); ++s) {
      float sum = 0;
      for (int64_t i = 0; i < j; ++i) sum += (paths[s].errors.empty() ? 0.0f : paths[s].errors[size_t(i)]) * r.feedback[size_t(i * r.stride + j)];
      const float t = r.targets[size_t(j * format::kLanes + lane)] - sum;
      for (uint32_t parity = 0; parity < (Machine::kStates == 1 ? 1u : 2u); ++parity) {
        const int32_t apart = Machine::kStates == 1 ? 1 : 4, residue = Machine::kStates == 1 ? 0 : int32_t(2 * parity + (s & 1));
        const int32_t low = apart * int32_t(std::floor((t - float(residue)) / float(apart))) + residue;
        auto cost = [&](int32_t v, float error) {
          return error * error * r.weight[size_t(j)] + float(r.costs[size_t(r.column_class[size_t(j)]) * kColumnCosts + size_t(core::trellis_place(v))]);
        };
        const float below = t - float(low), over = below - float(apart);
        const bool above = cost(low + apart, over) < cost(low, below);
        const float length = paths[s].length + std::min(cost(low, below), cost(low + apart, over));
        const uint32_t n = Machine::next(s, parity);
        if (reached[n] && !(length < next[n].length)) continue;
        reached[n] = true;
        next[n] = paths[s];
        if (next[n].errors.empty()) next[n].errors.assign(size_t(j), 0.0f), next[n].values.assign(size_t(j), 0);
        next[n].length = length;
        next[n].errors.push_back(above ? over : below);
        next[n].values.push_back(above ? low + apart : low);
      }
    }
    paths = std::move(next);
  }
  Path best = paths[0];
  for (const Path& p : paths)
    if (p.length < best.length) best = p;
  return best;
}

template <class Machine>
void check(void (*core::TrellisCoder::*by)(const core::FeedbackJob&), unsigned seed) {
  std::mt19937 rng(seed);
  for (int trial = 0; trial < 12; ++trial) {  // too few columns for anything to be decided early
    const Rows r = make_rows(rng, 1 + rng() % (core::kFeedbackWindow - core::kFeedbackBlock), 1 + trial % 3, trial % 4 == 0 ? 200 : 3, trial % 3 == 0 ? 0 : 0.7);
    const Found found = search(cpu::kScalar.trellises.*by, Machine::kStates, r);
    for (int lane = 0; lane < format::kLanes; ++lane) {
      const Path path = whole_paths<Machine>(r, lane);
      for (int64_t j = 0; j < r.columns; ++j) {
        ASSERT_EQ(path.values[size_t(j)], found.values[size_t(j * format::kLanes + lane)]) << "trial " << trial << " lane " << lane << " column " << j << " of " << r.columns;
        ASSERT_EQ(path.errors[size_t(j)], found.errors[size_t(j * format::kLanes + lane)]);
      }
    }
  }
  for (const int64_t columns : {0, 1, 7, 64, 65, 700}) {
    const Rows r = make_rows(rng, columns, 2, 4, 0.9);
    const Found expected = search(cpu::kScalar.trellises.*by, Machine::kStates, r);
    for (const cpu::Backend* backend : cpu::available_backends()) ASSERT_EQ(search(backend->trellises.*by, Machine::kStates, r), expected) << backend->name << ", " << columns << " columns";
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
  check<Alone>(&core::TrellisCoder::feedback1, 1);
  check<core::Trellis4>(&core::TrellisCoder::feedback4, 2);
  check<core::Trellis8>(&core::TrellisCoder::feedback8, 3);
  check<core::Trellis32>(&core::TrellisCoder::feedback32, 4);
}

template <class Machine>
void by_warp(const core::FeedbackJob& job) {
  testing::EmulatedWarp::run([&] { core::ANS_TARGET::search_with_feedback<core::ANS_TARGET::VectorWarp<testing::EmulatedWarp>, Machine>(job); }, 1);
}

TEST(Feedback, AWarpFindsTheSame) {
  std::mt19937 rng(5);
  for (const int64_t columns : {1, 70, 130}) {
    const Rows r = make_rows(rng, columns, 2, 4, 0.9);
    ASSERT_EQ(search(by_warp<core::ANS_TARGET::NoTrellis>, 1, r), search(cpu::kScalar.trellises.feedback1, 1, r));
    ASSERT_EQ(search(by_warp<core::Trellis8>, 8, r), search(cpu::kScalar.trellises.feedback8, 8, r));
  }
}

}  // namespace
}  // namespace ans
