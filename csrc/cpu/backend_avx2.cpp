// The coder over AVX2: small alphabets of bytes are decoded by byte shuffles; everything else by tables of 4096 slots and gathers.
#define ANS_TARGET target_avx2
#include "cpu/target_macros.h"

#include <cstdint>
#include <cstring>

#include "cpu/backends.h"
#include "core/coder_tables.h"
#include "core/quantize_kernels.h"
#include "core/quantize_arithmetic.h"
#include "core/row_coder.h"

#if defined(__x86_64__)
#include <immintrin.h>
// Never closed: templates and lambdas are instantiated at the end of the unit.
#pragma GCC target("avx2,bmi,bmi2,fma,popcnt,lzcnt")
#include "core/lane_coder.h"
#include "core/lanes32.h"
#include "core/index_symbols.h"
#include "core/matrix/matrix_chunks.h"
#include "core/quantize_rows.h"
#include "core/trellis/feedback_search.h"
#include "core/trellis/trellis_search.h"
#include "cpu/vector_avx2.h"
#include "cpu/lanes16_avx2.h"

namespace ans::cpu {
namespace {
using namespace core;
using namespace core::ANS_TARGET;
using L = Lanes32<VectorAvx2>;

bool by_shuffles(int buckets, int symbol_bytes) { return buckets == Lanes16::kBuckets && symbol_bytes == 1; }
bool by_shuffles(const DecodeTable& t) { return by_shuffles(t.buckets, t.symbol_bytes); }

void decode_rows_by_table(DecodeStream* streams, int count, int64_t rows) {
  if (by_shuffles(*streams[0].table)) decode_rows_to<Lanes16, uint8_t>(streams, count, rows);
  else decode_rows_any<L>(streams, count, rows);
}
void decode_partial_by_table(DecodeStream* stream, int active) {
  if (by_shuffles(*stream->table)) decode_partial_row<Lanes16, uint8_t>(stream, active);
  else decode_partial_row_any<L>(stream, active);
}
}  // namespace

const Backend kAvx2 = {
    "avx2",
    {
        [](int buckets) { return buckets == Lanes16::kBuckets ? Lanes16::kDecodeStreams : L::kDecodeStreams; },
        [](int) { return L::kEncodeStreams; },
        [](int buckets, int symbol_bytes) { return !by_shuffles(buckets, symbol_bytes); },
        decode_rows_by_table,
        decode_partial_by_table,
        nullptr,
        index_symbols_plain,
        encode_rows_any<L>,
        encode_partial_row<L>,
    },
    {row_statistics, quantize, dequantize},
    {[](const core::MatrixDecodeJob* jobs, int count, core::MatrixBand* const* bands) { return decode_matrix_chunks<VectorAvx2>(jobs, count, bands, nullptr); }, find_matrix_places<VectorAvx2>, find_matrix_predictions<VectorAvx2>, dot_rows<VectorAvx2>, find_beyond<VectorAvx2>, add_multiple<VectorAvx2>, push_matrix_rows<VectorAvx2>},
    {find_targets<int32_t>, find_targets<float>, search_trellis<VectorAvx2, core::Trellis4>, search_trellis<VectorAvx2, core::Trellis8>, search_trellis<VectorAvx2, core::Trellis32>,
     feedback_searches<VectorAvx2>()},
};

}  // namespace ans::cpu
#endif
