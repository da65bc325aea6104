#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#include "troupe/config/error.hpp"
#include "troupe/models/loading/safetensors.hpp"

using namespace troupe;

namespace {

/// A file that lives in memory only.
class memory_file {
public:
  memory_file(const uint8_t* data, size_t size) : fd_(::memfd_create("fuzzed.safetensors", 0)) {
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

} // namespace

/// What is accepted lies within the file, byte for byte; everything else is refused in words.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  memory_file file{data, size};
  auto tensors = models::read_safetensors(file.path());
  if (!tensors) {
    if (code_of(tensors.error()) != ec::bad_model || text_of(tensors.error()).empty())
      std::abort();
    return 0;
  }
  size_t bytes = 0;
  for (const auto& [name, tensor] : *tensors) {
    uint64_t elements = 1;
    for (auto n : tensor.shape)
      if (__builtin_mul_overflow(elements, n, &elements))
        std::abort();
    if (elements * models::size_of(tensor.type) != tensor.bytes || tensor.offset > size ||
        tensor.bytes > size - tensor.offset)
      std::abort();
    for (size_t i = 0; i < tensor.bytes; ++i)
      bytes += static_cast<size_t>(tensor.data()[i]) & 1;
    if (models::describe(tensor).empty())
      std::abort();
  }
  return bytes > size ? std::abort(), 0 : 0;
}
