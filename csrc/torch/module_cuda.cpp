// The module of the CUDA kernels.
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include <cuda_runtime_api.h>

namespace {

// The CUDA runtime is linked statically, so this library needs a driver at least as new as the toolkit that built it. Without
// any driver it loads (and is of no use); with one that is too old, every later call would fail with an obscure message.
bool driver_is_new_enough() {
  int driver = 0;
  int runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || cudaRuntimeGetVersion(&runtime) != cudaSuccess) return true;
  if (driver == 0 || driver / 1000 >= runtime / 1000) return true;
  PyErr_Format(PyExc_ImportError,
               "torch_ans._C_cuda was built with CUDA %d.%d, but this NVIDIA driver supports CUDA %d.%d only. Install a newer "
               "driver (CUDA 13 needs R580 or later); the CPU operators work without it.",
               runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
  return false;
}

}  // namespace

ANS_PYTHON_MODULE_CHECKED(_C_cuda, driver_is_new_enough)
