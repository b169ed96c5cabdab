// What the CUDA kernels of operators share. With ANS_EMULATED_GPU they are built for tests/emulated_gpu: device memory is that of CPU tensors.
#pragma once
#include <cuda_runtime_api.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/status.h"
#include "torch/checks.h"

// Begins a block that registers kernels of operators.
#if defined(ANS_EMULATED_GPU)
#define ANS_CUDA_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(ans_emulated, CPU, m)
#else
#define ANS_CUDA_KERNELS(m) STABLE_TORCH_LIBRARY_IMPL(ans, CUDA, m)
#endif

namespace ans::ops {

inline void check_cuda(const char* op, cudaError_t error) {
  STD_TORCH_CHECK(error == cudaSuccess, "ans::", op, ": CUDA error: ", cudaGetErrorString(error));
}

// The device of a tensor is the current one as long as this lives; `stream` is its current stream.
class OnDevice {
 public:
#if defined(ANS_EMULATED_GPU)
  explicit OnDevice(const Tensor&) {}
#else
  explicit OnDevice(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &current));
    stream = static_cast<cudaStream_t>(current);
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;

 public:
#endif
  cudaStream_t stream = nullptr;
};

inline bool on_gpu(const Tensor& tensor) {
#if defined(ANS_EMULATED_GPU)
  return tensor.is_cpu();
#else
  return tensor.is_cuda();
#endif
}

// Bytes of device memory like a tensor's.
inline Tensor device_bytes(const Tensor& like, int64_t bytes) { return torch::stable::new_empty(like, {bytes}, ScalarType::Byte); }

template <class T>
T* device_pointer(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// Copies what a tensor holds, on either device, to the host; complete after the stream has been waited for.
inline void fetch(const char* op, const Tensor& source, void* to, cudaStream_t stream) {
  const int64_t bytes = source.numel() * source.element_size();
  if (bytes > 0) check_cuda(op, cudaMemcpyAsync(to, source.const_data_ptr(), size_t(bytes), cudaMemcpyDefault, stream));
}
inline std::vector<uint8_t> fetch_now(const char* op, const Tensor& source, cudaStream_t stream) {
  const Tensor contiguous = torch::stable::contiguous(source);
  std::vector<uint8_t> bytes(size_t(contiguous.numel() * contiguous.element_size()));
  fetch(op, contiguous, bytes.data(), stream);
  check_cuda(op, cudaStreamSynchronize(stream));
  return bytes;
}

// Arrays for the device, in one copy.
class Upload {
 public:
  // Where the array will lie: for at().
  template <class T>
  size_t add(const T* values, size_t count) {
    const size_t offset = (bytes_.size() + kAlignment - 1) / kAlignment * kAlignment;
    bytes_.resize(offset + count * sizeof(T));
    if (count > 0) std::memcpy(bytes_.data() + offset, values, count * sizeof(T));
    return offset;
  }
  template <class T>
  size_t add(const std::vector<T>& values) {
    return add(values.data(), values.size());
  }
  // Pageable memory has been read when the call returns.
  void send(const char* op, const Tensor& like, cudaStream_t stream) {
    there_.emplace_back(device_bytes(like, int64_t(bytes_.size())));
    if (!bytes_.empty()) check_cuda(op, cudaMemcpyAsync(there_[0].mutable_data_ptr(), bytes_.data(), bytes_.size(), cudaMemcpyHostToDevice, stream));
  }
  template <class T>
  const T* at(size_t offset) const {
    return reinterpret_cast<const T*>(static_cast<const uint8_t*>(there_[0].const_data_ptr()) + offset);
  }
  const Tensor& tensor() const { return there_[0]; }

 private:
  static constexpr size_t kAlignment = 64;
  std::vector<uint8_t> bytes_;
  std::vector<Tensor> there_;  // one, once sent
};

// The status words of launch.h, one for each of `count` tensors.
class Statuses {
 public:
  Statuses(const Tensor& like, size_t count) : words_(torch::stable::new_zeros(like, {int64_t(count)}, ScalarType::Int)), found_(count) {}
  uint32_t* pointer() { return device_pointer<uint32_t>(words_); }
  const Tensor& tensor() const { return words_; }

  // To be called, the stream waited for, then check().
  void fetch(const char* op, cudaStream_t stream) { ops::fetch(op, words_, found_.data(), stream); }
  core::Status found(size_t i) const { return core::Status(int(found_[i])); }
  void check(const char* op, const char* explanation, const char* what = "tensor") const {
    for (size_t i = 0; i < found_.size(); ++i) check_status(op, found(i), (name_of(what, i, found_.size()) + explanation).c_str());
  }
  // An operator that refuses bad values cannot return earlier.
  void wait(const char* op, cudaStream_t stream) {
    fetch(op, stream);
    check_cuda(op, cudaStreamSynchronize(stream));
  }
  void wait_and_check(const char* op, cudaStream_t stream, const char* explanation, const char* what = "tensor") {
    wait(op, stream);
    check(op, explanation, what);
  }

 private:
  Tensor words_;
  std::vector<uint32_t> found_;
};

}  // namespace ans::ops
