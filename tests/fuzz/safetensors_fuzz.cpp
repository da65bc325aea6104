#include <cstdlib>

#include "memory_file.hpp"
#include "troupe/config/error.hpp"
#include "troupe/models/loading/safetensors.hpp"

using namespace troupe;
using troupe::test::memory_file;

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
