// torch's threads, for work that reports a Status instead of throwing.
#pragma once
#include <torch/csrc/stable/ops.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>
#include <string>

#include "core/huge_pages.h"
#include "core/status.h"
#include "torch/checks.h"

namespace ans::ops {

// Calls work(begin, end) -> Status on ranges that cover [0, n), several at a time. Returns the first failure. Exceptions must not cross
// the C interface of torch's threads: running out of memory is rethrown here.
template <class Work>
core::Status parallel_ranges(int64_t n, int64_t grain, const Work& work) {
  std::atomic<int> failure{int(core::Status::kOk)};
  std::atomic<bool> no_memory{false};
  auto guarded = [&](int64_t begin, int64_t end) {
    try {
      const core::Status status = work(begin, end);
      int none = int(core::Status::kOk);
      if (status != core::Status::kOk) failure.compare_exchange_strong(none, int(status));
    } catch (const std::bad_alloc&) {
      no_memory = true;
    }
  };
  if (n > 0) torch::stable::parallel_for(0, n, grain, guarded);
  if (no_memory) throw std::bad_alloc();
  return core::Status(failure.load());
}

// For a result that may never have been written.
inline void advise_huge_pages(const Tensor& out) { core::advise_huge_pages(out.mutable_data_ptr(), out.numel() * out.element_size()); }

// A result on the host that is about to be filled. What cannot be had is an error of our own: torch's allocator would print a stack.
inline Tensor host_result(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef shape, ScalarType dtype) {
  constexpr int64_t kWorthAsking = int64_t{1} << 28;
  int64_t bytes = dtype == ScalarType::Float ? 4 : dtype == ScalarType::Char || dtype == ScalarType::Byte ? 1 : 2;  // the dtypes of results
  for (int64_t size : shape) bytes = size > 0 && bytes > std::numeric_limits<int64_t>::max() / size ? std::numeric_limits<int64_t>::max() : bytes * size;
  if (bytes >= kWorthAsking) {
    void* memory = bytes == std::numeric_limits<int64_t>::max() ? nullptr : std::malloc(size_t(bytes));
    STD_TORCH_CHECK(memory != nullptr, "ans: [OutOfMemory] there are no ", bytes, " bytes for a result");
    std::free(memory);
  }
  Tensor result = torch::stable::new_empty(like, shape, dtype);
  advise_huge_pages(result);
  return result;
}

}  // namespace ans::ops
