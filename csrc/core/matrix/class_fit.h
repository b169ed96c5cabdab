// Which classes and tables suit the residuals that a model leaves (BITSTREAM.md, section 7.4).
#pragma once
#include <cstdint>
#include <vector>

#include "core/matrix/matrix_model.h"

namespace ans::core {

// Code lengths are in 1 / 2^kCostBits bits.
constexpr int kCostBits = 16;

// How often each place (context << 8 | residual + 128, see matrix_coder.h) occurs.
using PlaceCounts = std::vector<uint64_t>;

// Sets the model's classes: from counts under a model with the same class_shift, class_origin and number of classes (whose shapes do not matter), first and last classes that
// hardly occur are joined with their neighbours, and each gets the offset and shape that make the least bits. `buckets` too. Returns the bits of all symbols, escapes' raw
// values included.
uint64_t fit_classes(const PlaceCounts& counts, MatrixModel* model);

// Scale and shape of the class whose tables take least for so many residuals of each phase, [kPhases][256] by residual + 128. Looks around log_scale, which is changed; raw_bits: of an escape.
int fit_class_shape(const uint64_t* counts, int buckets, int raw_bits, int* log_scale);

}  // namespace ans::core
