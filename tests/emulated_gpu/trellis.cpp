#include "cuda/trellis.cu"  // compiled as C++: cuda/device.cuh is the one of this folder
