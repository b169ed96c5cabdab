// Counting the symbols of many tensors: for the operators that count, and those that encode.
#pragma once
#include <cstdint>
#include <vector>

#include "torch/cuda_support.h"

namespace ans::ops {

// Queues counting; int64 counts of all tensors (contiguous), those of tensor i from begin[i] on.
Tensor queue_histograms(const char* op, const std::vector<Tensor>& symbols, std::vector<int64_t>* begin, cudaStream_t stream);

}  // namespace ans::ops
