#include <cstdlib>
#include <span>

#include "memory_file.hpp"
#include "troupe/config/error.hpp"
#include "troupe/models/loading/pickle.hpp"
#include "troupe/models/loading/pytorch_file.hpp"

using namespace troupe;
using troupe::test::memory_file;

/// What is accepted lies within the file, byte for byte; everything else is refused in words. The
/// same bytes are read as a bare pickle, which mutations of an archive seldom reach.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto values = models::read_pickle(std::as_bytes(std::span{data, size}));
  if (!values && text_of(values.error()).empty())
    std::abort();
  if (values && !values->root)
    std::abort();
  memory_file file{data, size};
  auto tensors = models::read_pytorch(file.path());
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
    if (tensor.bytes > 0)
      bytes += static_cast<size_t>(tensor.data()[0] ^ tensor.data()[tensor.bytes - 1]) & 1;
  }
  return bytes > tensors->size() ? std::abort(), 0 : 0;
}
