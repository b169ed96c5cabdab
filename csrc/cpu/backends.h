// The compiled backends and the choice among them.
#pragma once
#include <string>
#include <vector>

#include "core/matrix/matrix_coder.h"
#include "core/quantize_kernels.h"
#include "core/row_coder.h"
#include "core/trellis/trellis_coder.h"

namespace ans::cpu {

struct Backend {
  const char* name;
  core::RowCoder coder;
  core::QuantizeKernels quantizer;
  core::MatrixCoder matrices;
  core::TrellisCoder trellises;
};
extern const Backend kScalar, kAvx2, kAvx512;

// Backends that this machine can run, the best first.
const std::vector<const Backend*>& available_backends();

// The backend in use: the best, unless the environment variable TORCH_ANS_BACKEND (scalar, avx2, avx512) or select_backend() says otherwise.
const Backend& backend();

// Uses the named backend from now on ("": the best again). False if this machine can not run it.
bool select_backend(const std::string& name);

}  // namespace ans::cpu
