// Viterbi's search against every path, and every backend against every other.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/trellis/trellis.h"
#include "cpu/backends.h"

namespace ans {
namespace {

using core::kColumnCosts;
using core::kReach;
using core::kTargetOne;

struct Rows {
  int64_t columns;
  std::vector<int32_t> targets;  // [columns][32]
  std::vector<uint32_t> costs;   // [classes][kColumnCosts]
  std::vector<uint8_t> column_class;
};

Rows make_rows(std::mt19937& rng, int64_t columns, int classes, double spread) {
  Rows r{columns, {}, {}, {}};
  std::normal_distribution<double> bell(0, spread);
  for (int64_t i = 0; i < columns * format::kLanes; ++i) r.targets.push_back(int32_t(std::lround(bell(rng) * kTargetOne)));
  for (int i = 0; i < classes * kColumnCosts; ++i) r.costs.push_back(rng() % (4 * kTargetOne * kTargetOne));
  for (int64_t j = 0; j < columns; ++j) r.column_class.push_back(uint8_t(rng() % unsigned(classes)));
  return r;
}

std::vector<int32_t> search(void (*by)(const core::TrellisJob&), int states, const Rows& r) {
  const auto ways = core::trellis_ways(states);
  std::vector<uint32_t> decisions(r.targets.size()), points(r.targets.size());
  std::vector<int32_t> values(r.targets.size());
  by({r.targets.data(), r.columns, r.costs.data(), r.column_class.data(), ways.data(), decisions.data(), points.data(), values.data()});
  return values;
}

// Distance squared and cost of integer v in a column.
int64_t cost_of(const Rows& r, int64_t j, int lane, int32_t v) {
  const int64_t distance = int64_t(v) * kTargetOne - r.targets[size_t(j * format::kLanes + lane)];
  const int32_t residue = v & 3, m = (v - residue) / 4;
  const int32_t place = std::max(0, std::min(2 * kReach - 1, m + kReach));
  return distance * distance + r.costs[size_t(r.column_class[size_t(j)]) * kColumnCosts + size_t(residue * 2 * kReach + place)];
}

template <class Machine>
int64_t path_cost(const Rows& r, int lane, const std::vector<int32_t>& values) {
  uint32_t state = 0;
  int64_t sum = 0;
  for (int64_t j = 0; j < r.columns; ++j) {
    const int32_t v = values[size_t(j * format::kLanes + lane)], k = v >> 1;
    EXPECT_EQ(v, 2 * k + int32_t(state & 1));  // what the state allows
    sum += cost_of(r, j, lane, v);
    state = Machine::next(state, uint32_t(k) & 1);
  }
  return sum;
}

// The least cost of all paths, where each step takes one of the two nearest integers of its residue.
template <class Machine>
int64_t least_cost(const Rows& r, int lane, int64_t j, uint32_t state) {
  if (j == r.columns) return 0;
  int64_t least = INT64_MAX;
  for (uint32_t parity = 0; parity < 2; ++parity) {
    const int32_t residue = int32_t(2 * parity + (state & 1)), target = r.targets[size_t(j * format::kLanes + lane)];
    const int32_t low = 4 * ((target - residue * kTargetOne) >> (core::kTargetBits + 2)) + residue;
    const int64_t step = std::min(cost_of(r, j, lane, low), cost_of(r, j, lane, low + 4));
    least = std::min(least, step + least_cost<Machine>(r, lane, j + 1, Machine::next(state, parity)));
  }
  return least;
}

template <class Machine>
void check(void (*core::TrellisCoder::*by)(const core::TrellisJob&), unsigned seed) {
  std::mt19937 rng(seed);
  for (int trial = 0; trial < 12; ++trial) {
    const Rows r = make_rows(rng, 1 + rng() % 9, 1 + trial % 3, trial % 4 == 0 ? 200 : 3);
    const std::vector<int32_t> symbols = search(cpu::kScalar.trellises.*by, Machine::kStates, r);
    for (int lane = 0; lane < format::kLanes; ++lane) ASSERT_EQ(path_cost<Machine>(r, lane, symbols), least_cost<Machine>(r, lane, 0, 0)) << "trial " << trial << " lane " << lane;
  }
  for (const int64_t columns : {0, 1, 255, 256, 257, 1000}) {
    const Rows r = make_rows(rng, columns, 2, 4);
    const std::vector<int32_t> expected = search(cpu::kScalar.trellises.*by, Machine::kStates, r);
    for (const cpu::Backend* backend : cpu::available_backends()) ASSERT_EQ(search(backend->trellises.*by, Machine::kStates, r), expected) << backend->name << ", " << columns << " columns";
  }
}

TEST(Trellis, FindsTheBestPathOnEveryBackend) {
  check<core::Trellis4>(&core::TrellisCoder::search4, 1);
  check<core::Trellis8>(&core::TrellisCoder::search8, 2);
  check<core::Trellis32>(&core::TrellisCoder::search32, 3);
}

TEST(Trellis, EveryStateIsReachedTwice) {
  for (uint32_t n = 0; n < 32; ++n) {
    int ways = 0;
    for (uint32_t s = 0; s < 32; ++s)
      for (uint32_t parity = 0; parity < 2; ++parity) ways += core::Trellis32::next(s, parity) == n;
    EXPECT_EQ(ways, 2) << n;
  }
}

}  // namespace
}  // namespace ans
