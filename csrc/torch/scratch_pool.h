// Scratch memory that outlives a call: without it, much of a small tensor's time would go to paging memory in.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/chunk_encoder.h"

namespace ans::ops {

// Any number of threads take and give back; what is beyond the limit is freed.
class ScratchPool {
 public:
  std::unique_ptr<core::EncodeScratch> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) return std::make_unique<core::EncodeScratch>();
    std::unique_ptr<core::EncodeScratch> memory = std::move(free_.back());
    free_.pop_back();
    kept_ -= memory->bytes();
    return memory;
  }
  void give_back(std::unique_ptr<core::EncodeScratch> memory) {
    const int64_t bytes = memory->bytes();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (kept_ + bytes > kLimit) return;
    kept_ += bytes;
    free_.push_back(std::move(memory));
  }
  static ScratchPool& instance() {
    static ScratchPool* pool = new ScratchPool;  // never destroyed: threads may outlive static objects
    return *pool;
  }

 private:
  static constexpr int64_t kLimit = int64_t{32} << 20;
  std::mutex mutex_;
  std::vector<std::unique_ptr<core::EncodeScratch>> free_;
  int64_t kept_ = 0;
};

}  // namespace ans::ops
