// How kernels say what is wrong with their data. Included behind cuda/device.cuh.
#pragma once
#include <cstdint>

#include "core/status.h"

namespace ans::cuda {

// The first error of a job stays.
ANS_INLINE void report(uint32_t* status, int job, core::Status s) {
  if (s != core::Status::kOk) set_if_zero(&status[job], uint32_t(s));
}

}  // namespace ans::cuda
