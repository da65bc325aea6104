#include "troupe/models/cuda/memory.hpp"

#include <string>

namespace troupe::models::cuda {

device_buffer::device_buffer(size_t bytes) : size_(bytes) {
  if (bytes == 0)
    return;
  const auto error = cudaMalloc(&data_, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw device_failure{ec::out_of_memory, "the GPU has no " + std::to_string(bytes >> 20) +
                                                " MiB left: lower option.gpu_memory_utilization, "
                                                "the KV cache or the batch, or use more GPUs"};
  }
  check(error, "allocating device memory");
}

device_buffer::~device_buffer() {
  if (data_ != nullptr)
    cudaFree(data_);
}

device_buffer zeroed_buffer(size_t bytes) {
  device_buffer b{bytes};
  if (bytes > 0) {
    check(cudaMemset(b.data(), 0, bytes), "clearing device memory");
    // Our streams do not wait for the default one.
    check(cudaStreamSynchronize(nullptr), "clearing device memory");
  }
  return b;
}

pinned_buffer::~pinned_buffer() {
  if (data_ != nullptr)
    cudaFreeHost(data_);
}

std::byte* pinned_buffer::reserve(size_t bytes) {
  if (bytes <= size_)
    return data_;
  pinned_buffer larger;
  // A small one grows by doubling, so that a slowly growing need does not allocate each time.
  const size_t size = bytes < (1 << 20) ? bytes * 2 : bytes;
  void* data = nullptr;
  check(cudaHostAlloc(&data, size, cudaHostAllocPortable), "allocating pinned host memory");
  larger.data_ = static_cast<std::byte*>(data);
  larger.size_ = size;
  swap(larger);
  return data_;
}

} // namespace troupe::models::cuda
