// The coder over plain arrays: runs anywhere.
#define ANS_TARGET target_scalar
#include "cpu/target_macros.h"

#include "core/lane_coder.h"
#include "core/lanes32.h"
#include "core/index_symbols.h"
#include "core/matrix/matrix_chunks.h"
#include "core/quantize_rows.h"
#include "core/trellis/feedback_search.h"
#include "core/trellis/trellis_search.h"
#include "cpu/backends.h"
#include "cpu/vector_plain.h"

namespace ans::cpu {
namespace {
using namespace core::ANS_TARGET;
using L = Lanes32<VectorPlain>;
}  // namespace

const Backend kScalar = {
    "scalar",
    {
        [](int) { return L::kDecodeStreams; },
        [](int) { return L::kEncodeStreams; },
        [](int, int) { return true; },
        decode_rows_any<L>,
        decode_partial_row_any<L>,
        nullptr,
        index_symbols_plain,
        encode_rows_any<L>,
        encode_partial_row<L>,
    },
    {row_statistics, quantize, dequantize},
    {[](const core::MatrixDecodeJob* jobs, int count, core::MatrixBand* const* bands) { return decode_matrix_chunks<VectorPlain>(jobs, count, bands, nullptr); }, find_matrix_places<VectorPlain>, find_matrix_predictions<VectorPlain>, dot_rows<VectorPlain>, find_beyond<VectorPlain>, add_multiple<VectorPlain>, push_matrix_rows<VectorPlain>},
    {find_targets<int32_t>, find_targets<float>, search_trellis<VectorPlain, core::Trellis4>, search_trellis<VectorPlain, core::Trellis8>, search_trellis<VectorPlain, core::Trellis32>,
     feedback_searches<VectorPlain>()},
};

}  // namespace ans::cpu
