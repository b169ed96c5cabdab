// What a compiled backend offers for trellis-coded quantization.
#pragma once
#include <cstdint>

#include "core/float_formats.h"
#include "core/host_device.h"
#include "core/status.h"

namespace ans::core {

// Targets and integers are in 1 / 2^kTargetBits; costs in their squares.
constexpr int kTargetBits = 6;
constexpr int32_t kTargetOne = 1 << kTargetBits;
// Integers v = 4 * m + residue: what the symbol costs is looked up for -kReach <= m < kReach, those further away cost what the last does.
constexpr int kReach = 64, kResidues = 4;
// Costs of all symbols of a column: [kResidues][2 * kReach].
constexpr int kColumnCosts = kResidues * 2 * kReach;
// Where v stands among these.
ANS_HD int trellis_place(int32_t v) {
  const int32_t m = v >> 2, within = m < -kReach ? -kReach : m >= kReach ? kReach - 1 : m;
  return (v & 3) * 2 * kReach + within + kReach;
}
// Of a target's and of a symbol's cost, that a path of 2^8 columns fits in 32 bits.
constexpr uint32_t kMaxSymbolCost = 1u << 22;

// 32 rows.
struct TrellisJob {
  const int32_t* targets;       // [columns][32]
  int64_t columns;
  const uint32_t* costs;        // [classes][kColumnCosts]
  const uint8_t* column_class;  // [columns] or null: all are 0
  const uint32_t* ways;         // [states][2]: trellis_ways()
  uint32_t* decisions;          // scratch, [columns][32]
  uint32_t* points;             // scratch, [columns][32]
  int32_t* values;              // [columns][32]: the integers
};

// Columns whose targets are found at once, and the most that are not decided (see feedback_search.h).
constexpr int kFeedbackBlock = 8, kFeedbackWindow = 64;

// Paths that every state may have.
constexpr int kMaxSurvivors = 4;

// Memory of a search with feedback for 32 rows, cut out of one piece.
struct FeedbackScratch {
  static ANS_HD int64_t paths_of(int states, int survivors) { return int64_t(states == 0 ? 1 : states) * survivors; }
  static ANS_HD int64_t bytes(int64_t columns, int states, int survivors) {
    return 4 * 32 * (3 * columns + paths_of(states, survivors) * (columns + 1 + kFeedbackWindow + kFeedbackBlock + 2 + 2 * kFeedbackBlock));
  }
  ANS_HD FeedbackScratch(uint8_t* memory, int64_t columns, int states, int survivors) {
    const int64_t number = paths_of(states, survivors), row = 32;
    uint32_t* next = reinterpret_cast<uint32_t*>(memory);
    auto take = [&](int64_t rows) {
      uint32_t* const taken = next;
      next += row * rows;
      return taken;
    };
    targets = reinterpret_cast<float*>(take(columns));
    values = reinterpret_cast<int32_t*>(take(columns));
    decided = take(columns);
    chosen = take(number * columns);
    paths = take(number);
    history = take(number * kFeedbackWindow);
    sums = take(number * kFeedbackBlock);
    origin = take(number * 2);
    recent = take(number * 2 * kFeedbackBlock);
  }
  float* targets;     // [columns][32], at most kMaxTrellisValue: what is to be quantized
  int32_t* values;    // [columns][32]: the integers
  uint32_t* decided;  // [columns][32]; in the end what each column errs, as float
  // Of the search alone (see feedback_search.h).
  uint32_t* chosen;   // [columns][paths][32]
  uint32_t* paths;    // [paths][32]
  uint32_t* history;  // [kFeedbackWindow][paths][32]
  uint32_t* sums;     // [kFeedbackBlock][paths][32]
  uint32_t* origin;   // [2][paths][32]
  uint32_t* recent;   // [2][kFeedbackBlock][paths][32]
};

// 32 rows whose errors are made up for. Targets and integers are in steps.
struct FeedbackJob {
  const FeedbackScratch& memory;
  int survivors;
  int64_t columns, stride;      // stride: columns, rounded up to whole blocks
  const float* feedback;        // [columns][stride]: how much of what column i errs is subtracted from the target of column j > i
  const float* weight;          // [columns]: what a squared error counts
  const uint32_t* costs;        // [classes][kColumnCosts], as weighted squared errors
  const uint8_t* column_class;  // [columns] or null: all are 0
  const uint32_t* ways;         // [states][2]: trellis_ways()
  const uint32_t* lane_numbers; // [32]: 0 … 31
};

// By the states of the machine: none, 4, 8, 32; with one path for every state, or several.
struct FeedbackSearches {
  using Search = void (*)(const FeedbackJob& job);
  Search one[4], several[4];
  Search of(int states, int survivors) const { return (survivors == 1 ? one : several)[states == 0 ? 0 : states == 4 ? 1 : states == 8 ? 2 : 3]; }
};

struct TrellisCoder {
  // Targets of a row (see trellis_target.h), every 32nd number from `targets` on. column_step: [columns] or null. kNotFinite, or kSymbolOutOfRange for what is too many steps large.
  Status (*find_targets)(const void* weights, FloatType type, float row_step, const float* column_step, int64_t columns, int32_t* targets);
  // The same as float, in steps.
  Status (*find_float_targets)(const void* weights, FloatType type, float row_step, const float* column_step, int64_t columns, float* targets);
  // The integers of least distance squared + cost.
  // By the machine that `ways` are of.
  void (*search4)(const TrellisJob& job);
  void (*search8)(const TrellisJob& job);
  void (*search32)(const TrellisJob& job);
  // Those of least weighted error squared + cost, where errors are made up for.
  FeedbackSearches feedback;
};

}  // namespace ans::core
