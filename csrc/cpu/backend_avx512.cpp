// The coder over AVX-512: decoding and small alphabets' encoding on 16-bit halves with tables in registers; encoding of larger alphabets on 32-bit states.
#define ANS_TARGET target_avx512
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
// g++ 12 takes the undefined operands inside its own intrinsics for ours (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
// Never closed: templates and lambdas are instantiated at the end of the unit.
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512vnni,avx2,bmi,bmi2,fma,popcnt,lzcnt")
#include "core/lane_coder.h"
#include "core/lanes32.h"
#include "core/index_symbols.h"
#include "core/matrix/matrix_chunks.h"
#include "core/quantize_rows.h"
#include "core/trellis/feedback_search.h"
#include "core/trellis/trellis_search.h"
#include "cpu/vector_avx512.h"
#include "cpu/lanes16_avx512.h"
#include "cpu/steady_avx512.h"

namespace ans::cpu {
namespace {
using namespace core;
using namespace core::ANS_TARGET;
using Wide = Lanes32<VectorAvx512>;

int decode_streams(int buckets) { return buckets == 64 ? Lanes16<64>::kDecodeStreams : Lanes16<128>::kDecodeStreams; }
int encode_streams(int buckets) { return buckets == 64 ? Lanes16<64>::kEncodeStreams : Wide::kEncodeStreams; }

void decode_rows_by_buckets(DecodeStream* streams, int count, int64_t rows) {
  const int buckets = streams[0].table->buckets;
  if (buckets == 64) decode_rows_any<Lanes16<64>>(streams, count, rows);
  else if (buckets == 128) decode_rows_any<Lanes16<128>>(streams, count, rows);
  else decode_rows_any<Lanes16<256>>(streams, count, rows);
}
void decode_partial_by_buckets(DecodeStream* stream, int active) {
  const int buckets = stream->table->buckets;
  if (buckets == 64) decode_partial_row_any<Lanes16<64>>(stream, active);
  else if (buckets == 128) decode_partial_row_any<Lanes16<128>>(stream, active);
  else decode_partial_row_any<Lanes16<256>>(stream, active);
}
IndexResult index_by_buckets(const EncodeTable& t, const void* symbols, int64_t n, uint8_t* index, uint16_t* raw, uint16_t* cost) {
  if (t.symbol_bytes != 1) return index_symbols_plain(t, symbols, n, index, raw, cost);
  const uint8_t* bytes = static_cast<const uint8_t*>(symbols);
  if (t.buckets == 64) return index_bytes<64>(t, bytes, n, index, raw, cost);
  if (t.buckets == 128) return index_bytes<128>(t, bytes, n, index, raw, cost);
  return index_bytes<256>(t, bytes, n, index, raw, cost);
}
void encode_rows_by_buckets(const EncodeTable& t, EncodeStream* streams, int count, int64_t rows) {
  if (t.buckets == 64) encode_rows_any<Lanes16<64>>(t, streams, count, rows);
  else encode_rows_any<Wide>(t, streams, count, rows);
}
void encode_partial_by_buckets(const EncodeTable& t, EncodeStream* stream, int active) {
  if (t.buckets == 64) encode_partial_row<Lanes16<64>>(t, stream, active);
  else encode_partial_row<Wide>(t, stream, active);
}
}  // namespace

const Backend kAvx512 = {
    "avx512",
    {
        decode_streams,
        encode_streams,
        [](int, int) { return false; },
        decode_rows_by_buckets,
        decode_partial_by_buckets,
        decode_weight_rows_any<Lanes16<64>>,
        index_by_buckets,
        encode_rows_by_buckets,
        encode_partial_by_buckets,
    },
    {row_statistics, quantize, dequantize},
    {[](const MatrixDecodeJob* jobs, int count, MatrixBand* const* bands) { return decode_matrix_chunks<VectorAvx512>(jobs, count, bands, decode_steady_rows); }, find_matrix_places<VectorAvx512>, find_matrix_predictions<VectorAvx512>, dot_rows<VectorAvx512>, find_beyond<VectorAvx512>, add_multiple<VectorAvx512>, push_matrix_rows<VectorAvx512>},
    {find_targets<int32_t>, find_targets<float>, search_trellis<VectorAvx512, core::Trellis4>, search_trellis<VectorAvx512, core::Trellis8>, search_trellis<VectorAvx512, core::Trellis32>,
     feedback_searches<VectorAvx512>()},
};

}  // namespace ans::cpu
#endif
