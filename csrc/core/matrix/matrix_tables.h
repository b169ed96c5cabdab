// Everything that the rows of a matrix chunk look up, derived from a MatrixModel.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/coder_tables.h"
#include "core/matrix/matrix_model.h"

namespace ans::core {

// Averages of residuals start from 2^14, which stands for what the column's scale predicts.
constexpr int kAverageBits = 14;
constexpr int32_t kMaxAverage = 8 << kAverageBits, kMinAverage = 1 << 6;

// Coefficients of so many columns, for the same two columns before them: the even one's in the low 16 bits. Those of columns that there are not are 0.
constexpr int kCoefficientGroup = 8;
struct alignas(16) CoefficientGroup {
  uint32_t of[kCoefficientGroup];
};

// Of one part, as plain addresses, for the host or a GPU.
struct MatrixRows {
  int64_t columns;
  uint32_t odd, parity;       // the machine's (TrellisMachine); 0: there is none
  bool limited;               // symbols count as the nearest that can be predicted
  int32_t lowest, highest;  // predictions, in eighths
  // Scales.
  const int32_t* scale;     // [columns]: sixteenths of an octave above class 0's beginning
  const uint32_t* inverse;  // [columns]: a residual of r eighths is inverse * |r| >> 3 as an average counts
  int rate[2], weight[2];   // weight 0: unused; rate 0: held
  int class_shift, classes, phases;
  // Prediction. Coefficients of a column of a block come in pairs, from the first column of the block on.
  int64_t period;           // 0: none
  int64_t pairs;            // of a column: period / 2, rounded up
  int64_t window;
  int shift;
  const CoefficientGroup* coefficients;  // [period / kCoefficientGroup, rounded up][pairs]
  const int32_t* mean;           // [columns] or null
};

struct ContextSlots {  // as plain addresses
  const uint8_t* divider;
  const uint32_t* step;
  int bucket_bits;
};

// How a context's symbols are coded: contexts are class * phases + phase.
struct ContextDecodeTables {
  std::vector<uint8_t> divider;  // [contexts][buckets]
  std::vector<uint32_t> step;    // [contexts][2 * buckets]: freq << 20 | bias of position 0 << 8 | residual + 128; 0 instead of a residual: escaped. As DecodeTable's
  int buckets = 64;

  ContextSlots slots() const;
};

// [contexts] tables, and what index a residual has in each.
struct ContextEncodeTables {
  std::unique_ptr<EncodeTable[]> table;
  std::vector<uint8_t> index_of;  // [contexts][256], by residual + 128; 0 and 255 are escaped
  int contexts = 0;

  // What symbol_entry() says, by context and residual + 128: [contexts][256].
  std::vector<uint32_t> entries() const;
};

constexpr int kResidualBias = 128;

class MatrixTables {
 public:
  MatrixTables(const MatrixModel& model, format::SymbolType type);
  MatrixTables(const MatrixTables&) = delete;
  MatrixTables& operator=(const MatrixTables&) = delete;

  const MatrixRows& rows(int part) const { return parts_[size_t(part)].rows; }
  // Where averages of lines start: [lines] or null.
  const uint32_t* start() const { return start_.empty() ? nullptr : start_.data(); }
  int64_t columns() const { return columns_; }
  int64_t max_pairs() const;

 private:
  struct Part {
    std::vector<int32_t> scale, mean;
    std::vector<uint32_t> inverse;
    std::shared_ptr<const std::vector<CoefficientGroup>> coefficients;
    MatrixRows rows;
  };
  int64_t columns_;
  std::vector<Part> parts_;
  std::vector<uint32_t> start_;
};

FrequencyTable context_table(const MatrixModel& model, int context);
ContextDecodeTables make_context_decode_tables(const MatrixModel& model);
ContextEncodeTables make_context_encode_tables(const MatrixModel& model, format::SymbolType type);

}  // namespace ans::core
