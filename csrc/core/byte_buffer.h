// Memory that grows without being initialised.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "core/huge_pages.h"

namespace ans::core {

class ByteBuffer {
 public:
  ByteBuffer() = default;
  ~ByteBuffer() { std::free(data_); }
  ByteBuffer(ByteBuffer&& other) noexcept : data_(other.data_), size_(other.size_), capacity_(other.capacity_) {
    other.data_ = nullptr;
    other.size_ = other.capacity_ = 0;
  }
  ByteBuffer(const ByteBuffer&) = delete;
  ByteBuffer& operator=(const ByteBuffer&) = delete;
  ByteBuffer& operator=(ByteBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }

  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  int64_t capacity() const { return capacity_; }
  void clear() { size_ = 0; }  // keeps the memory

  void reserve(int64_t bytes) {
    if (bytes <= capacity_) return;
    void* p = std::realloc(data_, size_t(bytes));
    if (p == nullptr) throw std::bad_alloc();
    data_ = static_cast<uint8_t*>(p);
    advise_huge_pages(data_ + size_, bytes - size_);
    capacity_ = bytes;
  }
  void append(const void* bytes, int64_t n) {
    if (n == 0) return;
    if (size_ + n > capacity_) reserve(size_ + n + size_ / 2);
    std::memcpy(data_ + size_, bytes, size_t(n));
    size_ += n;
  }

 private:
  uint8_t* data_ = nullptr;
  int64_t size_ = 0, capacity_ = 0;
};

}  // namespace ans::core
