// Tables, prefixes and directories of tensors on a GPU: the work is the host's, which knows these few bytes better (torch/table_ops.h).
#include "torch/module.h"  // first: Python.h wants to precede the standard headers

#include "torch/cuda_support.h"
#include "torch/table_ops.h"

namespace ans::ops {
namespace {

class DeviceMemory {
 public:
  explicit DeviceMemory(const Tensor& tensor) : here_(tensor) {}
  std::vector<uint8_t> read(const char* op, const Tensor& tensor) const { return fetch_now(op, tensor, here_.stream); }
  void write(const char* op, Tensor& tensor, const void* source, size_t bytes) const {
    if (bytes > 0) check_cuda(op, cudaMemcpyAsync(tensor.mutable_data_ptr(), source, bytes, cudaMemcpyHostToDevice, here_.stream));  // pageable: has been read when it returns
  }

 private:
  OnDevice here_;
};

}  // namespace
}  // namespace ans::ops

ANS_CUDA_KERNELS(m) { ans::ops::TableOps<ans::ops::DeviceMemory>::register_in(m); }
