#pragma once

#include <cstddef>
#include <utility>

#include "troupe/models/cuda/check.hpp"

/// Owners of what the CUDA runtime hands out. The device that was current when something was made
/// owns it; freeing works with any device current and never throws.
namespace troupe::models::cuda {

/// Memory of the current device.
class device_buffer {
public:
  device_buffer() = default;
  /// Errors: throws device_failure, ec::out_of_memory.
  explicit device_buffer(size_t bytes);
  ~device_buffer();
  device_buffer(device_buffer&& other) noexcept { swap(other); }
  device_buffer& operator=(device_buffer&& other) noexcept {
    device_buffer{std::move(other)}.swap(*this);
    return *this;
  }

  template <class T = std::byte>
  T* as(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(data_) + byte_offset);
  }
  void* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return data_ == nullptr; }

private:
  void swap(device_buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  void* data_ = nullptr;
  size_t size_ = 0;
};

/// A buffer of zeros, which are there when this returns. Not while a stream is being recorded.
device_buffer zeroed_buffer(size_t bytes);

/// Host memory that the device reads and writes directly; only grows.
class pinned_buffer {
public:
  pinned_buffer() = default;
  ~pinned_buffer();
  pinned_buffer(pinned_buffer&& other) noexcept { swap(other); }
  pinned_buffer& operator=(pinned_buffer&& other) noexcept {
    pinned_buffer{std::move(other)}.swap(*this);
    return *this;
  }

  /// At least so many bytes; the content is lost when it grows. Errors: throws device_failure.
  std::byte* reserve(size_t bytes);
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

private:
  void swap(pinned_buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A stream that does not wait for the default one.
class stream {
public:
  stream() {
    check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "creating a stream");
  }
  ~stream() { cudaStreamDestroy(handle_); }
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;
  cudaStream_t get() const { return handle_; }

private:
  cudaStream_t handle_ = nullptr;
};

/// A place in a stream. Waiting for it sleeps rather than spins.
class event {
public:
  /// @param timed It can tell when the stream came by.
  explicit event(bool timed = false) {
    check(cudaEventCreateWithFlags(&handle_, cudaEventBlockingSync |
                                                 (timed ? 0u : unsigned{cudaEventDisableTiming})),
          "creating an event");
  }
  ~event() { cudaEventDestroy(handle_); }
  event(const event&) = delete;
  event& operator=(const event&) = delete;
  void record(cudaStream_t on) { check(cudaEventRecord(handle_, on), "recording an event"); }
  cudaEvent_t get() const { return handle_; }

private:
  cudaEvent_t handle_ = nullptr;
};

} // namespace troupe::models::cuda
