// The coder over AVX2: tables of 4096 slots and gathers.
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
#include "core/quantize_rows.h"
#include "cpu/vector_avx2.h"

namespace ans::cpu {
namespace {
using namespace core::ANS_TARGET;
using L = Lanes32<VectorAvx2>;
}  // namespace

const Backend kAvx2 = {
    "avx2",
    {
        [](int) { return L::kDecodeStreams; },
        [](int) { return L::kEncodeStreams; },
        [](int) { return true; },
        decode_rows_any<L>,
        decode_partial_row_any<L>,
        nullptr,
        index_symbols_plain,
        encode_rows_any<L>,
        encode_partial_row<L>,
    },
    {row_statistics, quantize, dequantize},
};

}  // namespace ans::cpu
#endif
