#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "troupe/config/error.hpp"
#include "troupe/models/loading/safetensors.hpp"

namespace troupe::test {

/// A file that lives in memory only.
class memory_file {
public:
  memory_file(const uint8_t* data, size_t size) : fd_(::memfd_create("fuzzed", 0)) {
    if (fd_ < 0 || ::write(fd_, data, size) != static_cast<ssize_t>(size))
      std::abort();
  }
  ~memory_file() { ::close(fd_); }
  memory_file(const memory_file&) = delete;
  memory_file& operator=(const memory_file&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

private:
  int fd_;
};

/// What is accepted lies within the file, byte for byte; everything else is refused in words.
/// @returns the bytes of all tensors.
inline size_t check_tensors(const caf::expected<models::tensor_map>& tensors, size_t size) {
  if (!tensors) {
    if (code_of(tensors.error()) != ec::bad_model || text_of(tensors.error()).empty())
      std::abort();
    return 0;
  }
  size_t bytes = 0;
  unsigned sum = 0;
  for (const auto& [name, tensor] : *tensors) {
    uint64_t elements = 1;
    for (auto n : tensor.shape)
      if (__builtin_mul_overflow(elements, n, &elements))
        std::abort();
    if (elements * models::size_of(tensor.type) != tensor.bytes || tensor.offset > size ||
        tensor.bytes > size - tensor.offset)
      std::abort();
    for (size_t i = 0; i < tensor.bytes; ++i)
      sum += static_cast<unsigned>(tensor.data()[i]);
    bytes += tensor.bytes;
    if (models::describe(tensor).empty())
      std::abort();
  }
  volatile unsigned read = sum; // Every byte is there to be read.
  (void)read;
  return bytes;
}

} // namespace troupe::test
