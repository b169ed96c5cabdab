// Matrix streams decoded on a GPU.
#pragma once
#include <vector>

#include "torch/cuda_support.h"
#include "torch/matrix_stream.h"

namespace ans::ops {

// Decodes all of them to where `like` is, and waits; sources[i].out is there, a stream may be on the host.
void decode_matrices(const char* op, const std::vector<MatrixSource>& sources, const Tensor& like, cudaStream_t stream);

}  // namespace ans::ops
